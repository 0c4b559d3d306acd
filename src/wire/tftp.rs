//! TFTP packets: RFC 1350, with the option extension of RFC 2347 and the options of RFC 2348 (blksize), 2349 (timeout, tsize) and
//! 7440 (windowsize).
//!
//! Parsing law: a request uses its bytes up to the last NUL (what follows is ignored); every other packet uses all its bytes. Unknown options are
//! ignored, and so are known ones with a value that is no number or too small; one that is too large is the largest there is. So the server
//! acknowledges what it can do, and leaves the rest out (RFC 2347).

use crate::base::limits;

/// The blksize option (RFC 2348).
pub const BLKSIZE_MIN: u16 = 8;
/// The block size without the option, in bytes (RFC 1350, 2).
pub const BLKSIZE_DEFAULT: u16 = 512;
/// The largest block size that may be asked for, in bytes (RFC 2348).
pub const BLKSIZE_MAX: u16 = 65_464;

/// Transfers a client record pays for: one running, and one orphan that the client gave up without a word (iPXE's way).
pub const TRANSFERS_PER_CLIENT: usize = 2;

const _: () = assert!(limits::RUN_BYTES_MAX > BLKSIZE_MAX as usize);

/// Why bytes are no TFTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// It ends before its fields do.
    Truncated,
    /// It has an unknown opcode.
    Opcode,
    /// An empty file name, or one without its NUL.
    Name,
    /// Neither octet nor netascii.
    Mode,
}

/// A packet of TFTP (RFC 1350, 5; RFC 2347 for OACK).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// RRQ or WRQ: a transfer begins.
    Request(TftpRequest<'a>),
    /// DATA: a block of the file.
    Data {
        /// Its number, from 1; it wraps after 65,535.
        block: u16,
        /// One block; the last one is shorter than the others.
        data: &'a [u8],
    },
    /// ACK: everything up to a block has arrived.
    Ack {
        /// The last block that has arrived; 0 acknowledges an OACK.
        block: u16,
    },
    /// ERROR: the transfer ends.
    Error {
        /// One of [`ErrorCode`], or any other.
        code: u16,
        /// A text for people, without its NUL.
        message: &'a [u8],
    },
    /// The options that the server accepts.
    Oack(TftpOptions),
}

/// A request to read or to write a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TftpRequest<'a> {
    /// WRQ rather than RRQ.
    pub write: bool,
    /// The file, in bytes as the client wrote it.
    pub filename: &'a [u8],
    /// How bytes are sent.
    pub mode: Mode,
    /// The options that were understood; others are left out.
    pub options: TftpOptions,
}

/// The transfer modes (RFC 1350, 1); `mail` is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bytes as they are.
    Octet,
    /// Text with line ends as CR LF.
    Netascii,
}

/// The options that this codec knows; of a repeated one the first counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TftpOptions {
    /// Bytes of a block, 8 to 65,464 (RFC 2348).
    pub blksize: Option<u16>,
    /// Bytes of the file; 0 in a read request (RFC 2349).
    pub tsize: Option<u64>,
    /// Seconds between re-transmissions, 1 to 255 (RFC 2349).
    pub timeout: Option<u8>,
    /// Blocks of a window, 1 to 65,535 (RFC 7440).
    pub windowsize: Option<u16>,
}

impl TftpOptions {
    /// Whether no option is set.
    pub fn is_empty(&self) -> bool {
        *self == TftpOptions::default()
    }

    fn set(&mut self, name: &[u8], value: &[u8]) {
        fn first<T>(slot: &mut Option<T>, value: Option<T>) {
            *slot = slot.take().or(value);
        }
        let up_to = |low, high| number(value).filter(|n| *n >= low).map(|n| n.min(high));
        match name {
            n if n.eq_ignore_ascii_case(b"blksize") => {
                first(&mut self.blksize, up_to(BLKSIZE_MIN.into(), BLKSIZE_MAX.into()).map(|n| n as u16));
            }
            n if n.eq_ignore_ascii_case(b"tsize") => first(&mut self.tsize, number(value)),
            // An interval is kept to or not: there is no next best one (RFC 2349).
            n if n.eq_ignore_ascii_case(b"timeout") => {
                first(&mut self.timeout, number(value).and_then(|n| u8::try_from(n).ok()).filter(|n| *n > 0));
            }
            n if n.eq_ignore_ascii_case(b"windowsize") => first(&mut self.windowsize, up_to(1, 65_535).map(|n| n as u16)),
            _ => {}
        }
    }
}

/// A decimal number; one that is larger than any counts as the largest.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(n.saturating_mul(10).saturating_add(digit))
    })
}

/// ERROR codes of RFC 1350 and RFC 2347.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// See the message.
    NotDefined = 0,
    /// There is no such file.
    NotFound = 1,
    /// Access is denied.
    AccessViolation = 2,
    /// The disk is full.
    DiskFull = 3,
    /// An illegal operation.
    Illegal = 4,
    /// There is no such transfer.
    UnknownTransfer = 5,
    /// The file exists already.
    Exists = 6,
    /// There is no such user.
    NoUser = 7,
    /// An option is refused (RFC 2347).
    OptionRefused = 8,
}

const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, PacketError> {
    match bytes.get(at..at + 2) {
        Some(&[a, b]) => Ok(u16::from_be_bytes([a, b])),
        _ => Err(PacketError::Truncated),
    }
}

/// Takes a NUL-terminated string off the front.
fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    let (text, rest) = (bytes.get(..end)?, bytes.get(end + 1..)?);
    *bytes = rest;
    Some(text)
}

/// Reads a packet.
pub fn parse(bytes: &[u8]) -> Result<Packet<'_>, PacketError> {
    let opcode = u16_at(bytes, 0)?;
    let body = bytes.get(2..).unwrap_or(&[]);
    match opcode {
        RRQ | WRQ => request(opcode == WRQ, body).map(Packet::Request),
        DATA => Ok(Packet::Data { block: u16_at(body, 0)?, data: body.get(2..).unwrap_or(&[]) }),
        ACK => Ok(Packet::Ack { block: u16_at(body, 0)? }),
        ERROR => {
            let message = body.get(2..).unwrap_or(&[]);
            let end = message.iter().position(|&byte| byte == 0).unwrap_or(message.len());
            Ok(Packet::Error { code: u16_at(body, 0)?, message: message.get(..end).unwrap_or(&[]) })
        }
        OACK => Ok(Packet::Oack(options(body))),
        _ => Err(PacketError::Opcode),
    }
}

fn request(write: bool, mut body: &[u8]) -> Result<TftpRequest<'_>, PacketError> {
    let filename = text(&mut body).filter(|name| !name.is_empty()).ok_or(PacketError::Name)?;
    let mode = match text(&mut body).ok_or(PacketError::Truncated)? {
        mode if mode.eq_ignore_ascii_case(b"octet") => Mode::Octet,
        mode if mode.eq_ignore_ascii_case(b"netascii") => Mode::Netascii,
        _ => return Err(PacketError::Mode),
    };
    Ok(TftpRequest { write, filename, mode, options: options(body) })
}

fn options(mut body: &[u8]) -> TftpOptions {
    let mut options = TftpOptions::default();
    while let Some(name) = text(&mut body) {
        let Some(value) = text(&mut body) else { break };
        options.set(name, value);
    }
    options
}

/// Writes pieces one behind the other; None when they do not fit.
struct PacketWriter<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl PacketWriter<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.buf.get_mut(self.len..self.len + bytes.len())?.copy_from_slice(bytes);
        self.len += bytes.len();
        Some(())
    }

    fn put_option(&mut self, name: &[u8], value: Option<u64>) -> Option<()> {
        let Some(mut value) = value else { return Some(()) };
        let (mut digits, mut at) = ([0u8; 20], 20);
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.put(name)?;
        self.put(&[0])?;
        self.put(&digits[at..])?;
        self.put(&[0])
    }

    fn put_options(&mut self, options: &TftpOptions) -> Option<()> {
        self.put_option(b"tsize", options.tsize)?;
        self.put_option(b"blksize", options.blksize.map(u64::from))?;
        self.put_option(b"timeout", options.timeout.map(u64::from))?;
        self.put_option(b"windowsize", options.windowsize.map(u64::from))
    }
}

/// Writes an RRQ; gives its length, None when it does not fit.
pub fn emit_rrq(buf: &mut [u8], filename: &[u8], mode: Mode, options: &TftpOptions) -> Option<usize> {
    let mut writer = PacketWriter { buf, len: 0 };
    writer.put(&RRQ.to_be_bytes())?;
    writer.put(filename)?;
    writer.put(match mode {
        Mode::Octet => b"\0octet\0",
        Mode::Netascii => b"\0netascii\0",
    })?;
    writer.put_options(options)?;
    Some(writer.len)
}

/// Writes an ACK; gives its length. None when it does not fit.
pub fn emit_ack(buf: &mut [u8], block: u16) -> Option<usize> {
    let mut writer = PacketWriter { buf, len: 0 };
    writer.put(&ACK.to_be_bytes())?;
    writer.put(&block.to_be_bytes())?;
    Some(writer.len)
}

/// The four bytes before a block's payload.
pub fn data_header(block: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (DATA.to_be_bytes(), block.to_be_bytes());
    [a, b, c, d]
}

/// Writes the header of DATA, 4 bytes; gives its length. None when it does not fit.
pub fn emit_data_header(buf: &mut [u8], block: u16) -> Option<usize> {
    buf.get_mut(..4)?.copy_from_slice(&data_header(block));
    Some(4)
}

/// Writes an ERROR with its NUL; gives its length. None when it does not fit.
pub fn emit_error(buf: &mut [u8], code: ErrorCode, message: &str) -> Option<usize> {
    let mut writer = PacketWriter { buf, len: 0 };
    writer.put(&ERROR.to_be_bytes())?;
    writer.put(&(code as u16).to_be_bytes())?;
    writer.put(message.as_bytes())?;
    writer.put(&[0])?;
    Some(writer.len)
}

/// Writes an OACK with these options; gives its length. None when it does not fit.
pub fn emit_oack(buf: &mut [u8], options: &TftpOptions) -> Option<usize> {
    let mut writer = PacketWriter { buf, len: 0 };
    writer.put(&OACK.to_be_bytes())?;
    writer.put_options(options)?;
    Some(writer.len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: TftpOptions = TftpOptions { blksize: Some(1468), tsize: Some(0), timeout: Some(5), windowsize: Some(4) };

    fn emitted(write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Vec<u8> {
        let mut buf = [0; 600];
        let len = write(&mut buf).unwrap();
        buf[..len].to_vec()
    }

    #[test]
    fn golden_bytes() {
        let rrq = emitted(|buf| emit_rrq(buf, b"a/b", Mode::Octet, &ALL));
        assert_eq!(rrq, b"\0\x01a/b\0octet\0tsize\x000\0blksize\x001468\0timeout\x005\0windowsize\x004\0");
        assert_eq!(emitted(|buf| emit_ack(buf, 0x1234)), [0, 4, 0x12, 0x34]);
        assert_eq!(emitted(|buf| emit_error(buf, ErrorCode::NotFound, "no")), b"\0\x05\0\x01no\0");
        assert_eq!(emitted(|buf| emit_data_header(buf, 7)), [0, 3, 0, 7]);
        let size = TftpOptions { tsize: Some(u64::MAX), ..TftpOptions::default() };
        assert_eq!(emitted(|buf| emit_oack(buf, &size)), b"\0\x06tsize\x0018446744073709551615\0");
        assert_eq!(emit_rrq(&mut [0; 10], b"vmlinuz", Mode::Octet, &ALL), None);
    }

    #[test]
    fn requests_as_clients_send_them() {
        let request = |bytes| match parse(bytes) {
            Ok(Packet::Request(request)) => Ok((request.filename, request.mode, request.options)),
            Ok(_) => panic!("not a request"),
            Err(why) => Err(why),
        };
        assert_eq!(
            request(b"\0\x01x\0OCTET\0BLKSIZE\x001432\0foo\0bar\0"),
            Ok((b"x".as_slice(), Mode::Octet, TftpOptions { blksize: Some(1432), ..TftpOptions::default() }))
        );
        assert_eq!(request(b"\0\x01pxelinux.0\xff\0octet\0\xff\xff").map(|r| r.0), Ok(b"pxelinux.0\xff".as_slice()));
        assert_eq!(request(b"\0\x01x\0octet\0tsize\x000\0tsize\x009\0").map(|r| r.2.tsize), Ok(Some(0)));
        assert_eq!(request(b"\0\x01\0octet\0"), Err(PacketError::Name));
        assert_eq!(request(b"\0\x01x"), Err(PacketError::Name));
        assert_eq!(request(b"\0\x01x\0octet"), Err(PacketError::Truncated));
        assert_eq!(request(b"\0\x01x\0mail\0"), Err(PacketError::Mode));
    }

    #[test]
    fn values_out_of_range_are_left_out_or_lowered() {
        let read = |option: &str| match parse(format!("\0\x01x\0octet\0{option}\0").as_bytes()) {
            Ok(Packet::Request(request)) => request.options,
            other => panic!("{option:?}: {other:?}"),
        };
        for none in [
            "blksize\x000",
            "blksize\x007",
            "windowsize\x000",
            "timeout\x000",
            "timeout\x00256",
            "timeout\x00300",
            "tsize\0-1",
            "tsize\0",
            "blksize\0",
            "blksize\0 512",
            "blksize\x001468 ",
            "blksize\x001e3",
            "blksize\0-1",
        ] {
            assert!(read(none).is_empty(), "{none:?}");
        }
        for (option, blksize) in [("65464", 65_464), ("65465", 65_464), ("65535", 65_464), ("999999999999999999999", 65_464), ("8", 8)] {
            assert_eq!(read(&format!("blksize\0{option}")).blksize, Some(blksize), "{option}");
        }
        assert_eq!(read("windowsize\x0070000").windowsize, Some(65_535));
        assert_eq!(read("timeout\x00255").timeout, Some(255));
        assert_eq!(read("blksize\x004\0blksize\x001024").blksize, Some(1024), "the first that can be meant counts");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..100), opcode in 0u8..8) {
            let _ = parse(&bytes);
            let _ = parse(&[[0, opcode].as_slice(), &bytes].concat());
        }

        #[test]
        fn what_is_emitted_is_parsed(
            name in "[a-zA-Z0-9/._-]{1,80}",
            blksize in proptest::option::of(8u16..=65_464), tsize in any::<Option<u64>>(),
            timeout in proptest::option::of(1u8..), windowsize in proptest::option::of(1u16..), block in any::<u16>(),
        ) {
            let options = TftpOptions { blksize, tsize, timeout, windowsize };
            let rrq = emitted(|buf| emit_rrq(buf, name.as_bytes(), Mode::Netascii, &options));
            let request = TftpRequest { write: false, filename: name.as_bytes(), mode: Mode::Netascii, options };
            prop_assert_eq!(parse(&rrq), Ok(Packet::Request(request)));
            let (oack, ack) = (emitted(|buf| emit_oack(buf, &options)), emitted(|buf| emit_ack(buf, block)));
            prop_assert_eq!(parse(&oack), Ok(Packet::Oack(options)));
            prop_assert_eq!(parse(&ack), Ok(Packet::Ack { block }));
        }
    }
}
