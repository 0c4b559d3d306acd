//! The project's own DHCP codec: RFC 2131 (messages), 2132 (options), 951 and 1542 (BOOTP), 3046 (relay agents), 3396 (long options),
//! 4578 (PXE).
//!
//! Parsing law: everything is parsed before anything is acted upon. A message is its 236 fixed bytes, the magic cookie and options up to END;
//! what follows END is ignored, a missing END is tolerated, an option that is cut off is not. A message without the cookie is
//! BOOTP without options. Options are joined over the options field, then `file`, then `sname`, as option 52 says (RFC 3396, 5).

pub(crate) mod build;
pub mod code;
mod parse;

use std::net::Ipv4Addr;

pub use build::MessageBuilder;
pub use parse::{Message, MessageError, Scratch, parse};

/// Bytes before the options: fixed fields and magic cookie.
pub const FIXED: usize = 236;
/// What precedes the options of DHCP and BOOTP (RFC 2132, 2).
pub const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// RFC 951: no BOOTP message is shorter.
pub const MESSAGE_MIN: usize = 300;

/// The fixed fields but `sname` and `file` (RFC 2131, 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// 1 in requests, 2 in replies.
    pub op: u8,
    /// The hardware type of ARP (RFC 1700): 1 for Ethernet, 32 for InfiniBand.
    pub htype: u8,
    /// Bytes of `chaddr` in use, at most 16.
    pub hlen: u8,
    /// Relays that it passed.
    pub hops: u8,
    /// The client's choice, the same in all messages of an exchange.
    pub xid: u32,
    /// Seconds, or what iPXE makes of them.
    pub secs: u16,
    /// The highest bit asks for broadcast replies ([`Header::BROADCAST`]).
    pub flags: u16,
    /// The address that the client uses already.
    pub ciaddr: Ipv4Addr,
    /// "Your" address: the one that the client is given.
    pub yiaddr: Ipv4Addr,
    /// The server to load the boot file from.
    pub siaddr: Ipv4Addr,
    /// The relay that the message came through; unspecified on the link itself.
    pub giaddr: Ipv4Addr,
    /// The client's hardware address, in the first `hlen` bytes.
    pub chaddr: [u8; 16],
}

impl Header {
    /// The flag of clients that cannot receive unicast before they have an address.
    pub const BROADCAST: u16 = 0x8000;

    /// Whether the client asks for broadcast replies (RFC 2131, 4.1).
    pub fn broadcast(&self) -> bool {
        self.flags & Header::BROADCAST != 0
    }
}

impl Default for Header {
    fn default() -> Header {
        let zero = Ipv4Addr::UNSPECIFIED;
        Header {
            op: 1,
            htype: 1,
            hlen: 6,
            hops: 0,
            xid: 0,
            secs: 0,
            flags: 0,
            ciaddr: zero,
            yiaddr: zero,
            siaddr: zero,
            giaddr: zero,
            chaddr: [0; 16],
        }
    }
}

/// Option 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageType {
    /// DHCPDISCOVER: the client looks for servers.
    Discover = 1,
    /// DHCPOFFER: a server offers an address.
    Offer = 2,
    /// DHCPREQUEST: the client takes an offer, confirms an address or prolongs its lease.
    Request = 3,
    /// DHCPDECLINE: somebody else uses the address.
    Decline = 4,
    /// DHCPACK: the lease is granted.
    Ack = 5,
    /// DHCPNAK: the address is denied.
    Nak = 6,
    /// DHCPRELEASE: the client gives its address back.
    Release = 7,
    /// DHCPINFORM: the client has an address and asks for options only.
    Inform = 8,
}

impl MessageType {
    /// The name in RFC 2131.
    pub const fn name(self) -> &'static str {
        match self {
            MessageType::Discover => "DISCOVER",
            MessageType::Offer => "OFFER",
            MessageType::Request => "REQUEST",
            MessageType::Decline => "DECLINE",
            MessageType::Ack => "ACK",
            MessageType::Nak => "NAK",
            MessageType::Release => "RELEASE",
            MessageType::Inform => "INFORM",
        }
    }

    /// The kind with this code of option 53; None above 8 and for 0.
    pub const fn from_code(code: u8) -> Option<MessageType> {
        Some(match code {
            1 => MessageType::Discover,
            2 => MessageType::Offer,
            3 => MessageType::Request,
            4 => MessageType::Decline,
            5 => MessageType::Ack,
            6 => MessageType::Nak,
            7 => MessageType::Release,
            8 => MessageType::Inform,
            _ => return None,
        })
    }
}

/// Whether an option 77 names a user class: as RFC 3004 has it (length before each), or raw as iPXE sends it.
pub fn user_class_is(raw: &[u8], name: &[u8]) -> bool {
    raw == name || Classes(raw).any(|class| class == name)
}

struct Classes<'a>(&'a [u8]);

impl<'a> Iterator for Classes<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&len, rest) = self.0.split_first()?;
        let (class, rest) = rest.split_at_checked(len.into())?;
        self.0 = rest;
        Some(class)
    }
}

/// The sub-options of an encapsulating option (82, 43, 175): code and bytes, up to the first that is cut off.
pub struct SubOptions<'a>(pub &'a [u8]);

impl<'a> Iterator for SubOptions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        loop {
            match *self.0 {
                [code::PAD, ref rest @ ..] => self.0 = rest,
                [code, len, ref rest @ ..] if code != code::END => {
                    let (bytes, rest) = rest.split_at_checked(len.into())?;
                    self.0 = rest;
                    return Some((code, bytes));
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests;
