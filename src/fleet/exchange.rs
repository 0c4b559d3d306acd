//! How many leases a second a DHCP server gives: machines that ask for one again and again (`muster-storm --exchanges`).
//!
//! A closed loop: each machine has one message under way, DISCOVER or REQUEST, and begins a new exchange the moment its ACK comes; what is not
//! answered is sent again after a second. More machines offer more load, until the server has no more to give. They ask as PXE ROMs do. Nothing is
//! loaded, no ARP is answered; everything is allocated in [`Exchanges::new`].

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use serde::Serialize;

use super::cause::Cause;
use super::dhcp::{DhcpClient, DhcpStep, MESSAGE_MAX};
use super::firmware::{DhcpHabits, Firmware, Pick};
use super::machine::mac;
use crate::base::addr::Mac;
use crate::base::machine::{Input, Machine};
use crate::base::outbox::Outbox;
use crate::base::time::{Instant, Now};
use crate::base::wheel::Wheel;
use crate::wire::dhcp::{MessageType, Scratch, parse as parse_dhcp};
use crate::wire::ether::{Checksum, Frame, UdpFrame, emit_udp, parse};

/// A place stands in the low bits of an xid, as a broadcast reply shows no MAC.
const PLACE_BITS: u32 = 16;
/// Machines of one run.
pub const MACHINES_MAX: usize = 1 << PLACE_BITS;

const RETRY: [Duration; 3] = [Duration::from_secs(1); 3];
static HABITS: DhcpHabits = DhcpHabits { discover: &RETRY, request: &RETRY, pick: Pick::AtOnce, ..Firmware::Rom.profile().dhcp };

/// Latencies by classes that grow by a sixteenth: a quantile is at most 6 % too large.
struct Latencies([u64; Latencies::CLASSES]);

impl Latencies {
    const SHIFT: u32 = 4;
    const CLASSES: usize = 640;

    /// Class `n` below 32 holds `n` microseconds; above, 16 classes share each power of two.
    fn class(micros: u64) -> usize {
        let shift = (u64::BITS - micros.leading_zeros()).saturating_sub(Latencies::SHIFT + 1);
        ((u64::from(shift) << Latencies::SHIFT) + (micros >> shift)).min(Latencies::CLASSES as u64 - 1) as usize
    }

    /// The upper end of a class, in microseconds.
    fn upper(class: usize) -> u64 {
        let shift = (class >> Latencies::SHIFT).saturating_sub(1) as u32;
        let first = class as u64 - (u64::from(shift) << Latencies::SHIFT);
        ((first + 1) << shift) - 1
    }

    fn note(&mut self, latency: Duration) {
        self.0[Latencies::class(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX))] += 1;
    }

    /// Milliseconds that so many of a thousand exchanges needed at most; 0 without any.
    fn quantile(&self, permille: u64) -> f64 {
        let mut left = (self.0.iter().sum::<u64>() * permille).div_ceil(1000);
        let class = self.0.iter().position(|&count| {
            left = left.saturating_sub(count);
            left == 0
        });
        class.filter(|&class| self.0[class] > 0).map_or(0.0, |class| Latencies::upper(class) as f64 / 1000.0)
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExchangeOutcome {
    /// Machines that exchanged messages.
    pub machines: usize,
    /// From the first DISCOVER on.
    pub seconds: f64,
    /// DISCOVER to ACK.
    pub exchanges: u64,
    /// Exchanges in a second, on average.
    pub per_second: f64,
    /// Milliseconds of an exchange, retries included; at most 6 % too large.
    pub p50_ms: f64,
    /// The same of the slowest hundredth.
    pub p99_ms: f64,
    /// Messages that were sent again because nothing came.
    pub retries: u64,
    /// Exchanges given up: three messages without an answer.
    pub abandoned: u64,
    /// Exchanges that were answered by a NAK.
    pub naks: u64,
}

impl fmt::Display for ExchangeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExchangeOutcome { machines, seconds, exchanges, per_second, p50_ms, p99_ms, retries, abandoned, naks } = self;
        writeln!(f, "machines      {machines} for {seconds:.1} s")?;
        writeln!(f, "exchanges     {exchanges}: {per_second:.0} a second   median {p50_ms:.2} ms   p99 {p99_ms:.2} ms")?;
        write!(f, "not answered  {retries} sent again, {abandoned} exchanges given up, {naks} denied")
    }
}

/// Machines that ask for leases again and again, DISCOVER to ACK, each with one message in flight.
pub struct Exchanges {
    first: u32,
    clients: Box<[DhcpClient]>,
    /// Exchanges begun by each machine.
    rounds: Box<[u16]>,
    wheel: Wheel,
    scratch: Scratch,
    latencies: Latencies,
    exchanges: u64,
    retries: u64,
    abandoned: u64,
    naks: u64,
    began: Instant,
}

impl Exchanges {
    /// Machines with the numbers from `first` on, which all begin at `now`. The reason why that cannot be, as one sentence.
    pub fn new(count: usize, first: u32, now: Instant) -> Result<Exchanges, &'static str> {
        if !(1..=MACHINES_MAX).contains(&count) {
            return Err("1 to 65,536 machines exchange messages");
        }
        if u64::from(first) + count as u64 > 1 << 32 {
            return Err("the machines' numbers go beyond 32 bits");
        }
        let mut wheel = Wheel::new(count, now);
        (0..count).for_each(|place| wheel.set(place, now));
        Ok(Exchanges {
            first,
            clients: vec![DhcpClient::new(&HABITS); count].into(),
            rounds: vec![0; count].into(),
            wheel,
            scratch: Scratch::default(),
            latencies: Latencies([0; Latencies::CLASSES]),
            exchanges: 0,
            retries: 0,
            abandoned: 0,
            naks: 0,
            began: now,
        })
    }

    /// What there is to tell at `now`.
    pub fn outcome(&self, now: Instant) -> ExchangeOutcome {
        let seconds = now.since(self.began).as_secs_f64();
        ExchangeOutcome {
            machines: self.clients.len(),
            seconds,
            exchanges: self.exchanges,
            per_second: if seconds > 0.0 { self.exchanges as f64 / seconds } else { 0.0 },
            p50_ms: self.latencies.quantile(500),
            p99_ms: self.latencies.quantile(990),
            retries: self.retries,
            abandoned: self.abandoned,
            naks: self.naks,
        }
    }

    fn mac(&self, place: usize) -> Mac {
        mac(self.first + place as u32)
    }

    fn begin(&mut self, place: usize, now: Instant, out: &mut Outbox) {
        self.rounds[place] = self.rounds[place].wrapping_add(1);
        let xid = u32::from(self.rounds[place]) << PLACE_BITS | place as u32;
        let step = self.clients[place].start(now, xid);
        self.apply(place, now, step, out);
    }

    fn apply(&mut self, place: usize, now: Instant, step: DhcpStep, out: &mut Outbox) {
        self.retries += u64::from(step.retry);
        match step.wake {
            Some(wake) => self.wheel.set(place, wake),
            None => self.wheel.cancel(place),
        }
        if let Some(kind) = step.send {
            self.send(place, now, kind, out);
        }
        match step.end {
            None => return,
            Some(Ok(())) => {
                self.exchanges += 1;
                self.latencies.note(now.since(self.clients[place].started()));
            }
            Some(Err(Cause::Nak)) => self.naks += 1,
            Some(Err(_)) => self.abandoned += 1,
        }
        self.begin(place, now, out);
    }

    fn send(&mut self, place: usize, now: Instant, kind: MessageType, out: &mut Outbox) {
        let (client, mac) = (&self.clients[place], self.mac(place));
        let mut message = [0; MESSAGE_MAX];
        let Some(len) = client.write(&mut message, kind, now, mac) else { return };
        let message = message.get(..len).unwrap_or(&[]);
        let (from, to) = (SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68), SocketAddrV4::new(Ipv4Addr::BROADCAST, 67));
        out.frame(0, |buf| emit_udp(buf, mac, Mac::BROADCAST, from, to, 0, message));
    }

    fn hear(&mut self, now: Instant, frame: &UdpFrame<'_>, out: &mut Outbox) {
        // RFC 2131, 2: the xid stands at bytes 4 to 8.
        let Some(xid) = frame.payload.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes) else { return };
        let place = xid as usize & (MACHINES_MAX - 1);
        let ours = self.clients.get(place).is_some_and(|client| client.xid() == xid);
        let mac = ours.then(|| self.mac(place));
        let Ok(message) = parse_dhcp(frame.payload, &mut self.scratch) else { return };
        let Some(mac) = mac.filter(|mac| message.header.chaddr.get(..6) == Some(&mac.0[..])) else { return };
        let step = self.clients[place].receive(now, &message, (*frame.src.ip(), mac));
        self.apply(place, now, step, out);
    }
}

impl Machine for Exchanges {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        let Input::Frame { link: 0, bytes } = input else { return };
        // Frames of a local virtual peer carry checksums that nobody filled in.
        if let Ok(Frame::Udp(frame)) = parse(bytes, Checksum::Trusted) {
            if frame.dst.port() == 68 {
                self.hear(now.at, &frame, out);
            }
        }
    }

    fn expire(&mut self, now: Now, out: &mut Outbox) {
        while out.has_room() {
            let Some(place) = self.wheel.expire(now.at) else { return };
            match self.rounds[place] {
                0 => self.begin(place, now.at, out),
                _ => {
                    let step = self.clients[place].expire(now.at);
                    self.apply(place, now.at, step, out);
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.wheel.deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::outbox::Output;
    use crate::wire::dhcp::{Header, MessageBuilder, code};

    const HEAD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    /// What a server answers: DISCOVER with OFFER, REQUEST with `answer`, in a broadcast.
    fn reply(bytes: &[u8], answer: MessageType) -> Vec<u8> {
        let Ok(Frame::Udp(frame)) = parse(bytes, Checksum::Verify) else { panic!("clients send sound frames") };
        let mut scratch = Scratch::default();
        let message = parse_dhcp(frame.payload, &mut scratch).expect("clients send sound messages");
        let kind = if message.message_type() == Some(MessageType::Discover) { MessageType::Offer } else { answer };
        let header = Header { op: 2, yiaddr: Ipv4Addr::from_bits(0x0a00_0100 + message.header.xid % 65_536), ..message.header };
        let (mut body, mut buf) = ([0; 600], [0; 700]);
        let mut builder = MessageBuilder::new(&mut body, &header, 548).unwrap();
        builder.message_type(kind);
        builder.ip(code::SERVER_ID, HEAD);
        builder.u32(code::LEASE_TIME, 600);
        let len = builder.finish(None);
        let (from, to) = (SocketAddrV4::new(HEAD, 67), SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
        let len = emit_udp(&mut buf, Mac([2, 0, 0, 0, 0, 1]), Mac::BROADCAST, from, to, 0, &body[..len]).unwrap();
        buf[..len].to_vec()
    }

    /// A server that answers one message a millisecond in order, but not those that `deaf` takes, for so many seconds.
    fn run(count: usize, seconds: u64, answer: MessageType, deaf: impl Fn(u64) -> bool) -> ExchangeOutcome {
        let (mut out, mut now, mut heard) = (Outbox::new(), Instant::ZERO, 0);
        let mut exchanges = Exchanges::new(count, 7, now).unwrap();
        let mut queue = std::collections::VecDeque::new();
        let end = now + Duration::from_secs(seconds);
        while now < end {
            exchanges.expire(Now { at: now, unix: 0 }, &mut out);
            for output in out.iter() {
                let Output::Frame { link: 0, bytes } = output else { panic!("{output:?}") };
                queue.push_back(bytes.to_vec());
            }
            out.clear();
            now += Duration::from_millis(1);
            let Some(frame) = queue.pop_front() else { continue };
            heard += 1;
            if !deaf(heard) {
                exchanges.handle(Now { at: now, unix: 0 }, Input::Frame { link: 0, bytes: &reply(&frame, answer) }, &mut out);
            }
        }
        exchanges.outcome(now)
    }

    #[test]
    fn the_server_sets_the_pace() {
        for machines in [1, 20, 400] {
            let outcome = run(machines, 10, MessageType::Ack, |_| false);
            assert!((4_600..=5_000).contains(&outcome.exchanges), "two messages, a millisecond each: {outcome:?}");
            assert_eq!((outcome.machines, outcome.abandoned, outcome.naks, outcome.retries), (machines, 0, 0, 0), "{outcome:?}");
            // 2 ms for each machine in the queue.
            let expected = 2.0 * machines as f64;
            assert!((expected..expected * 1.1 + 2.0).contains(&outcome.p50_ms), "{outcome:?}");
            assert!(outcome.p99_ms >= outcome.p50_ms && outcome.seconds == 10.0, "{outcome:?}");
        }
    }

    #[test]
    fn what_is_not_answered_is_sent_again_after_a_second() {
        let outcome = run(1, 100, MessageType::Ack, |heard| heard % 100 == 0);
        assert!(outcome.retries > 80 && outcome.abandoned == 0, "{outcome:?}");
        assert!((1000.0..1070.0).contains(&outcome.p99_ms), "1 in 50 exchanges: {outcome:?}");
        let mute = run(3, 13, MessageType::Ack, |_| true);
        assert_eq!((mute.exchanges, mute.abandoned, mute.retries, mute.p99_ms), (0, 12, 24, 0.0), "{mute:?}");
    }

    #[test]
    fn naks_end_an_exchange() {
        let outcome = run(2, 1, MessageType::Nak, |_| false);
        assert!(outcome.exchanges == 0 && outcome.naks > 100, "{outcome:?}");
    }

    #[test]
    fn runs_that_cannot_be() {
        let refused = |count, first| Exchanges::new(count, first, Instant::ZERO).is_err();
        assert!(refused(0, 0) && refused(MACHINES_MAX + 1, 0) && refused(2, u32::MAX) && !refused(1, u32::MAX));
    }

    #[test]
    fn foreign_frames_change_nothing() {
        let mut exchanges = Exchanges::new(2, 0, Instant::ZERO).unwrap();
        let mut out = Outbox::new();
        let now = Now { at: Instant::ZERO, unix: 0 };
        exchanges.expire(now, &mut out);
        let Some(Output::Frame { bytes, .. }) = out.iter().next() else { panic!("a DISCOVER") };
        let offer = reply(bytes, MessageType::Ack);
        out.clear();
        for at in 0..offer.len() {
            // No MAC of ours, no xid of ours, a message that is cut off.
            exchanges.handle(now, Input::Frame { link: 0, bytes: &offer[..at.min(300)] }, &mut out);
            let mut other = offer.clone();
            other[42 + 4 + at % 4] ^= 0x5a;
            exchanges.handle(now, Input::Frame { link: 0, bytes: &other }, &mut out);
            let mut other = offer.clone();
            other[42 + 28 + at % 6] ^= 0x5a;
            exchanges.handle(now, Input::Frame { link: 0, bytes: &other }, &mut out);
        }
        assert!(out.is_empty());
        exchanges.handle(now, Input::Frame { link: 0, bytes: &offer }, &mut out);
        assert_eq!(out.len(), 1, "the REQUEST");
    }

    #[test]
    fn classes_of_latency() {
        for micros in (0..5000).chain([1_000_000, 3_000_000, 40_000_000]) {
            let upper = Latencies::upper(Latencies::class(micros));
            assert!(upper >= micros && upper as f64 <= micros as f64 * 1.0625 + 1.0, "{micros}: {upper}");
        }
        assert_eq!(Latencies::class(u64::MAX), Latencies::CLASSES - 1);
    }
}
