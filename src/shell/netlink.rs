//! Netlink: a socket by which the kernel is asked about the machine's network, and the parts that its messages are made of.
//!
//! Requests are written by the netlink library, which allocates for each. What the kernel tells is read by hand, the few attributes that matter:
//! this runs on kernels newer than any library's idea of them. A request waits for the kernel's answer, which comes at once. Used by
//! this room only.

use std::io;
use std::net::Ipv4Addr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::ShellError;

/// Types of `linux/netlink.h` and `linux/rtnetlink.h`.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
pub const RTM_NEWLINK: u16 = 16;
pub const RTM_DELLINK: u16 = 17;
pub const RTM_NEWADDR: u16 = 20;
pub const RTM_DELADDR: u16 = 21;
pub const RTM_NEWROUTE: u16 = 24;
/// What was dumped has changed meanwhile.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// `struct nlmsghdr`, and before a message's attributes `ifinfomsg`, `ifaddrmsg` and `rtmsg`.
const HEADER: usize = 16;
pub const LINK_HEADER: usize = 16;
pub const ADDRESS_HEADER: usize = 8;
pub const ROUTE_HEADER: usize = 12;

/// A socket for requests.
pub struct Netlink {
    socket: Socket,
    buf: Vec<u8>,
    sequence: u32,
}

impl Netlink {
    /// Opens the socket. An error says why the kernel gives none.
    pub fn open() -> Result<Netlink, ShellError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(Netlink { socket, buf: vec![0; 64 * 1024], sequence: 0 })
        };
        open().map_err(|error: io::Error| ShellError::system("cannot open a netlink socket", error, ""))
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        self.sequence = self.sequence.wrapping_add(1);
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let len = request.header.length as usize;
        let Some(bytes) = self.buf.get_mut(..len) else { return Err(io::ErrorKind::InvalidInput.into()) };
        request.serialize(bytes);
        self.socket.send(bytes, 0).map(drop)
    }

    /// Changes something, and waits for the kernel's word on it.
    pub fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(message, NLM_F_ACK | flags)?;
        self.answers(|_, _| {}).map(drop)
    }

    /// Asks for all there is of something: each message's type and what follows its header. False: it changed meanwhile, so that what was told
    /// may have gaps.
    pub fn dump(&mut self, message: RouteNetlinkMessage, each: impl FnMut(u16, &[u8])) -> io::Result<bool> {
        self.send(message, NLM_F_DUMP)?;
        self.answers(each)
    }

    /// Takes what the kernel answers to the last message, up to its end or its refusal.
    fn answers(&mut self, mut each: impl FnMut(u16, &[u8])) -> io::Result<bool> {
        let mut whole = true;
        loop {
            let mut rest = self.buf.as_mut_slice();
            let got = self.socket.recv(&mut rest, 0)?;
            for message in KernelMessages(self.buf.get(..got).unwrap_or(&[])) {
                if message.sequence != self.sequence {
                    continue;
                }
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE => return Ok(whole),
                    NLMSG_ERROR => match word(message.body, 0) as i32 {
                        0 => return Ok(whole),
                        code => return Err(io::Error::from_raw_os_error(code.saturating_neg())),
                    },
                    kind => each(kind, message.body),
                }
            }
        }
    }
}

/// A message without its header.
pub struct KernelMessage<'a> {
    pub kind: u16,
    flags: u16,
    sequence: u32,
    pub body: &'a [u8],
}

/// The messages of a datagram, up to the first that is cut off.
pub struct KernelMessages<'a>(pub &'a [u8]);

impl<'a> Iterator for KernelMessages<'a> {
    type Item = KernelMessage<'a>;

    fn next(&mut self) -> Option<KernelMessage<'a>> {
        let header = self.0.get(..HEADER)?;
        let len = word(header, 0) as usize;
        let body = self.0.get(HEADER..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some(KernelMessage { kind: half(header, 4), flags: half(header, 6), sequence: word(header, 8), body })
    }
}

/// The attributes of a message: type and value, up to the first that is cut off.
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// Those behind a header of so many bytes.
    pub fn behind(body: &'a [u8], header: usize) -> Attributes<'a> {
        Attributes(body.get(header..).unwrap_or(&[]))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let (header, _) = self.0.split_at_checked(4)?;
        let (len, kind) = (usize::from(half(header, 0)), half(header, 2));
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        // The two high bits say how the value is built.
        Some((kind & 0x3fff, value))
    }
}

/// The 32 bits at a place, in the machine's own order; 0 where there are none.
pub fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |&word| u32::from_ne_bytes(word))
}

/// The same of 16 bits.
pub fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |&half| u16::from_ne_bytes(half))
}

/// An attribute that is an IPv4 address.
pub fn ip(value: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from)
}

/// An attribute that is a name, without the zero at its end.
pub fn name(value: &[u8]) -> &[u8] {
    value.strip_suffix(&[0]).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_datagram_holds_several_messages() {
        let one = |kind: u16, body: &[u8]| {
            let len = (HEADER + body.len()) as u32;
            let mut bytes = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0, 0], &7u32.to_ne_bytes(), &[0; 4], body].concat();
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let both = [one(16, b"abc"), one(20, b"defg")].concat();
        let read: Vec<_> = KernelMessages(&both).map(|message| (message.kind, message.sequence, message.body)).collect();
        assert_eq!(read, [(16, 7, &b"abc"[..]), (20, 7, &b"defg"[..])]);
        assert_eq!(KernelMessages(&both[..both.len() - 1]).count(), 1, "the second one is cut off");
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(KernelMessages(&bytes).count() <= bytes.len() / HEADER);
            prop_assert!(Attributes(&bytes).count() <= bytes.len());
        }
    }
}
