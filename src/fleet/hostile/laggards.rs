//! Invented machines that load a file and answer, though too late: each acknowledgement keeps its transfer alive, and says that the way
//! is slow or loses.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::{OfferedHead, chaddr};
use crate::base::addr::Mac;
use crate::base::outbox::Outbox;
use crate::base::time::Instant;
use crate::fleet::Name;
use crate::fleet::dhcp::MESSAGE_MAX;
use crate::wire::dhcp::{Header, Message, MessageBuilder, MessageType, code};
use crate::wire::ether::{Arp, ArpOp, Frame, UdpFrame, emit_arp, emit_udp};
use crate::wire::tftp::{Mode, Packet, TftpOptions, emit_ack, emit_rrq, parse as parse_tftp};

/// How many there are of each kind.
const COUNT: u8 = 20;
const WINDOW: u16 = 16;
const BLKSIZE: u16 = 1468;
/// Hears nothing: begins again, or repeats the last acknowledgement.
const BEGIN_AGAIN: Duration = Duration::from_secs(3);
const REPEAT: Duration = Duration::from_secs(1);

/// What they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// Acknowledges three windows at once, and all others 300 ms late.
    Late,
    /// Repeats its first acknowledgement 200 ms after each window, for ever.
    Same,
}

impl Habit {
    fn delay(self, acks: u32) -> Duration {
        match (self, acks) {
            (Habit::Late, ..3) | (Habit::Same, 0) => Duration::ZERO,
            (Habit::Late, _) => Duration::from_millis(300),
            (Habit::Same, _) => Duration::from_millis(200),
        }
    }
}

/// What one says next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    Discover,
    Request(Ipv4Addr),
    Rrq,
    Ack,
}

struct Laggard {
    mac: Mac,
    /// None: a guest without a lease yet.
    address: Option<Ipv4Addr>,
    port: u16,
    /// The server's port, once something has come from it.
    peer: Option<u16>,
    window: u16,
    acked: u16,
    /// Blocks of the present window that have come, and acknowledgements sent.
    got: u16,
    acks: u32,
    say: Say,
    at: Instant,
}

/// A crowd of one habit.
pub(super) struct Laggards {
    habit: Habit,
    guests: bool,
    crowd: Vec<Laggard>,
    /// Whose turn it is.
    turn: usize,
}

impl Laggards {
    /// `guests`: they take a lease first; else their addresses are invented. No two crowds have a MAC in common.
    pub fn new(habit: Habit, guests: bool, now: Instant) -> Laggards {
        let laggard = |n| Laggard {
            mac: Mac([0x02, 0x68, 0, habit as u8, guests.into(), n]),
            address: None,
            port: 1024 + u16::from(n),
            peer: None,
            window: WINDOW,
            acked: 0,
            got: 0,
            acks: 0,
            say: if guests { Say::Discover } else { Say::Rrq },
            at: now,
        };
        Laggards { habit, guests, crowd: (0..COUNT).map(laggard).collect(), turn: 0 }
    }

    /// The next frame that is due. None: nobody has anything to say yet.
    pub fn write(&mut self, now: Instant, head: &OfferedHead, file: &Name, buf: &mut [u8]) -> Option<usize> {
        let count = self.crowd.len();
        let at = (1..=count).map(|step| (self.turn + step) % count).find(|&at| self.crowd[at].at <= now)?;
        self.turn = at;
        let laggard = &mut self.crowd[at];
        if !self.guests {
            // From the far end of the network, where no node is.
            let crowd = 2 + u32::from(COUNT) * self.habit as u32;
            laggard.address = Some(Ipv4Addr::from_bits((head.address.to_bits() | !head.mask) - crowd - at as u32));
        }
        laggard.write(now, head, file, buf)
    }

    /// Takes in what the head says to one of them.
    pub fn hear(&mut self, now: Instant, frame: &Frame<'_>, out: &mut Outbox) {
        match frame {
            Frame::Udp(frame) => {
                let Laggards { habit, crowd, .. } = self;
                let to_it = |laggard: &&mut Laggard| laggard.address == Some(*frame.dst.ip()) && laggard.port == frame.dst.port();
                if let Some(laggard) = crowd.iter_mut().find(to_it) {
                    laggard.take(now, *habit, frame);
                }
            }
            Frame::Arp(arp) if arp.operation == ArpOp::Request && !arp.sender_ip.is_unspecified() => {
                let Some(laggard) = self.crowd.iter().find(|laggard| laggard.address == Some(arp.target_ip)) else { return };
                let reply = Arp {
                    operation: ArpOp::Reply,
                    sender_mac: laggard.mac,
                    sender_ip: arp.target_ip,
                    target_mac: arp.sender_mac,
                    target_ip: arp.sender_ip,
                };
                out.frame(0, |buf| emit_arp(buf, &reply));
            }
            _ => {}
        }
    }

    /// Takes in a DHCP reply to one of them.
    pub fn leased(&mut self, now: Instant, message: &Message<'_>) {
        let to_it = |laggard: &&mut Laggard| laggard.address.is_none() && message.header.chaddr == chaddr(laggard.mac);
        let Some(laggard) = self.crowd.iter_mut().find(to_it) else { return };
        match message.message_type() {
            Some(MessageType::Offer) => laggard.then(Say::Request(message.header.yiaddr), now),
            Some(MessageType::Ack) => {
                laggard.address = Some(message.header.yiaddr);
                laggard.then(Say::Rrq, now);
            }
            _ => {}
        }
    }
}

impl Laggard {
    fn then(&mut self, say: Say, at: Instant) {
        (self.say, self.at) = (say, at);
    }

    fn write(&mut self, now: Instant, head: &OfferedHead, file: &Name, buf: &mut [u8]) -> Option<usize> {
        let mut body = [0; MESSAGE_MAX];
        match self.say {
            Say::Discover => {
                self.then(Say::Discover, now + BEGIN_AGAIN);
                self.dhcp(head, MessageType::Discover, None, buf)
            }
            Say::Request(address) => {
                self.then(Say::Discover, now + BEGIN_AGAIN);
                self.dhcp(head, MessageType::Request, Some(address), buf)
            }
            Say::Rrq => {
                self.port = if self.port > 60_000 { 1024 } else { self.port + 32 };
                (self.peer, self.acked, self.got, self.acks) = (None, 0, 0, 0);
                self.then(Say::Rrq, now + BEGIN_AGAIN);
                let options = TftpOptions { windowsize: Some(WINDOW), blksize: Some(BLKSIZE), ..TftpOptions::default() };
                let len = emit_rrq(&mut body, file.bytes(), Mode::Octet, &options)?;
                self.udp(head, 69, body.get(..len)?, buf)
            }
            Say::Ack => {
                self.acks += 1;
                self.got = 0;
                self.then(Say::Ack, now + REPEAT);
                let len = emit_ack(&mut body, self.acked)?;
                self.udp(head, self.peer?, body.get(..len)?, buf)
            }
        }
    }

    fn udp(&self, head: &OfferedHead, port: u16, payload: &[u8], buf: &mut [u8]) -> Option<usize> {
        let (from, to) = (SocketAddrV4::new(self.address?, self.port), SocketAddrV4::new(head.address, port));
        emit_udp(buf, self.mac, head.mac, from, to, 0, payload)
    }

    fn dhcp(&self, head: &OfferedHead, kind: MessageType, wanted: Option<Ipv4Addr>, buf: &mut [u8]) -> Option<usize> {
        let header = Header { xid: self.port.into(), flags: Header::BROADCAST, chaddr: chaddr(self.mac), ..Header::default() };
        let mut body = [0; MESSAGE_MAX];
        let mut builder = MessageBuilder::new(&mut body, &header, MESSAGE_MAX)?;
        builder.message_type(kind);
        if let Some(address) = wanted {
            builder.ip(code::SERVER_ID, head.address);
            builder.ip(code::REQUESTED_IP, address);
        }
        let len = builder.finish(None);
        emit_udp(buf, self.mac, Mac::BROADCAST, super::NOBODY, super::EVERYBODY, 0, body.get(..len)?)
    }

    /// A packet of its transfer.
    fn take(&mut self, now: Instant, habit: Habit, frame: &UdpFrame<'_>) {
        if self.peer.is_some_and(|peer| peer != frame.src.port()) {
            return;
        }
        let delay = habit.delay(self.acks);
        match parse_tftp(frame.payload) {
            Ok(Packet::Oack(options)) => {
                (self.peer, self.window) = (Some(frame.src.port()), options.windowsize.unwrap_or(1));
                self.then(Say::Ack, now + delay);
            }
            Ok(Packet::Data { block, data }) => {
                if block == self.acked.wrapping_add(self.got + 1) {
                    self.got += 1;
                }
                let ends = data.len() < usize::from(BLKSIZE);
                if self.got < self.window && !ends {
                    return;
                }
                if habit == Habit::Late {
                    self.acked = self.acked.wrapping_add(std::mem::take(&mut self.got));
                }
                match ends && habit == Habit::Late {
                    true => self.then(Say::Rrq, now),
                    false => self.then(Say::Ack, now + delay),
                }
            }
            Ok(Packet::Error { .. }) => self.then(Say::Rrq, now + REPEAT),
            _ => {}
        }
    }
}
