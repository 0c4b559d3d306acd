//! The cable of a test that speaks for all machines: they say what it chooses, and it hears what they get.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::config::HEAD_MAC;
use super::net::{Odds, Wire};
use crate::base::addr::Mac;
use crate::base::machine::{Input, Machine};
use crate::base::outbox::Outbox;
use crate::base::time::{Instant, Now};
use crate::wire::dhcp::{Header, MessageBuilder, MessageType, code};
use crate::wire::ether::{self, Arp, ArpOp, Checksum, Frame};

/// The port of DHCP servers, and that of their clients (RFC 2131, 4.1).
const SERVER: u16 = 67;
const CLIENT: u16 = 68;
/// A client's message, and its frame.
const MESSAGE_MAX: usize = 1400;
const FRAME_MAX: usize = 1514;

/// A cable that takes no time.
pub const WIRE: Wire = Wire { rate: 0, queue: usize::MAX, queue_up: usize::MAX, delay: Duration::ZERO, odds: Odds::NONE };

/// What machines hear.
pub enum Heard {
    /// What a DHCP server answers.
    Reply(Vec<u8>),
    /// The head asks who has an address.
    Probe(Ipv4Addr),
}

/// What a test says on the link by hand, frame by frame, and what it hears.
#[derive(Default)]
pub struct Cable {
    said: VecDeque<Vec<u8>>,
    heard: VecDeque<Heard>,
}

impl Cable {
    /// What was heard next.
    pub fn hear(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    /// Something was heard.
    pub fn has_heard(&self) -> bool {
        !self.heard.is_empty()
    }

    /// The machine of `header` says something to a DHCP server, from an address of its own or from none. Options are in order.
    pub fn dhcp(&mut self, header: &Header, kind: MessageType, (from, to): (Ipv4Addr, Ipv4Addr), options: &[(u8, &[u8])]) {
        let mut message = [0; MESSAGE_MAX];
        let mut builder = MessageBuilder::new(&mut message, header, MESSAGE_MAX).expect("there is room for a message");
        let mut fits = builder.option(code::MESSAGE_TYPE, &[kind as u8]);
        options.iter().for_each(|(code, value)| fits &= builder.option(*code, value));
        assert!(fits, "there is room for what a machine says");
        let len = builder.finish(None);
        let [a, b, c, d, e, f, ..] = header.chaddr;
        let frame_to = if to.is_broadcast() { Mac::BROADCAST } else { HEAD_MAC };
        let (from, to) = (SocketAddrV4::new(from, CLIENT), SocketAddrV4::new(to, SERVER));
        self.say(|buf| ether::emit_udp(buf, Mac([a, b, c, d, e, f]), frame_to, from, to, 1, &message[..len]));
    }

    /// A machine answers that it has an address.
    pub fn claim(&mut self, mac: Mac, ip: Ipv4Addr) {
        let claim = Arp { operation: ArpOp::Reply, sender_mac: mac, sender_ip: ip, target_mac: HEAD_MAC, target_ip: Ipv4Addr::UNSPECIFIED };
        self.say(|buf| ether::emit_arp(buf, &claim));
    }

    fn say(&mut self, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let mut frame = vec![0; FRAME_MAX];
        let len = write(&mut frame).expect("there is room for a frame");
        frame.truncate(len);
        self.said.push_back(frame);
    }
}

impl Machine for Cable {
    fn handle(&mut self, _: Now, input: Input<'_>, _: &mut Outbox) {
        let Input::Frame { bytes, .. } = input else { return };
        match ether::parse(bytes, Checksum::Trusted) {
            Ok(Frame::Udp(frame)) if frame.dst.port() == CLIENT => self.heard.push_back(Heard::Reply(frame.payload.to_vec())),
            Ok(Frame::Arp(arp)) if arp.operation == ArpOp::Request => self.heard.push_back(Heard::Probe(arp.target_ip)),
            _ => {}
        }
    }

    fn expire(&mut self, _: Now, out: &mut Outbox) {
        while let Some(frame) = self.said.front().filter(|_| out.has_room()) {
            let put = out.frame(0, |buf| {
                buf.get_mut(..frame.len())?.copy_from_slice(frame);
                Some(frame.len())
            });
            assert!(put, "there is room for a frame");
            self.said.pop_front();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        (!self.said.is_empty()).then_some(Instant::ZERO)
    }
}
