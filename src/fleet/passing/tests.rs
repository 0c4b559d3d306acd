use super::*;
use crate::base::outbox::Output;
use crate::wire::report::{ReportMacs, ReportText, ReportVerdict};
use proptest::prelude::*;

const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 7]);
const OTHER: Mac = Mac([0x52, 0x54, 0, 0, 0, 8]);
const HEAD: Mac = Mac([2, 0, 0, 0, 0, 1]);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 54, 0, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 54, 250, 3);
const LEASE: u32 = 960;

fn setup(probe: bool) -> PassingSetup {
    let mut macs = ReportMacs::NONE;
    assert!(macs.push(MAC) && macs.push(OTHER));
    let report = Report { macs, verdict: ReportVerdict::Failed(ReportText::new(b"20-memory").unwrap()), ..Report::EMPTY };
    PassingSetup { mac: MAC, report, option: report::CODE, probe }
}

/// What left the node: milliseconds, a label, the payload.
type Sent = (u64, String, Vec<u8>);

/// A node, its link, and a clock.
struct Lab {
    node: PassingMachine,
    now: Instant,
    out: Outbox,
    sent: Vec<Sent>,
    events: Vec<PassingEvent>,
}

impl Lab {
    fn new(probe: bool) -> Lab {
        Lab {
            node: PassingMachine::new(setup(probe), 7),
            now: Instant::from_millis(5000),
            out: Outbox::new(),
            sent: Vec::new(),
            events: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now { at: self.now, unix: 0 }
    }

    fn drain(&mut self) {
        let millis = self.now.since(Instant::from_millis(5000)).as_millis() as u64;
        for output in self.out.iter() {
            self.sent.push(match output {
                Output::Datagram { endpoint: 0, from, to, via, body } => {
                    let mut scratch = Scratch::default();
                    let message = parse(body, &mut scratch).unwrap();
                    let kind = message.message_type().unwrap();
                    let label = match via {
                        Via::Broadcast => format!("{kind:?} {from} > {to}"),
                        Via::Mac(mac) => format!("{kind:?} {from} > {to} at {mac}"),
                        Via::Kernel => panic!("nothing is routed"),
                    };
                    (millis, label, body.to_vec())
                }
                Output::Probe { link: 0, ip } => (millis, format!("probe {ip}"), Vec::new()),
                Output::Frame { link: 0, bytes } => match crate::wire::ether::parse(bytes, crate::wire::ether::Checksum::Verify) {
                    Ok(crate::wire::ether::Frame::Arp(arp)) if arp.sender_ip == arp.target_ip && arp.sender_mac == MAC => {
                        (millis, format!("announce {}", arp.sender_ip), Vec::new())
                    }
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            });
        }
        self.out.clear();
        self.events.extend(self.node.take_event());
    }

    /// Lets so much time pass, as the loop does: timers go off when they are due.
    fn pass(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while let Some(due) = self.node.deadline().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            let now = self.now();
            self.node.expire(now, &mut self.out);
            self.drain();
        }
        self.now = end;
    }

    fn hear(&mut self, payload: &[u8]) {
        let dst = SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);
        let src = SocketAddrV4::new(SERVER, SERVER_PORT);
        let datagram = crate::base::machine::Datagram { endpoint: 0, mac: Some(HEAD), src, dst, payload };
        let now = self.now();
        self.node.handle(now, Input::Datagram(datagram), &mut self.out);
        self.drain();
    }

    fn claim(&mut self, sender: Ipv4Addr, mac: Mac) {
        let now = self.now();
        self.node.handle(now, Input::Arp { link: 0, mac, sender }, &mut self.out);
        self.drain();
    }

    fn reply(&self, kind: MessageType) -> Reply {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&MAC.0);
        let header = Header { op: 2, xid: self.node.client.xid, yiaddr: GUEST, chaddr, ..Header::default() };
        Reply { header, kind, server: SERVER, mask: Ipv4Addr::new(255, 255, 0, 0), seconds: LEASE, more: Vec::new() }
    }

    fn answer(&mut self, kind: MessageType) {
        let reply = self.reply(kind).bytes();
        self.hear(&reply);
    }

    /// What was sent since the last call.
    fn take(&mut self) -> Vec<(u64, String)> {
        self.sent.drain(..).map(|(at, label, _)| (at, label)).collect()
    }

    fn times(&mut self, kind: &str) -> Vec<u64> {
        self.take().into_iter().filter(|(_, label)| label.starts_with(kind)).map(|(at, _)| at).collect()
    }

    /// Up to a lease.
    fn bound(probe: bool) -> Lab {
        let mut lab = Lab::new(probe);
        lab.pass(0);
        lab.answer(MessageType::Offer);
        lab.answer(MessageType::Ack);
        lab.pass(if probe { 200 } else { 0 });
        assert_eq!((lab.node.client.state, &lab.events[..]), (PassingState::Bound, &[PassingEvent::Bound { renewed: false }][..]));
        lab.events.clear();
        lab.sent.clear();
        lab
    }

    fn state(&self) -> PassingState {
        self.node.client.state
    }
}

/// A reply of the scripted server.
struct Reply {
    header: Header,
    kind: MessageType,
    server: Ipv4Addr,
    mask: Ipv4Addr,
    seconds: u32,
    more: Vec<(u8, Vec<u8>)>,
}

impl Reply {
    fn bytes(&self) -> Vec<u8> {
        let mut buf = [0; 600];
        let mut builder = MessageBuilder::new(&mut buf, &self.header, 600).unwrap();
        builder.message_type(self.kind);
        builder.ip(code::SERVER_ID, self.server);
        builder.ip(code::SUBNET_MASK, self.mask);
        builder.u32(code::LEASE_TIME, self.seconds);
        for (option, bytes) in &self.more {
            builder.option(*option, bytes);
        }
        let len = builder.finish(None);
        buf[..len].to_vec()
    }

    fn with(mut self, option: u8, bytes: &[u8]) -> Reply {
        self.more.push((option, bytes.to_vec()));
        self
    }
}

#[test]
fn four_discovers_in_the_first_second_then_one_a_second_for_ever() {
    let mut lab = Lab::new(true);
    lab.pass(600_000);
    let times = lab.times("Discover 0.0.0.0:68 > 255.255.255.255:67");
    assert_eq!(times[..6], [0, 250, 500, 750, 1750, 2750]);
    assert_eq!(times.len(), 4 + 599);
    assert!(times[4..].windows(2).all(|pair| pair[1] - pair[0] == 1000));
}

#[test]
fn messages_carry_the_report_and_ask_for_what_is_needed() {
    let mut lab = Lab::new(false);
    lab.pass(2000);
    lab.answer(MessageType::Offer);
    for (at, bytes) in lab.sent.iter().map(|(at, _, bytes)| (at, bytes)) {
        let mut scratch = Scratch::default();
        let message = parse(bytes, &mut scratch).unwrap();
        let Header { op, flags, ciaddr, giaddr, xid, secs, .. } = message.header;
        assert_eq!((op, flags, ciaddr, giaddr, xid), (1, 0, Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED, lab.node.client.xid));
        assert_eq!(u64::from(secs), at / 1000);
        assert_eq!(message.header.chaddr[..6], MAC.0);
        assert_eq!(message.option(224).and_then(Report::parse), Some(setup(true).report));
        assert_eq!(message.parameter_request_list(), Some(&[1, 3, 6, 12, 15, 42, 51, 54, 225][..]));
        assert_eq!(message.client_id(), None, "the machine is known by its MACs alone");
        let asked = (message.requested_ip(), message.server_id());
        let request = message.message_type() == Some(MessageType::Request);
        assert_eq!(asked, if request { (Some(GUEST), Some(SERVER)) } else { (None, None) });
    }
    assert_eq!(lab.sent.len(), 6);
}

#[test]
fn requests_are_repeated_likewise_and_then_it_begins_anew() {
    let mut lab = Lab::new(true);
    lab.pass(10);
    let xid = lab.node.client.xid;
    lab.answer(MessageType::Offer);
    lab.answer(MessageType::Offer);
    assert_eq!(lab.node.client.counts.ignored, 1, "a second offer");
    lab.pass(6000);
    let sent = lab.take();
    let requests: Vec<u64> = sent.iter().filter(|(_, label)| label.starts_with("Request")).map(|(at, _)| *at).collect();
    assert_eq!(requests, [10, 260, 510, 760, 1760, 2760, 3760, 4760]);
    assert_eq!(sent.iter().filter(|(_, label)| label.starts_with("Discover")).map(|(at, _)| *at).collect::<Vec<_>>(), [0, 5760, 6010]);
    assert_ne!(lab.node.client.xid, xid);
}

#[test]
fn a_lease_is_ours_when_nobody_claims_the_address() {
    let mut lab = Lab::new(true);
    lab.pass(100);
    lab.answer(MessageType::Offer);
    lab.answer(MessageType::Ack);
    lab.answer(MessageType::Ack);
    lab.claim(GUEST, MAC);
    lab.claim(SERVER, OTHER);
    lab.pass(199);
    assert_eq!((lab.state(), lab.events.len()), (PassingState::Probing, 0));
    lab.pass(1);
    assert_eq!((lab.state(), &lab.events[..]), (PassingState::Bound, &[PassingEvent::Bound { renewed: false }][..]));
    let probes = [(100, format!("probe {GUEST}")), (200, format!("probe {GUEST}")), (300, format!("announce {GUEST}"))];
    assert_eq!(lab.take()[2..], probes);
}

#[test]
fn an_address_in_use_is_declined() {
    let mut lab = Lab::new(true);
    lab.pass(0);
    let xid = lab.node.client.xid;
    lab.answer(MessageType::Offer);
    lab.answer(MessageType::Ack);
    lab.pass(50);
    lab.claim(GUEST, OTHER);
    assert_eq!(lab.events, [PassingEvent::InUse { address: GUEST, by: OTHER }]);
    let (_, label, bytes) = lab.sent.last().cloned().unwrap();
    assert_eq!(label, "Decline 0.0.0.0:68 > 255.255.255.255:67");
    let mut scratch = Scratch::default();
    let message = parse(&bytes, &mut scratch).unwrap();
    assert_eq!((message.requested_ip(), message.server_id(), message.header.xid), (Some(GUEST), Some(SERVER), xid));
    assert_eq!((message.parameter_request_list(), message.header.ciaddr), (None, Ipv4Addr::UNSPECIFIED));
    lab.sent.clear();
    lab.answer(MessageType::Ack);
    lab.pass(949);
    assert_eq!((lab.state(), lab.take().len()), (PassingState::Pausing, 0), "a second since it began");
    lab.pass(1);
    assert_eq!((lab.state(), lab.times("Discover")), (PassingState::Selecting, vec![1000]));
    assert_ne!(lab.node.client.xid, xid);
}

#[test]
fn a_nak_makes_it_begin_anew_but_not_faster_than_once_a_second() {
    let mut lab = Lab::new(true);
    lab.pass(0);
    for _ in 0..3 {
        lab.answer(MessageType::Offer);
        lab.answer(MessageType::Nak);
        lab.answer(MessageType::Nak);
        lab.pass(1000);
    }
    assert_eq!(lab.events, [PassingEvent::Denied; 3]);
    assert_eq!(lab.times("Discover"), [0, 1000, 2000, 3000]);
    let PassingCounts { naks, requests, offers, .. } = lab.node.client.counts;
    assert_eq!((naks, requests, offers), (3, 3, 3));
}

#[test]
fn replies_for_others_are_ignored() {
    let mut lab = Lab::new(true);
    lab.pass(0);
    let wrong: [fn(&mut Reply); 12] = [
        |reply| reply.header.xid ^= 1,
        |reply| reply.header.op = 1,
        |reply| reply.header.chaddr[5] ^= 1,
        |reply| reply.header.hlen = 16,
        |reply| reply.kind = MessageType::Ack,
        |reply| reply.kind = MessageType::Nak,
        |reply| reply.header.yiaddr = Ipv4Addr::UNSPECIFIED,
        |reply| reply.header.yiaddr = Ipv4Addr::BROADCAST,
        |reply| reply.header.yiaddr = Ipv4Addr::LOCALHOST,
        |reply| reply.server = Ipv4Addr::UNSPECIFIED,
        |reply| reply.mask = Ipv4Addr::new(255, 0, 255, 0),
        |reply| reply.seconds = 0,
    ];
    for (n, change) in wrong.into_iter().enumerate() {
        let mut reply = lab.reply(MessageType::Offer);
        change(&mut reply);
        lab.hear(&reply.bytes());
        assert_eq!((lab.state(), lab.node.client.counts.ignored), (PassingState::Selecting, n as u32 + 1), "{n}");
    }
    lab.hear(b"no DHCP");
    assert_eq!(lab.node.client.counts.malformed, 1);
    lab.answer(MessageType::Offer);
    let wrong: [fn(&mut Reply); 3] = [
        |reply| reply.server = GUEST,
        |reply| reply.header.yiaddr = SERVER,
        |reply| (reply.kind, reply.server) = (MessageType::Nak, GUEST),
    ];
    for change in wrong {
        let mut reply = lab.reply(MessageType::Ack);
        change(&mut reply);
        lab.hear(&reply.bytes());
        assert_eq!(lab.state(), PassingState::Requesting);
    }
    lab.answer(MessageType::Ack);
    assert_eq!(lab.state(), PassingState::Probing);
}

#[test]
fn it_renews_at_t1_with_the_server_and_at_t2_with_everybody() {
    let mut lab = Lab::bound(true);
    // The lease counts from the REQUEST, at 0.
    lab.pass(480_000 - 201);
    assert_eq!(lab.take().len(), 0);
    lab.pass(480_001);
    let sent = lab.take();
    let unicast = format!("Request {GUEST}:68 > {SERVER}:67 at {HEAD}");
    let broadcast = format!("Request {GUEST}:68 > 255.255.255.255:67");
    let renewals: Vec<u64> = sent.iter().filter(|(_, label)| *label == unicast).map(|(at, _)| at / 1000).collect();
    let rebindings: Vec<u64> = sent.iter().filter(|(_, label)| *label == broadcast).map(|(at, _)| at / 1000).collect();
    assert_eq!((renewals, rebindings), (vec![480, 660, 750, 810], vec![840, 900]), "half of what is left, a minute at least");
    assert_eq!(lab.events, [PassingEvent::Expired]);
    assert_eq!(sent.last().map(|(at, label)| (*at, &label[..8])), Some((960_000, "Discover")));
    assert_eq!(lab.state(), PassingState::Selecting);
}

#[test]
fn a_renewed_lease_counts_from_its_request() {
    let mut lab = Lab::bound(false);
    for round in 1..=3u64 {
        lab.pass(480_000);
        assert_eq!(lab.state(), PassingState::Renewing);
        let (_, _, bytes) = lab.sent.pop().unwrap();
        let mut scratch = Scratch::default();
        let message = parse(&bytes, &mut scratch).unwrap();
        assert_eq!((message.header.ciaddr, message.requested_ip(), message.server_id()), (GUEST, None, None));
        assert!(message.option(224).and_then(Report::parse).is_some());
        lab.answer(MessageType::Ack);
        assert_eq!((lab.state(), lab.events.len()), (PassingState::Bound, round as usize), "and no probe: the address is in use, by us");
    }
    assert!(lab.events.iter().all(|event| *event == PassingEvent::Bound { renewed: true }));
    lab.pass(480_000);
    lab.events.clear();
    lab.answer(MessageType::Nak);
    assert_eq!((lab.state(), &lab.events[..]), (PassingState::Selecting, &[PassingEvent::Denied][..]), "at once");
    assert_eq!(lab.sent.last().map(|(_, label, _)| &label[..8]), Some("Discover"));
}

#[test]
fn the_server_may_say_when_and_a_lease_may_never_end() {
    let bound = |reply: Reply| {
        let mut lab = Lab::new(false);
        lab.pass(0);
        lab.answer(MessageType::Offer);
        lab.hear(&Reply { header: Header { xid: lab.node.client.xid, ..reply.header }, ..reply }.bytes());
        assert_eq!(lab.state(), PassingState::Bound);
        lab.node.deadline().map(|at| at.since(Instant::from_millis(5000)).as_secs())
    };
    let ack = || Lab::new(false).reply(MessageType::Ack);
    let times = |t1: u32, t2: u32| ack().with(code::RENEWAL_TIME, &t1.to_be_bytes()).with(code::REBINDING_TIME, &t2.to_be_bytes());
    assert_eq!(bound(times(100, 200)), Some(100));
    assert_eq!(bound(times(200, 100)), Some(480), "nonsense");
    assert_eq!(bound(Reply { seconds: u32::MAX, ..ack() }), None);
    assert_eq!(bound(ack().with(code::RENEWAL_TIME, b"x")), Some(480));
}

#[test]
fn short_leases_are_renewed_more_than_once() {
    let mut lab = Lab::new(false);
    lab.pass(0);
    for kind in [MessageType::Offer, MessageType::Ack] {
        let reply = Reply { seconds: 80, ..lab.reply(kind) };
        lab.hear(&reply.bytes());
    }
    lab.sent.clear();
    lab.pass(79_999);
    assert_eq!(lab.times("Request").iter().map(|at| at / 1000).collect::<Vec<_>>(), [40, 55, 65, 70]);
}

#[test]
fn what_a_lease_tells() {
    let mut lab = Lab::new(false);
    lab.pass(0);
    lab.answer(MessageType::Offer);
    let ack = lab.reply(MessageType::Ack);
    let ack =
        ack.with(code::ROUTER, &[10, 54, 0, 1, 0, 0, 0, 0]).with(code::DNS, &[10, 54, 0, 1, 10, 54, 0, 2]).with(code::HOST_NAME, b"n17\0");
    lab.hear(&ack.with(code::DOMAIN, b"cluster").bytes());
    let lease = lab.node.client.lease().unwrap();
    let shown = |list: Addresses| list.iter().map(|ip| ip.to_string()).collect::<Vec<_>>();
    assert_eq!((lease.address, lease.prefix, lease.server, lease.seconds), (GUEST, 16, SERVER, LEASE));
    assert_eq!(
        (shown(lease.routers), shown(lease.dns), shown(lease.ntp)),
        (vec!["10.54.0.1".into()], vec!["10.54.0.1".into(), "10.54.0.2".into()], vec![])
    );
    assert_eq!((lease.host_name.bytes(), lease.domain.bytes()), (&b"n17"[..], &b"cluster"[..]));
    assert_eq!(lease.broadcast(), Some(Ipv4Addr::new(10, 54, 255, 255)));
    assert!(lease.is_local(SERVER) && !lease.is_local(Ipv4Addr::new(10, 55, 0, 1)));
}

proptest! {
    /// Whatever comes, it goes on asking, and its messages are sound (`drain` parses them).
    #[test]
    fn nothing_that_is_heard_harms(seed: u64, steps in proptest::collection::vec((0u8..8, 0u64..3000, any::<[u8; 12]>()), 0..60)) {
        let mut lab = Lab::new(true);
        lab.node = PassingMachine::new(setup(true), seed);
        for (what, millis, bytes) in steps {
            lab.pass(millis);
            let kind = [MessageType::Offer, MessageType::Ack, MessageType::Nak, MessageType::Inform][usize::from(what % 4)];
            let seconds = u32::from(bytes[2]);
            match what {
                0..4 => lab.hear(&Reply { seconds, ..lab.reply(kind) }.bytes()),
                4 => lab.claim(GUEST, OTHER),
                5 => {
                    let mut reply = lab.reply(kind).bytes();
                    for pair in bytes.chunks_exact(2) {
                        let at = usize::from(pair[0]) % reply.len();
                        reply[at] = pair[1];
                    }
                    lab.hear(&reply);
                }
                6 => lab.hear(&bytes),
                _ => lab.hear(&lab.reply(kind).with(code::SUBNET_MASK, &bytes).with(code::ROUTER, &bytes).bytes()),
            }
            let state = lab.state();
            prop_assert!(lab.node.deadline().is_some() || state == PassingState::Bound, "{state:?}");
        }
        lab.pass(20_000);
        let last = lab.sent.last().map_or(0, |(at, ..)| *at);
        let silent = lab.now.since(Instant::from_millis(5000)).as_millis() as u64 - last;
        prop_assert!(silent <= 1000 || matches!(lab.state(), PassingState::Bound | PassingState::Renewing | PassingState::Rebinding), "{:?}", lab.state());
    }
}
