//! Writing a message, straight into the buffer that it leaves from.
//!
//! Options go into the options field up to the client's limit, and when that is full into `sname` and then into `file` if these
//! are free (option 52). An option is written whole or not at all; one of more than 255 bytes is split (RFC 3396) and must fit one field. Room
//! for END, for option 52 and for the relay agent's option, which goes last (RFC 3046), is always kept.

use std::net::Ipv4Addr;

use super::{COOKIE, FIXED, Header, MESSAGE_MIN, MessageType, code};

/// END, and option 52 with its value.
const TAIL: usize = 1 + 3;
/// What fits an Ethernet frame behind IP and UDP headers.
const RELAYED_MAX: usize = 1472;

const SNAME: (usize, usize) = (44, 108);
const FILE: (usize, usize) = (108, FIXED);

/// Writes a message into a buffer: the header first, then options, then [`MessageBuilder::finish`].
pub struct MessageBuilder<'b> {
    buf: &'b mut [u8],
    /// Where the next option of the options field goes.
    at: usize,
    /// The end of the options field.
    limit: usize,
    /// Where the next option goes in `sname` and in `file`; None: the field holds its own text.
    sname: Option<usize>,
    file: Option<usize>,
}

impl<'b> MessageBuilder<'b> {
    /// Begins a message of at most `max` bytes (IP and UDP headers not counted, at least 300). None when the buffer is smaller than
    /// any message.
    pub fn new(buf: &'b mut [u8], header: &Header, max: usize) -> Option<MessageBuilder<'b>> {
        let limit = max.max(MESSAGE_MIN).min(buf.len());
        if limit < MESSAGE_MIN {
            return None;
        }
        let fixed = buf.get_mut(..limit)?;
        fixed.fill(0);
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            fixed[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&[header.op, header.htype, header.hlen, header.hops]);
        put(&header.xid.to_be_bytes());
        put(&header.secs.to_be_bytes());
        put(&header.flags.to_be_bytes());
        for address in [header.ciaddr, header.yiaddr, header.siaddr, header.giaddr] {
            put(&address.octets());
        }
        put(&header.chaddr);
        fixed[FIXED..FIXED + 4].copy_from_slice(&COOKIE);
        Some(MessageBuilder { buf, at: FIXED + 4, limit, sname: Some(SNAME.0), file: Some(FILE.0) })
    }

    /// Sets `sname`, with its NUL. False when it does not fit, or when options are there already.
    pub fn sname(&mut self, text: &[u8]) -> bool {
        let fits = self.sname == Some(SNAME.0) && self.field(SNAME, text);
        self.sname = self.sname.filter(|_| !fits);
        fits
    }

    /// Sets `file`, likewise.
    pub fn file(&mut self, text: &[u8]) -> bool {
        let fits = self.file == Some(FILE.0) && self.field(FILE, text);
        self.file = self.file.filter(|_| !fits);
        fits
    }

    fn field(&mut self, (start, end): (usize, usize), text: &[u8]) -> bool {
        let fits = text.len() < end - start;
        if fits {
            self.buf[start..start + text.len()].copy_from_slice(text);
        }
        fits
    }

    /// Adds an option. False when there is no room; nothing of it is written then.
    pub fn option(&mut self, code: u8, bytes: &[u8]) -> bool {
        let len = bytes.len() + 2 * bytes.len().div_ceil(255).max(1);
        if self.at + len + TAIL <= self.limit {
            self.at = self.put(self.at, code, bytes);
            return true;
        }
        if let Some(at) = self.sname.filter(|at| at + len < SNAME.1) {
            self.sname = Some(self.put(at, code, bytes));
            return true;
        }
        if let Some(at) = self.file.filter(|at| at + len < FILE.1) {
            self.file = Some(self.put(at, code, bytes));
            return true;
        }
        false
    }

    /// Lays an option down; the caller knows that it fits. Gives where the next one goes.
    fn put(&mut self, mut at: usize, code: u8, bytes: &[u8]) -> usize {
        let mut part = |part: &[u8]| {
            self.buf[at] = code;
            self.buf[at + 1] = part.len() as u8;
            self.buf[at + 2..at + 2 + part.len()].copy_from_slice(part);
            at += 2 + part.len();
        };
        if bytes.is_empty() {
            part(bytes);
        }
        bytes.chunks(255).for_each(part);
        at
    }

    /// Option 53 (RFC 2132, 9.6). False when there is no room.
    pub fn message_type(&mut self, kind: MessageType) -> bool {
        self.option(code::MESSAGE_TYPE, &[kind as u8])
    }

    /// An option that is one IPv4 address. False when there is no room.
    pub fn ip(&mut self, code: u8, address: Ipv4Addr) -> bool {
        self.option(code, &address.octets())
    }

    /// A list of addresses, the first 63 of them; no option when it is empty.
    pub fn ips(&mut self, code: u8, addresses: &[Ipv4Addr]) -> bool {
        let mut bytes = [0u8; 252];
        let mut len = 0;
        for (to, address) in bytes.chunks_exact_mut(4).zip(addresses) {
            to.copy_from_slice(&address.octets());
            len += 4;
        }
        len > 0 && self.option(code, &bytes[..len])
    }

    /// An option that is a 32-bit number in network order, such as seconds. False when there is no room.
    pub fn u32(&mut self, code: u8, value: u32) -> bool {
        self.option(code, &value.to_be_bytes())
    }

    /// Ends the message, with the relay agent's option (82) behind all others; gives its length, at least 300.
    pub fn finish(mut self, relay_agent_info: Option<&[u8]>) -> usize {
        let in_sname = self.sname.filter(|&at| at > SNAME.0);
        let in_file = self.file.filter(|&at| at > FILE.0);
        for at in [in_sname, in_file].into_iter().flatten() {
            self.buf[at] = code::END;
        }
        let overload = u8::from(in_file.is_some()) | u8::from(in_sname.is_some()) << 1;
        if overload > 0 {
            self.at = self.put(self.at, code::OVERLOAD, &[overload]);
        }
        // What a relay sent it takes back, whatever the client's limit is: the buffer alone bounds it.
        if let Some(info) = relay_agent_info {
            let len = info.len() + 2 * info.len().div_ceil(255).max(1);
            if self.at + len < self.buf.len().min(RELAYED_MAX) {
                self.at = self.put(self.at, code::RELAY_AGENT_INFO, info);
            }
        }
        self.buf[self.at] = code::END;
        let end = self.at + 1;
        if end < MESSAGE_MIN {
            self.buf[end..MESSAGE_MIN].fill(0);
        }
        end.max(MESSAGE_MIN)
    }
}
