//! The machine that is many machines: demultiplexing, frames and timers. What a client does is in `dhcp` and `tftp`, what power does in `power`.
//!
//! An incoming frame finds its machine in O(1): by the destination MAC, which is made from the machine's number; a broadcast by its xid, whose low 20
//! bits are the machine's place; an ARP request by the address. Everything is allocated in [`Fleet::new`].

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::time::Duration;

use super::cause::Cause;
use super::dhcp::{self, DhcpClient, MESSAGE_MAX};
use super::gaps::Gaps;
use super::life::{BootFile, BootStep, COUNT_MAX, StepLabel, StormPlan};
use super::names::NameTable;
use super::node::{Fetched, FleetNode, Hop, MachineStatus, NEVER};
use super::tftp::{self, Download, DownloadPacket};
use super::{Name, summary};
use crate::base::addr::Mac;
use crate::base::index::Index;
use crate::base::machine::{Input, Machine};
use crate::base::outbox::Outbox;
use crate::base::rng::{Rng, mix};
use crate::base::time::{Instant, Now};
use crate::base::wheel::Wheel;
use crate::wire::dhcp::{MessageType, Scratch, parse as parse_dhcp};
use crate::wire::ether::{Arp, ArpOp, Checksum, Frame, UdpFrame, emit_arp, emit_udp, parse};
use crate::wire::tftp::{emit_ack, parse as parse_tftp};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// The way to the file server is asked for this often, a second apart.
const ARP_TRIES: u8 = 4;
const ARP_WAIT: Duration = Duration::from_secs(1);
const XID_PLACE: u32 = COUNT_MAX as u32 - 1;
const XID_BITS: u32 = XID_PLACE.count_ones();

/// How many machines are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Waiting for power.
    pub off: usize,
    /// On their way.
    pub booting: usize,
    /// Booted.
    pub up: usize,
    /// Given up, for good.
    pub lost: usize,
    /// Without power, for good.
    pub cut: usize,
}

impl Progress {
    fn at(&mut self, status: MachineStatus) -> &mut usize {
        match status {
            MachineStatus::Off => &mut self.off,
            MachineStatus::Booting => &mut self.booting,
            MachineStatus::Up => &mut self.up,
            MachineStatus::Lost(_) => &mut self.lost,
            MachineStatus::Cut => &mut self.cut,
        }
    }
}

/// What happened to frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frames {
    pub sent: u64,
    pub received: u64,
    /// By [`StormPlan::loss`].
    pub lost: u64,
    /// By [`StormPlan::wake`].
    pub asleep: u64,
    /// Not for a machine of ours, or not expected by it.
    pub stray: u64,
}

/// Client machines on one link. See [`Machine`] for how a world drives them.
pub struct Fleet {
    pub(super) plan: StormPlan,
    names: Box<[Name]>,
    pub(super) nodes: Box<[FleetNode]>,
    /// Where a machine's loaded files begin: `fetched_each` places for each.
    pub(super) fetched: Box<[Fetched]>,
    pub(super) fetched_each: usize,
    pub(super) loaded: NameTable,
    /// When each machine was through with each step: `steps_each` places for each.
    pub(super) through: Box<[Instant]>,
    pub(super) steps_each: usize,
    /// From address to place.
    addresses: Index,
    /// Times that an address was given to a machine while another held it.
    pub(super) conflicts: u64,
    /// Switches of the plan that were thrown.
    pub(super) switched: usize,
    /// Times that power went while a machine booted.
    pub(super) interrupted: u64,
    wheel: Wheel,
    scratch: Scratch,
    progress: Progress,
    pub(super) frames: Frames,
    /// Of all running transfers.
    pub(super) gaps: Gaps,
    pub(super) began: Instant,
}

impl Fleet {
    /// Lays out the machines and their power-on times, counted from `now`. Gives what is wrong with the plan, as one sentence.
    pub fn new(plan: StormPlan, now: Instant) -> Result<Fleet, &'static str> {
        plan.check()?;
        let mut rng = Rng::new(plan.seed);
        let plan = plan.in_order();
        let spread = u64::try_from(plan.spread.as_nanos()).unwrap_or(u64::MAX);
        let mut wheel = Wheel::new(plan.count, now);
        let mut node = |place: usize| {
            let life = pick(&plan, place as u32, &mut rng);
            let power = now + Duration::from_nanos(rng.below(spread));
            let begins = plan.begins(place as u32);
            if begins {
                wheel.set(place, power);
            }
            let (wake, armed) = if begins { (Some(power), power) } else { (None, NEVER) };
            let deaf = rng.below(1000) < u64::from(plan.deaf);
            FleetNode { wake, armed, ..FleetNode::new(mac(plan.first + place as u32), life, deaf, &plan) }
        };
        let nodes: Box<[FleetNode]> = (0..plan.count).map(&mut node).collect();
        let steps_each = plan.lives.iter().map(|life| life.steps.len()).max().unwrap_or(0);
        let fetched_each = plan.lives.iter().map(|life| life.fetches()).max().unwrap_or(0);
        Ok(Fleet {
            names: plan.names.iter().filter_map(|name| Name::new(name)).collect(),
            fetched: vec![Fetched { name: 0, len: 0, hash: 0 }; fetched_each * plan.count].into(),
            fetched_each,
            through: vec![now; steps_each * plan.count].into(),
            steps_each,
            loaded: NameTable::new(plan.names.len() + plan.count.min(4096), plan.seed),
            addresses: Index::new(2 * plan.count, mix(plan.seed)),
            conflicts: 0,
            switched: 0,
            interrupted: 0,
            wheel,
            scratch: Scratch::default(),
            progress: Progress { off: plan.count, ..Progress::default() },
            frames: Frames::default(),
            gaps: Gaps::default(),
            began: now,
            nodes,
            plan,
        })
    }

    /// How many machines are where now.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Whether every machine is up, lost or without power for good, and power changes no more.
    pub fn done(&self) -> bool {
        self.progress.off + self.progress.booting == 0 && self.next_switch().is_none()
    }

    /// Everything that is known of the storm so far. Allocates; O(machines).
    pub fn summary(&self) -> summary::Summary {
        summary::of(self)
    }

    /// Likewise, of the machines in these places.
    pub fn crowd(&self, who: Range<u32>) -> summary::CrowdSummary {
        summary::crowd(self, who)
    }

    /// One machine, by its place; None beyond the last.
    pub fn machine(&self, place: usize) -> Option<summary::MachineView> {
        self.nodes.get(place).map(|node| summary::view(self, place, node))
    }

    pub(super) fn step_of(&self, node: &FleetNode) -> Option<BootStep> {
        step_of(&self.plan, node)
    }

    pub(super) fn label_of(&self, node: &FleetNode) -> Option<StepLabel> {
        self.step_of(node).map(BootStep::label)
    }

    /// The machine with this MAC.
    fn place_of(&self, mac: Mac) -> Option<usize> {
        let [0x02, 0x4d, number @ ..] = mac.0 else { return None };
        let place = u32::from_be_bytes(number).checked_sub(self.plan.first)? as usize;
        (place < self.nodes.len()).then_some(place)
    }
}

/// What the machine is at; None when it is through.
fn step_of(plan: &StormPlan, node: &FleetNode) -> Option<BootStep> {
    plan.lives.get(usize::from(node.life))?.steps.get(usize::from(node.step)).copied()
}

/// The MAC of the machine with this number.
pub fn mac(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac([0x02, 0x4d, a, b, c, d])
}

/// The life at a point, drawn at random, of the weights laid end to end.
fn pick(plan: &StormPlan, place: u32, rng: &mut Rng) -> u16 {
    let mut point = rng.below(plan.lives.iter().map(|life| life.weight_in(place)).sum());
    let taken = plan.lives.iter().position(|life| {
        let here = point < life.weight_in(place);
        point = point.saturating_sub(life.weight_in(place));
        here
    });
    taken.unwrap_or(0) as u16
}

/// The life of a machine.
impl Fleet {
    /// Every change of a machine's status is made here.
    pub(super) fn enter_status(&mut self, place: usize, status: MachineStatus) {
        let before = std::mem::replace(&mut self.nodes[place].status, status);
        *self.progress.at(before) -= 1;
        *self.progress.at(status) += 1;
    }

    /// Begins the step that the machine has come to.
    pub(super) fn enter(&mut self, place: usize, now: Instant, out: &mut Outbox) {
        match self.step_of(&self.nodes[place]) {
            None => self.come_up(place, now),
            Some(step @ (BootStep::Dhcp(firmware) | BootStep::Reboot(firmware))) => {
                let node = &mut self.nodes[place];
                let held = node.dhcp.lease().copied().filter(|_| matches!(step, BootStep::Reboot(_)));
                *node.dhcp = DhcpClient::new(&firmware.profile().dhcp);
                node.round = node.round.wrapping_add(1);
                let epoch = (mix(self.plan.seed ^ place as u64) as u32).wrapping_add(node.round.into());
                let xid = epoch << XID_BITS | place as u32;
                let step = match held {
                    Some(held) => node.dhcp.reboot(now, xid, held),
                    None => node.dhcp.start(now, xid),
                };
                self.apply_dhcp(place, now, step, out);
            }
            Some(BootStep::Fetch(firmware, file)) => {
                let node = &mut self.nodes[place];
                let port = node.next_port();
                let asks = self.plan.lives.get(usize::from(node.life)).map(|life| life.asks).unwrap_or_default();
                node.transfer = Download::prepared(&firmware.profile().tftp, asks, port);
                match self.find_server(place, file) {
                    Err(cause) => self.lose(place, now, cause),
                    Ok(()) if matches!(self.nodes[place].hop, Hop::Known(_)) => self.begin_transfer(place, now, out),
                    Ok(()) => self.ask_way(place, now, out),
                }
            }
        }
    }

    fn advance(&mut self, place: usize, now: Instant, out: &mut Outbox) {
        let node = &mut self.nodes[place];
        if let Some(through) = self.through.get_mut(place * self.steps_each + usize::from(node.step)) {
            *through = now;
        }
        node.step += 1;
        self.enter(place, now, out);
    }

    fn come_up(&mut self, place: usize, now: Instant) {
        self.enter_status(place, MachineStatus::Up);
        self.nodes[place].ended = now;
        // The last lease is kept alive by systems that do so.
        let wake = self.nodes[place].dhcp.wake();
        self.set_timer(place, wake);
    }

    fn lose(&mut self, place: usize, now: Instant, cause: Cause) {
        self.enter_status(place, MachineStatus::Lost(cause));
        self.nodes[place].ended = now;
        self.set_timer(place, None);
    }

    pub(super) fn set_timer(&mut self, place: usize, wake: Option<Instant>) {
        let node = &mut self.nodes[place];
        node.wake = wake;
        if let Some(wake) = wake.filter(|&wake| wake < node.armed) {
            node.armed = wake;
            self.wheel.set(place, wake);
        }
    }

    /// A machine whose timer goes off.
    fn due(&mut self, now: Instant) -> Option<usize> {
        loop {
            let place = self.wheel.expire(now)?;
            let node = &mut self.nodes[place];
            node.armed = NEVER;
            match node.wake.take() {
                Some(wake) if wake > now => self.set_timer(place, Some(wake)),
                Some(_) => return Some(place),
                None => {}
            }
        }
    }

    fn apply_dhcp(&mut self, place: usize, now: Instant, step: dhcp::DhcpStep, out: &mut Outbox) {
        let node = &mut self.nodes[place];
        node.retries += u32::from(step.retry);
        node.duplicates += u32::from(step.ignored);
        self.set_timer(place, step.wake);
        if let Some(kind) = step.send {
            self.send_dhcp(place, now, kind, out);
        }
        match step.end {
            None => {}
            Some(Err(cause)) => self.lose(place, now, cause),
            Some(Ok(())) if self.nodes[place].status == MachineStatus::Up => self.take_address(place),
            Some(Ok(())) => {
                self.take_address(place);
                let node = &mut self.nodes[place];
                node.first_lease.get_or_insert(now.since(node.dhcp.started()));
                self.advance(place, now, out);
            }
        }
    }

    /// Takes the address of the lease into use.
    fn take_address(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        let Some(address) = node.dhcp.lease().map(|lease| lease.address) else { return };
        let before = node.address.replace(address);
        if before == Some(address) {
            return;
        }
        node.moved |= before.or(node.had).is_some_and(|before| before != address);
        if let Some(before) = before {
            self.release(before, place);
        }
        let holder = self.addresses.get(address.to_bits().into()).and_then(|holder| self.nodes.get(holder as usize));
        let held = holder.is_some_and(|other| other.address == Some(address) && !matches!(other.status, MachineStatus::Lost(_)));
        self.conflicts += u64::from(held);
        self.addresses.insert(address.to_bits().into(), place as u32);
    }

    /// Who has this address shall not be found by it any more.
    pub(super) fn release(&mut self, address: Ipv4Addr, place: usize) {
        let key = address.to_bits().into();
        if self.addresses.get(key) == Some(place as u32) {
            self.addresses.remove(key);
        }
    }

    /// Where the file of this step comes from, and the way there.
    fn find_server(&mut self, place: usize, file: BootFile) -> Result<(), Cause> {
        let node = &mut self.nodes[place];
        let lease = node.dhcp.lease().ok_or(Cause::NoFile)?;
        let server = if lease.next_server.is_unspecified() { lease.server } else { lease.next_server };
        if file == BootFile::Offered && lease.file.is_empty() {
            return Err(Cause::NoFile);
        }
        let gateway = if lease.is_local(server) { server } else { lease.router.unwrap_or(server) };
        if (server, gateway) != (node.server, node.gateway) {
            node.hop = if lease.from.0 == gateway { Hop::Known(lease.from.1) } else { Hop::Asked(0) };
        }
        (node.server, node.gateway) = (server, gateway);
        Ok(())
    }

    fn ask_way(&mut self, place: usize, now: Instant, out: &mut Outbox) {
        let node = &mut self.nodes[place];
        let Hop::Asked(tries) = node.hop else { return };
        if tries >= ARP_TRIES {
            return self.lose(place, now, Cause::NoArp);
        }
        node.hop = Hop::Asked(tries + 1);
        node.retries += u32::from(tries > 0);
        let request = Arp {
            operation: ArpOp::Request,
            sender_mac: node.mac,
            sender_ip: node.address.unwrap_or(Ipv4Addr::UNSPECIFIED),
            target_mac: Mac::ZERO,
            target_ip: node.gateway,
        };
        self.set_timer(place, Some(now + ARP_WAIT));
        self.emit(place, out, |buf| emit_arp(buf, &request));
    }

    fn begin_transfer(&mut self, place: usize, now: Instant, out: &mut Outbox) {
        let node = &mut self.nodes[place];
        let port = node.transfer.port();
        let step = node.transfer.start(now, port);
        self.apply_tftp(place, now, step, out);
    }

    fn apply_tftp(&mut self, place: usize, now: Instant, step: tftp::DownloadStep, out: &mut Outbox) {
        let node = &mut self.nodes[place];
        node.retries += u32::from(step.retry);
        node.duplicates += u32::from(step.duplicate);
        if let Some(gap) = step.gap {
            node.gap = node.gap.max(gap);
            self.gaps.note(gap);
        }
        self.set_timer(place, step.wake);
        for send in step.sends.into_iter().flatten() {
            self.send_tftp(place, send, out);
        }
        if step.end.is_some() {
            let node = &mut self.nodes[place];
            node.bytes += node.transfer.hash().len();
        }
        match step.end {
            None => {}
            Some(Err(cause)) => self.lose(place, now, cause),
            Some(Ok(())) => {
                self.note_file(place);
                self.advance(place, now, out);
            }
        }
    }

    /// The file that the machine's step asks for.
    fn file_of(&self, place: usize) -> Option<&Name> {
        let node = self.nodes.get(place)?;
        match self.step_of(node)? {
            BootStep::Dhcp(_) | BootStep::Reboot(_) => None,
            BootStep::Fetch(_, BootFile::Offered) => node.dhcp.lease().map(|lease| &lease.file),
            BootStep::Fetch(_, BootFile::Named(n)) => self.names.get(usize::from(n)),
        }
    }

    fn note_file(&mut self, place: usize) {
        let Some(name) = self.file_of(place).copied() else { return };
        let node = &mut self.nodes[place];
        let hash = node.transfer.hash();
        let fetched = Fetched { name: self.loaded.intern(&name), len: hash.len(), hash: hash.finish() };
        let at = place * self.fetched_each + usize::from(node.fetched);
        if let Some(slot) = self.fetched.get_mut(at) {
            *slot = fetched;
            node.fetched += 1;
        }
    }
}

/// Frames out.
impl Fleet {
    /// Whether the machine's next frame in this direction gets through: what a machine sends wakes its switch port. Which of its frames are
    /// lost follows from the seed, the machine and the count of its frames, so that a storm on a real link can be repeated too.
    fn passes(&mut self, place: usize, out: bool) -> bool {
        let node = &mut self.nodes[place];
        if node.asleep > 0 {
            node.asleep -= u32::from(out);
            self.frames.asleep += 1;
            return false;
        }
        if self.plan.loss == 0 {
            return true;
        }
        node.frames = node.frames.wrapping_add(1);
        let draw = mix(mix(self.plan.seed ^ (place as u64) << 32) ^ u64::from(node.frames));
        let lost = ((draw >> 32) * 1_000_000) >> 32 < u64::from(self.plan.loss);
        self.frames.lost += u64::from(lost);
        !lost
    }

    fn emit(&mut self, place: usize, out: &mut Outbox, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        if self.passes(place, true) {
            self.frames.sent += 1;
            out.frame(0, write);
        }
    }

    fn send_dhcp(&mut self, place: usize, now: Instant, kind: MessageType, out: &mut Outbox) {
        let node = &self.nodes[place];
        let mut message = [0; MESSAGE_MAX];
        let Some(len) = node.dhcp.write(&mut message, kind, now, node.mac) else { return };
        let renewing = matches!(node.dhcp.state(), dhcp::DhcpState::Renewing | dhcp::DhcpState::Rebinding);
        let source = node.address.filter(|_| renewing).unwrap_or(Ipv4Addr::UNSPECIFIED);
        // A renewal goes to the server alone, by the way its ACK came.
        let lease = node.dhcp.lease().filter(|_| node.dhcp.state() == dhcp::DhcpState::Renewing);
        let (to, to_mac) = lease.map_or((Ipv4Addr::BROADCAST, Mac::BROADCAST), |lease| (lease.server, lease.from.1));
        let (from, to, mac) = (SocketAddrV4::new(source, CLIENT_PORT), SocketAddrV4::new(to, SERVER_PORT), node.mac);
        let message = message.get(..len).unwrap_or(&[]);
        self.emit(place, out, |buf| emit_udp(buf, mac, to_mac, from, to, 0, message));
    }

    fn send_tftp(&mut self, place: usize, send: tftp::DownloadSend, out: &mut Outbox) {
        let node = &self.nodes[place];
        let (Hop::Known(gateway), Some(address)) = (node.hop, node.address) else { return };
        let (mac, from, to) = (node.mac, SocketAddrV4::new(address, send.from), SocketAddrV4::new(node.server, send.to));
        if let DownloadPacket::Ack(block) = send.what {
            let mut packet = [0; 4];
            emit_ack(&mut packet, block);
            return self.emit(place, out, |buf| emit_udp(buf, mac, gateway, from, to, 0, &packet));
        }
        // Only an RRQ needs its name; a name has at most 255 bytes, its options less than 100.
        let name = self.file_of(place).copied().unwrap_or(Name::EMPTY);
        let mut packet = [0; MESSAGE_MAX];
        let Some(len) = send.what.write(&mut packet, &name) else { return };
        let packet = packet.get(..len).unwrap_or(&[]);
        self.emit(place, out, |buf| emit_udp(buf, mac, gateway, from, to, 0, packet));
    }
}

/// Frames in.
impl Fleet {
    /// A frame of the link; false when nobody of ours wants it.
    fn hear(&mut self, now: Instant, bytes: &[u8], out: &mut Outbox) -> bool {
        // Frames of a local virtual peer carry checksums that nobody filled in; wrong content shows in the hashes.
        match parse(bytes, Checksum::Trusted) {
            Ok(Frame::Udp(frame)) if frame.dst.port() == CLIENT_PORT => self.hear_dhcp(now, &frame, out),
            Ok(Frame::Udp(frame)) => self.hear_tftp(now, &frame, out),
            Ok(Frame::Arp(arp)) if arp.operation == ArpOp::Request => self.hear_arp_request(&arp, out),
            Ok(Frame::Arp(arp)) => self.hear_arp_reply(now, &arp, out),
            Ok(Frame::RouterSolicit(_)) | Err(_) => false,
        }
    }

    fn hear_dhcp(&mut self, now: Instant, frame: &UdpFrame<'_>, out: &mut Outbox) -> bool {
        // The xid stands at bytes 4 to 8 of every message (RFC 2131, 2).
        let xid = frame.payload.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        let by_xid = xid.map(|xid| (xid & XID_PLACE) as usize).filter(|&place| place < self.nodes.len());
        let place = if frame.dst_mac.is_group() { by_xid } else { self.place_of(frame.dst_mac) };
        let awaits = |node: &FleetNode| node.has_power() && Some(node.dhcp.xid()) == xid;
        let Some(place) = place.filter(|&place| awaits(&self.nodes[place])) else { return false };
        if !self.passes(place, false) {
            return true;
        }
        let node = &mut self.nodes[place];
        let living = matches!(node.status, MachineStatus::Booting | MachineStatus::Up);
        let Ok(message) = parse_dhcp(frame.payload, &mut self.scratch) else { return false };
        if !living || message.header.chaddr.get(..6) != Some(&node.mac.0[..]) {
            return false;
        }
        if !matches!(step_of(&self.plan, node), Some(BootStep::Dhcp(_) | BootStep::Reboot(_))) && node.status == MachineStatus::Booting {
            // A second ACK while files are being loaded.
            node.duplicates += 1;
            return true;
        }
        let step = node.dhcp.receive(now, &message, (*frame.src.ip(), frame.src_mac));
        self.apply_dhcp(place, now, step, out);
        true
    }

    fn hear_tftp(&mut self, now: Instant, frame: &UdpFrame<'_>, out: &mut Outbox) -> bool {
        let Some(place) = self.place_of(frame.dst_mac).filter(|&place| self.nodes[place].has_power()) else { return false };
        if !self.passes(place, false) {
            return true;
        }
        let node = &mut self.nodes[place];
        let ours = node.status == MachineStatus::Booting
            && node.address == Some(*frame.dst.ip())
            && node.server == *frame.src.ip()
            && node.transfer.port() == frame.dst.port()
            && node.transfer.expects(frame.src.port());
        if !ours {
            return false;
        }
        let Ok(packet) = parse_tftp(frame.payload) else { return false };
        let step = node.transfer.receive(now, frame.src.port(), &packet);
        self.apply_tftp(place, now, step, out);
        true
    }

    /// Somebody says where its address is now: who knew it somewhere else goes there (RFC 826, "merge").
    fn hear_announcement(&mut self, arp: &Arp) -> bool {
        let knows = |node: &&mut FleetNode| node.gateway == arp.sender_ip && matches!(node.hop, Hop::Known(_));
        self.nodes.iter_mut().filter(knows).for_each(|node| node.hop = Hop::Known(arp.sender_mac));
        true
    }

    fn hear_arp_request(&mut self, arp: &Arp, out: &mut Outbox) -> bool {
        if arp.sender_ip == arp.target_ip && !arp.sender_ip.is_unspecified() {
            return self.hear_announcement(arp);
        }
        let holder = self.addresses.get(arp.target_ip.to_bits().into()).map(|place| place as usize);
        let Some(place) = holder.filter(|&place| self.nodes.get(place).is_some_and(|node| node.address == Some(arp.target_ip))) else {
            return false;
        };
        let loading = matches!(self.step_of(&self.nodes[place]), Some(BootStep::Fetch(..)));
        let node = &self.nodes[place];
        let living = matches!(node.status, MachineStatus::Booting | MachineStatus::Up);
        // Its own question, back from the switch.
        if !living || arp.sender_mac == node.mac {
            return false;
        }
        if node.deaf && loading && node.status == MachineStatus::Booting {
            return true;
        }
        let reply = Arp {
            operation: ArpOp::Reply,
            sender_mac: node.mac,
            sender_ip: arp.target_ip,
            target_mac: arp.sender_mac,
            target_ip: arp.sender_ip,
        };
        if self.passes(place, false) {
            self.emit(place, out, |buf| emit_arp(buf, &reply));
        }
        true
    }

    fn hear_arp_reply(&mut self, now: Instant, arp: &Arp, out: &mut Outbox) -> bool {
        let Some(place) = self.place_of(arp.target_mac) else { return false };
        let node = &self.nodes[place];
        let asked = matches!(node.hop, Hop::Asked(tries) if tries > 0);
        if node.status != MachineStatus::Booting || !asked || node.gateway != arp.sender_ip {
            return false;
        }
        if self.passes(place, false) {
            self.nodes[place].hop = Hop::Known(arp.sender_mac);
            self.begin_transfer(place, now, out);
        }
        true
    }
}

impl Machine for Fleet {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        // The fleet lives on link 0 and knows nothing but frames.
        let Input::Frame { link: 0, bytes } = input else { return };
        self.frames.received += 1;
        if !self.hear(now.at, bytes, out) {
            self.frames.stray += 1;
        }
    }

    fn expire(&mut self, now: Now, out: &mut Outbox) {
        self.throw_switches(now.at);
        while out.has_room() {
            let Some(place) = self.due(now.at) else { return };
            let waits = matches!(self.nodes[place].hop, Hop::Asked(tries) if tries > 0);
            match (self.nodes[place].status, self.step_of(&self.nodes[place])) {
                (MachineStatus::Off, _) => self.power_on(place, now.at, out),
                (MachineStatus::Booting, Some(BootStep::Fetch(..))) if waits => self.ask_way(place, now.at, out),
                (MachineStatus::Booting, Some(BootStep::Fetch(..))) => {
                    let step = self.nodes[place].transfer.expire(now.at);
                    self.apply_tftp(place, now.at, step, out);
                }
                (MachineStatus::Booting | MachineStatus::Up, _) => {
                    let step = self.nodes[place].dhcp.expire(now.at);
                    self.apply_dhcp(place, now.at, step, out);
                }
                (MachineStatus::Lost(_) | MachineStatus::Cut, _) => {}
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [self.wheel.deadline(), self.next_switch()].into_iter().flatten().min()
    }
}
