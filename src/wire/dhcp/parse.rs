//! Reading a message. One pass finds every option; those that were split (RFC 3396) are joined in the caller's [`Scratch`].

use std::fmt;
use std::net::Ipv4Addr;

use super::{COOKIE, FIXED, Header, MessageType, code};

/// Why bytes are no DHCP or BOOTP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// Shorter than the fixed fields.
    Truncated,
    /// op is neither 1 nor 2.
    Op,
    /// hlen is above 16.
    HardwareLength,
    /// An option runs over the end of its field.
    OptionTruncated,
    /// A typed option (50, 51, 52, 53, 54, 57) has the wrong length or an impossible value.
    OptionValue,
    /// Split options are longer than any datagram.
    OptionTooLong,
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MessageError::Truncated => "it is too short for DHCP",
            MessageError::Op => "it is neither a request nor a reply",
            MessageError::HardwareLength => "its hardware address is too long",
            MessageError::OptionTruncated => "its last option is cut off",
            MessageError::OptionValue => "an option comes twice, or has a wrong length or value",
            MessageError::OptionTooLong => "an option is longer than any packet",
        })
    }
}

/// Where joined options lie while a message is looked at: reused for every message, so that parsing allocates nothing.
pub struct Scratch {
    joined: [u8; Scratch::SIZE],
}

impl Scratch {
    const SIZE: usize = 2048;
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch { joined: [0; Scratch::SIZE] }
    }
}

#[derive(Clone, Copy, Default)]
struct OptionSpan {
    start: u16,
    len: u16,
    /// 0 when absent.
    parts: u16,
}

/// A message that was understood. Options that the server decides by have been checked.
pub struct Message<'a> {
    /// The fixed fields of the message.
    pub header: Header,
    /// Up to its NUL; empty when it holds options.
    pub sname: &'a [u8],
    /// Likewise.
    pub file: &'a [u8],
    bytes: &'a [u8],
    joined: &'a [u8],
    places: [OptionSpan; 256],
}

/// The three fields that may hold options, in the order of RFC 3396.
fn fields(bytes: &[u8], overload: u8) -> [(usize, &[u8]); 3] {
    let options = (FIXED + 4, bytes.get(FIXED + 4..).unwrap_or(&[]));
    let file = (108, bytes.get(108..FIXED).filter(|_| overload & 1 != 0).unwrap_or(&[]));
    let sname = (44, bytes.get(44..108).filter(|_| overload & 2 != 0).unwrap_or(&[]));
    [options, file, sname]
}

/// Calls `found(code, start, len)` for each option of a field that begins at `base` of the message.
fn walk(base: usize, field: &[u8], mut found: impl FnMut(u8, usize, usize)) -> Result<(), MessageError> {
    let mut at = 0;
    while let Some(&option) = field.get(at) {
        match option {
            code::PAD => at += 1,
            code::END => return Ok(()),
            _ => {
                let len = usize::from(*field.get(at + 1).ok_or(MessageError::OptionTruncated)?);
                if at + 2 + len > field.len() {
                    return Err(MessageError::OptionTruncated);
                }
                found(option, base + at + 2, len);
                at += 2 + len;
            }
        }
    }
    Ok(())
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

fn header(bytes: &[u8]) -> Option<Header> {
    let ip = |at: usize| bytes.get(at..at + 4).and_then(address);
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    Some(Header {
        op: *bytes.first()?,
        htype: *bytes.get(1)?,
        hlen: *bytes.get(2)?,
        hops: *bytes.get(3)?,
        xid: u32::from(word(4)?) << 16 | u32::from(word(6)?),
        secs: word(8)?,
        flags: word(10)?,
        ciaddr: ip(12)?,
        yiaddr: ip(16)?,
        siaddr: ip(20)?,
        giaddr: ip(24)?,
        chaddr: bytes.get(28..44)?.try_into().ok()?,
    })
}

/// Reads a message; `scratch` holds its split options for as long as it lives.
pub fn parse<'a>(bytes: &'a [u8], scratch: &'a mut Scratch) -> Result<Message<'a>, MessageError> {
    let header = header(bytes).filter(|_| bytes.len() >= FIXED).ok_or(MessageError::Truncated)?;
    if !matches!(header.op, 1 | 2) {
        return Err(MessageError::Op);
    }
    if header.hlen > 16 {
        return Err(MessageError::HardwareLength);
    }
    let mut message = Message { header, sname: &[], file: &[], bytes, joined: &[], places: [OptionSpan::default(); 256] };
    let mut overload = 0;
    if bytes.get(FIXED..FIXED + 4) == Some(&COOKIE) {
        overload = message.find_options(bytes)?;
        message.joined = message.join(bytes, overload, &mut scratch.joined)?;
        message.check()?;
    }
    message.file = until_nul(bytes.get(108..FIXED).filter(|_| overload & 1 == 0));
    message.sname = until_nul(bytes.get(44..108).filter(|_| overload & 2 == 0));
    Ok(message)
}

fn until_nul(field: Option<&[u8]>) -> &[u8] {
    let field = field.unwrap_or(&[]);
    field.split(|&byte| byte == 0).next().unwrap_or(&[])
}

impl<'a> Message<'a> {
    /// Notes where each option is, or how much of it there is; gives the value of option 52.
    fn find_options(&mut self, bytes: &[u8]) -> Result<u8, MessageError> {
        let mut overload = None;
        let [(base, options), ..] = fields(bytes, 0);
        walk(base, options, |code, start, len| {
            if code == code::OVERLOAD {
                overload.get_or_insert((len, bytes.get(start).copied().unwrap_or(0)));
            }
        })?;
        let overload = match overload {
            None => 0,
            Some((1, value @ 1..=3)) => value,
            Some(_) => return Err(MessageError::OptionValue),
        };
        for (base, field) in fields(bytes, overload) {
            walk(base, field, |code, start, len| {
                let place = &mut self.places[usize::from(code)];
                if place.parts == 0 {
                    place.start = start as u16;
                }
                place.len = place.len.saturating_add(len as u16);
                place.parts += 1;
            })?;
        }
        Ok(overload)
    }

    /// Copies the parts of split options one behind the other.
    fn join<'s>(&mut self, bytes: &[u8], overload: u8, scratch: &'s mut [u8]) -> Result<&'s [u8], MessageError> {
        if self.places.iter().all(|place| place.parts < 2) {
            return Ok(&[]);
        }
        let mut used = 0usize;
        for place in self.places.iter_mut().filter(|place| place.parts > 1) {
            place.start = used as u16;
            used += usize::from(place.len);
            if used > scratch.len() {
                return Err(MessageError::OptionTooLong);
            }
            place.len = 0;
        }
        for (base, field) in fields(bytes, overload) {
            walk(base, field, |code, start, len| {
                let place = &mut self.places[usize::from(code)];
                if place.parts > 1 {
                    let to = usize::from(place.start + place.len);
                    if let (Some(to), Some(from)) = (scratch.get_mut(to..to + len), bytes.get(start..start + len)) {
                        to.copy_from_slice(from);
                    }
                    place.len += len as u16;
                }
            })?;
        }
        Ok(&scratch[..used])
    }

    fn check(&self) -> Result<(), MessageError> {
        // Joined values: a second option 52 contradicts the one that was followed, as a second 53 does (RFC 3396, 5).
        let sizes = [
            (code::REQUESTED_IP, 4),
            (code::LEASE_TIME, 4),
            (code::OVERLOAD, 1),
            (code::MESSAGE_TYPE, 1),
            (code::SERVER_ID, 4),
            (code::MAX_MESSAGE_SIZE, 2),
        ];
        let sound = |&(code, len): &(u8, usize)| self.option(code).is_none_or(|bytes| bytes.len() == len);
        let known = self.option(code::MESSAGE_TYPE).is_none_or(|_| self.message_type().is_some());
        if sizes.iter().all(sound) && known { Ok(()) } else { Err(MessageError::OptionValue) }
    }

    /// The bytes of an option, joined.
    pub fn option(&self, code: u8) -> Option<&'a [u8]> {
        let OptionSpan { start, len, parts } = self.places[usize::from(code)];
        let from = match parts {
            0 => return None,
            1 => self.bytes,
            _ => self.joined,
        };
        from.get(usize::from(start)..usize::from(start) + usize::from(len))
    }

    fn ip(&self, code: u8) -> Option<Ipv4Addr> {
        self.option(code).and_then(address)
    }

    /// None: a BOOTP message.
    pub fn message_type(&self) -> Option<MessageType> {
        self.option(code::MESSAGE_TYPE)?.first().and_then(|&code| MessageType::from_code(code))
    }

    /// Option 50. None when it is missing or has another length than 4.
    pub fn requested_ip(&self) -> Option<Ipv4Addr> {
        self.ip(code::REQUESTED_IP)
    }

    /// Option 54. None when it is missing or has another length than 4.
    pub fn server_id(&self) -> Option<Ipv4Addr> {
        self.ip(code::SERVER_ID)
    }

    /// Seconds.
    pub fn lease_time(&self) -> Option<u32> {
        self.option(code::LEASE_TIME)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Option 61, as it came.
    pub fn client_id(&self) -> Option<&'a [u8]> {
        self.option(code::CLIENT_ID)
    }

    /// Option 55: the codes that the client asks for.
    pub fn parameter_request_list(&self) -> Option<&'a [u8]> {
        self.option(code::PARAMETER_LIST)
    }

    /// Bytes of an IP datagram.
    pub fn max_message_size(&self) -> Option<u16> {
        self.option(code::MAX_MESSAGE_SIZE)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// Option 60, as it came.
    pub fn vendor_class(&self) -> Option<&'a [u8]> {
        self.option(code::VENDOR_CLASS)
    }

    /// Raw: see [`user_class_is`](super::user_class_is).
    pub fn user_class(&self) -> Option<&'a [u8]> {
        self.option(code::USER_CLASS)
    }

    /// The architectures of option 93 (RFC 4578, 2.1), the best first; None: it has no such option.
    pub fn architectures(&self) -> Option<impl Iterator<Item = u16>> {
        let codes = self.option(code::ARCHITECTURE)?.chunks_exact(2);
        Some(codes.map(|code| code.iter().fold(0, |code, byte| code << 8 | u16::from(*byte))))
    }

    /// Option 97 (RFC 4578, 2.3), with its type byte.
    pub fn machine_uuid(&self) -> Option<&'a [u8]> {
        self.option(code::MACHINE_UUID)
    }

    /// Option 82 (RFC 3046): the relay's sub-options.
    pub fn relay_agent_info(&self) -> Option<&'a [u8]> {
        self.option(code::RELAY_AGENT_INFO)
    }

    /// Option 12, as it came.
    pub fn host_name(&self) -> Option<&'a [u8]> {
        self.option(code::HOST_NAME)
    }
}
