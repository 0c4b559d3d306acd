//! What a hostile neighbour can make the head write: frames of all kinds, from seeds, in virtual time, and the lines of the log and the bytes
//! of the journal that they cost.

use super::*;
use crate::base::rng::Rng;
use crate::roll::plan::AddressRange;
use crate::roll::ruling::Numbering;
use crate::wire::report::{Report, ReportText, ReportVerdict};

/// Between two frames: 5,000 a second.
const GAP: Duration = Duration::from_micros(200);
const CAPACITY: usize = 512;
/// Kinds of trouble that have a line each ten seconds.
const TROUBLES: u64 = 16;

/// What was written.
#[derive(Debug, Default)]
struct Written {
    lines: u64,
    records: u64,
    bytes: u64,
}

struct Flood {
    world: World,
    rng: Rng,
    /// So many MACs of the flood's own; 0: each frame may have a new one.
    macs: u64,
    records: u64,
    bytes: u64,
}

impl Flood {
    fn mac(&mut self) -> Mac {
        let n = if self.macs == 0 { self.rng.u64() as u32 } else { self.rng.below(self.macs) as u32 };
        let [a, b, c, d] = n.to_be_bytes();
        Mac([2, 0xbb, a, b, c, d])
    }

    /// A machine of the cluster, or one of its own.
    fn victim(&mut self) -> Mac {
        match self.rng.below(4) {
            0 => [mac(17), mac(23), mac(117)][self.rng.below(3) as usize],
            _ => self.mac(),
        }
    }

    fn address(&mut self) -> Ipv4Addr {
        let any = self.rng.u64() as u32;
        match self.rng.below(4) {
            0 => [NODE_17, NODE_23, HEAD, RELAY][self.rng.below(4) as usize],
            1 => ip(10, 54, 250, any as u8),
            2 => ip(10, 54, 1, any as u8),
            _ => Ipv4Addr::from(any),
        }
    }

    fn report(&mut self, owner: Mac) -> Vec<u8> {
        let serial = format!("serial-{}", self.rng.below(1 << 40));
        let verdict = match self.rng.below(3) {
            0 => ReportVerdict::Passed,
            1 => ReportVerdict::Untested,
            _ => ReportVerdict::Failed(ReportText::new(serial.as_bytes()).unwrap()),
        };
        let mut report = Report { verdict, serial: ReportText::new(serial.as_bytes()), ..Report::EMPTY };
        assert!(report.macs.push(owner));
        let other = self.victim();
        if self.rng.chance(300_000) {
            report.macs.push(other);
        }
        let mut buf = [0; 255];
        let len = report.write(&mut buf).unwrap();
        buf[..len].to_vec()
    }

    fn take(&mut self, got: Vec<Got>) {
        for got in got {
            if let Got::Record(line) = got {
                self.records += 1;
                self.bytes += line.len() as u64 + 1;
            }
        }
    }

    fn ask(&mut self, ask: &Ask) -> Option<crate::engine::testing::Reply> {
        let got = self.world.ask(ask);
        let reply = replies(&got).pop();
        self.take(got);
        reply
    }

    /// A message of any kind, mostly by somebody who has a right to it.
    fn message(&mut self) -> Ask {
        let owner = self.victim();
        let base = match self.rng.below(3) {
            0 => Ask::rom(owner),
            1 => Ask::ipxe(owner),
            _ => Ask::os(owner),
        };
        let base = if self.rng.chance(400_000) { base.with(224, &self.report(owner)) } else { base };
        let any = self.address();
        let address = self.world.client(owner).and_then(|client| client.address()).filter(|_| self.rng.chance(700_000)).unwrap_or(any);
        let ask = match self.rng.below(10) {
            0 | 1 => base.discover(),
            2 => base.select(address),
            3 => base.reboot(address),
            4 => base.renew(address),
            5 => base.select(address).with(code::SERVER_ID, &self.address().octets()),
            6 => base.decline(address),
            7 => base.release(address),
            8 => base.inform(address),
            _ => base,
        };
        let ask = if self.rng.chance(100_000) { ask.relayed(if self.rng.chance(500_000) { RELAY } else { any }) } else { ask };
        if self.rng.chance(300_000) { ask.in_frame_of(self.mac()) } else { ask }
    }

    /// DISCOVER, REQUEST, RELEASE, over and over.
    fn whole_lease(&mut self) {
        let owner = self.victim();
        let base = if self.rng.chance(500_000) { Ask::os(owner).with(224, &self.report(owner)) } else { Ask::os(owner) };
        let Some(offer) = self.ask(&base.discover()) else { return };
        if self.ask(&base.select(offer.yiaddr())).is_some_and(|reply| reply.kind == ACK) {
            self.ask(&base.release(offer.yiaddr()));
        }
    }

    fn frame(&mut self) {
        match self.rng.below(10) {
            0..4 => {
                let ask = self.message();
                self.ask(&ask);
            }
            4 | 5 => self.whole_lease(),
            6 => {
                let mut offer = Ask::os(mac(1)).with(code::MESSAGE_TYPE, &[2]).with(code::SERVER_ID, &self.address().octets());
                offer.header.op = 2;
                (offer.src, offer.dst) = (SocketAddrV4::new(self.address(), 67), SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
                self.ask(&offer);
            }
            7 | 8 => {
                let (mac, sender) = (self.victim(), self.address());
                let got = self.world.handle(Input::Arp { link: 0, mac, sender });
                self.take(got);
            }
            _ => {
                let (src, port) = (self.address(), 1024 + self.rng.below(60_000) as u16);
                let payload = [b"\0\x01file-".as_slice(), &self.rng.u64().to_be_bytes(), b"\0octet\0"].concat();
                let (src, dst, mac) = (SocketAddrV4::new(src, port), SocketAddrV4::new(HEAD, 69), Some(self.victim()));
                let got = self.world.datagram(0, mac, (src, dst), &payload);
                let opens: Vec<u64> =
                    got.iter().filter_map(|got| if let Got::Open { token, .. } = got { Some(*token) } else { None }).collect();
                self.take(got);
                for token in opens {
                    let got = self.world.handle(Input::Opened { token, answer: Err(crate::base::machine::OpenError::NotFound) });
                    self.take(got);
                }
            }
        }
    }
}

fn flood(seed: u64, frames: u32, macs: u64, numbering: Numbering) -> Written {
    let mut own = Config { numbering, ..config() };
    own.server.capacity = CAPACITY;
    own.networks[0].guests = AddressRange::new(guest(1), guest(250));
    let before = log_lines();
    let mut flood = Flood { world: World::settled(&own), rng: Rng::new(seed), macs, records: 0, bytes: 0 };
    let start = flood.world.now;
    for n in 1..=frames {
        flood.frame();
        let due = start.at + GAP * n;
        let passes = due.since(flood.world.now.at);
        if passes >= Duration::from_millis(1) {
            let got = flood.world.advance(passes.as_millis() as u64);
            flood.take(got);
        }
    }
    Written { lines: log_lines() - before, records: flood.records, bytes: flood.bytes }
}

/// The law: so many frames cost what the shares of `roll::shares` allow and a line each ten seconds for each kind of trouble, not a line or a
/// record each.
#[test]
fn a_flood_writes_what_its_share_allows() {
    let (locked, automatic) = (Numbering::Locked, Numbering::Automatic);
    for (seed, frames, macs, numbering) in [(1, 20_000, 8, locked), (2, 60_000, 0, locked), (3, 20_000, 8, automatic)] {
        let seconds = u64::from(frames) * GAP.as_micros() as u64 / 1_000_000;
        let written = flood(seed, frames, macs, numbering);
        // Three machines of the cluster beside those of the flood.
        let each = 12 + seconds / 15 + 1;
        let of_guests = if macs > 0 { macs * each } else { CAPACITY as u64 + seconds };
        // Who gets a number has the share of a node from then on.
        let numbers = if numbering == Numbering::Automatic { macs * each } else { 0 };
        let lines = of_guests + 3 * each + numbers + TROUBLES * (seconds / 10 + 1);
        // A machine that gets a number meanwhile has had a guest's share, and has a node's.
        let records = if macs > 0 { (macs + 3) * each + numbers * (1 + each) } else { 4 * CAPACITY as u64 + 3 * each + 250 * each };
        assert!(written.lines <= lines, "seed {seed}, {macs} MACs: more than {lines} lines: {written:?}");
        assert!(written.records <= records, "seed {seed}, {macs} MACs: more than {records} records: {written:?}");
        assert!(written.bytes <= records * 512, "seed {seed}, {macs} MACs: {written:?}");
    }
}

/// Invented machines fill the table: every card of a node finds a place, also the second one, for which none is kept.
#[test]
fn a_flood_takes_no_place_from_a_nodes_cards() {
    let mut own = config();
    own.networks[0].guests = AddressRange::new(guest(1), guest(250));
    let mut world = World::settled(&own);
    for n in 0..200u32 {
        let [_, _, a, b] = n.to_be_bytes();
        world.ask(&Ask::rom(Mac([2, 0xdd, 0, 0, a, b])).discover());
    }
    assert!(world.count(Counter::DhcpTableFull) > 100);
    for n in [17, 117, 23] {
        let got = world.ask(&Ask::rom(mac(n)).discover());
        assert!(got.iter().any(|got| matches!(got, Got::Datagram { .. } | Got::Probe(_))), "{n}: {got:?}");
        assert!(world.client(mac(n)).is_some(), "{n}");
    }
    assert_eq!(world.lease(&Ask::rom(mac(23))), NODE_23);
}

/// A thousand new machines that are switched on at once are told everything at once, and the log has a line for each of their boots.
#[test]
fn a_crowd_of_new_machines_is_not_slowed() {
    let mut own = Config { numbering: Numbering::Locked, ..config() };
    own.server.capacity = 2048;
    own.networks[0].guests = AddressRange::new(ip(10, 54, 200, 0), ip(10, 54, 204, 255));
    let mut world = World::settled(&own);
    let before = log_lines();
    for n in 0..1000u32 {
        let [_, _, a, b] = n.to_be_bytes();
        let owner = Mac([2, 0xcc, 0, 0, a, b]);
        let address = world.lease(&Ask::rom(owner));
        assert_eq!(world.lease(&Ask::ipxe(owner)), address);
        let report = {
            let mut report = Report { verdict: ReportVerdict::Passed, ..Report::EMPTY };
            assert!(report.macs.push(owner));
            let mut buf = [0; 255];
            let len = report.write(&mut buf).unwrap();
            buf[..len].to_vec()
        };
        assert_eq!(world.lease(&Ask::os(owner).with(224, &report)), address);
        assert_eq!(world.stage(owner), Some(Stage::Up));
    }
    assert_eq!(world.count(Counter::DhcpRecords), 0);
    assert!(log_lines() - before >= 1000, "{} lines", log_lines() - before);
}
