//! What is kept of a transfer for the daemon that comes after this one: a row ([`Output::Row`](crate::base::outbox::Output)), written when the
//! transfer has answered its request, and a mark that follows its client from block to block.
//!
//! | in the row | in the mark |
//! |---|---|
//! | who loads, by which addresses, ports and MAC, and what the roll knew of it | whether the OACK or a block was acknowledged last, and which |
//! | what: the name, the file's stamp or the made text's hash | when that was, and how often something was sent in vain since |
//! | how: mode, options, block size, window | in netascii: where in the file the next block begins |
//!
//! The mark is put out before the block that it allows. So the next daemon finds a client no further than one window behind its mark, whenever
//! this one was ended. [`FORMAT`] is the number of this layout: rows of another one are not read.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::base::addr::Mac;
use crate::base::machine::RowMark;
use crate::base::time::Instant;
use crate::engine::boot::Made;
use crate::roll::kind::{Arch, FirmwareKind};
use crate::wire::tftp::TftpOptions;

use super::netascii::BlockStart;
use super::transfer::Requester;

/// To be counted up with every change of what a row or a mark means.
pub const FORMAT: u32 = 1;

/// What a transfer loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptSource {
    File { size: u64, stamp: u64 },
    Made { what: Made, len: u64, hash: u64 },
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptTransfer<'a> {
    /// The head's address, by which the client knows it, and its port.
    pub head: SocketAddrV4,
    pub peer: SocketAddrV4,
    /// Where its packets come from.
    pub mac: Option<Mac>,
    /// The MAC, architecture and program of its record.
    pub identity: Option<Mac>,
    pub arch: Option<Arch>,
    pub program: FirmwareKind,
    pub origin: Requester,
    /// What its requests show it to be.
    pub kind: FirmwareKind,
    pub request: u64,
    pub began: Instant,
    pub options: TftpOptions,
    pub blksize: u16,
    pub windowsize: u16,
    pub netascii: bool,
    pub source: KeptSource,
    pub name: &'a [u8],
}

/// A mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptProgress {
    /// The last block that was acknowledged; None: not even the OACK.
    pub acked: Option<u64>,
    pub heard: Instant,
    /// Sendings nobody asked for, since then.
    pub resent: u8,
    /// Of a netascii text: where the block behind it begins.
    pub start: BlockStart,
}

/// Of a time the last bits are of no use: there is the count.
const COUNT: u64 = 0xff;

impl KeptProgress {
    pub fn mark(&self) -> RowMark {
        let carry = self.start.carry.map_or(0, |byte| u64::from(byte) + 1);
        [self.acked.map_or(0, |block| block + 1), self.heard.nanos() & !COUNT | u64::from(self.resent), self.start.offset << 9 | carry]
    }

    pub fn of([acked, heard, start]: RowMark) -> KeptProgress {
        let carry = (start & 0x1ff).checked_sub(1).map(|byte| byte as u8);
        KeptProgress {
            acked: acked.checked_sub(1),
            heard: Instant::from_nanos(heard & !COUNT),
            resent: (heard & COUNT) as u8,
            start: BlockStart { offset: start >> 9, carry },
        }
    }
}

const MADE: [Made; 3] = [Made::Ipxe, Made::Grub, Made::Pxelinux];
const ORIGINS: [Requester; 3] = [Requester::Record, Requester::Routed, Requester::Stranger];
/// Stands for an option that was not asked for, and for what is not known.
const NONE: u8 = u8::MAX;

fn place<T: PartialEq>(all: &[T], one: &T) -> u8 {
    all.iter().position(|other| other == one).map_or(NONE, |at| at as u8)
}

struct Writer<'a> {
    buf: &'a mut [u8],
    used: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.buf.get_mut(self.used..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
        self.used += bytes.len();
        Some(())
    }

    fn word(&mut self, word: u64) -> Option<()> {
        self.put(&word.to_le_bytes())
    }

    fn short(&mut self, short: u16) -> Option<()> {
        self.put(&short.to_le_bytes())
    }

    fn address(&mut self, address: SocketAddrV4) -> Option<()> {
        self.put(&address.ip().octets()).and_then(|()| self.short(address.port()))
    }

    fn mac(&mut self, mac: Option<Mac>) -> Option<()> {
        self.put(&[u8::from(mac.is_some())]).and_then(|()| self.put(&mac.unwrap_or(Mac::ZERO).0))
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        self.byte().map(|byte| byte != 0)
    }

    fn word(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn short(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn address(&mut self) -> Option<SocketAddrV4> {
        let ip: [u8; 4] = self.take()?;
        Some(SocketAddrV4::new(Ipv4Addr::from(ip), self.short()?))
    }

    fn mac(&mut self) -> Option<Option<Mac>> {
        let there = self.flag()?;
        Some(Some(Mac(self.take()?)).filter(|_| there))
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(usize::from(self.byte()?)).copied()
    }
}

impl<'a> KeptTransfer<'a> {
    /// Lays the row down; gives its length.
    pub fn write(&self, buf: &mut [u8]) -> Option<usize> {
        let mut to = Writer { buf, used: 0 };
        to.address(self.head)?;
        to.address(self.peer)?;
        to.mac(self.mac)?;
        to.mac(self.identity)?;
        let (what, first, second) = match self.source {
            KeptSource::File { size, stamp } => (NONE, size, stamp),
            KeptSource::Made { what, len, hash } => (place(&MADE, &what), len, hash),
        };
        let arch = self.arch.map_or(NONE, |arch| place(Arch::ALL, &arch));
        let [program, kind] = [self.program, self.kind].map(|kind| place(FirmwareKind::ALL, &kind));
        to.put(&[arch, program, kind, place(&ORIGINS, &self.origin), u8::from(self.netascii), what])?;
        [first, second, self.request, self.began.nanos()].into_iter().try_for_each(|word| to.word(word))?;
        let TftpOptions { blksize, tsize, timeout, windowsize } = self.options;
        to.put(&[blksize.is_some().into(), tsize.is_some().into(), timeout.is_some().into(), windowsize.is_some().into()])?;
        to.short(blksize.unwrap_or(0))?;
        to.word(tsize.unwrap_or(0))?;
        to.put(&[timeout.unwrap_or(0)])?;
        [windowsize.unwrap_or(0), self.blksize, self.windowsize].into_iter().try_for_each(|short| to.short(short))?;
        to.put(self.name)?;
        Some(to.used)
    }

    /// What [`KeptTransfer::write`] has laid down. None: it was not that.
    pub fn read(bytes: &'a [u8]) -> Option<KeptTransfer<'a>> {
        let mut from = Reader(bytes);
        let (head, peer, mac, identity) = (from.address()?, from.address()?, from.mac()?, from.mac()?);
        let arch = Arch::ALL.get(usize::from(from.byte()?)).copied();
        let (program, kind) = (from.one_of(FirmwareKind::ALL)?, from.one_of(FirmwareKind::ALL)?);
        let (origin, netascii, what) = (from.one_of(&ORIGINS)?, from.flag()?, from.byte()?);
        let (first, second, request, began) = (from.word()?, from.word()?, from.word()?, Instant::from_nanos(from.word()?));
        let [has_blksize, has_tsize, has_timeout, has_windowsize] = from.take::<4>()?.map(|byte| byte != 0);
        let options = TftpOptions {
            blksize: Some(from.short()?).filter(|_| has_blksize),
            tsize: Some(from.word()?).filter(|_| has_tsize),
            timeout: Some(from.byte()?).filter(|_| has_timeout),
            windowsize: Some(from.short()?).filter(|_| has_windowsize),
        };
        let (blksize, windowsize, name) = (from.short()?, from.short()?, from.0);
        let source = match MADE.get(usize::from(what)) {
            Some(&what) => KeptSource::Made { what, len: first, hash: second },
            None => KeptSource::File { size: first, stamp: second },
        };
        let kept = KeptTransfer {
            head,
            peer,
            mac,
            identity,
            arch,
            program,
            origin,
            kind,
            request,
            began,
            options,
            blksize,
            windowsize,
            netascii,
            source,
            name,
        };
        Some(kept).filter(|kept| kept.blksize > 0 && kept.windowsize > 0 && !kept.name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits;

    fn kept(name: &[u8]) -> KeptTransfer<'_> {
        KeptTransfer {
            head: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 20069),
            peer: SocketAddrV4::new(Ipv4Addr::new(10, 0, 1, 9), 2070),
            mac: Some(Mac([2, 0, 0, 0, 0, 9])),
            identity: None,
            arch: Some(Arch::EfiX64),
            program: FirmwareKind::Edk2,
            origin: Requester::Routed,
            kind: FirmwareKind::Grub,
            request: 77,
            began: Instant::from_millis(5),
            options: TftpOptions { blksize: Some(1024), tsize: Some(1 << 40), timeout: None, windowsize: Some(4) },
            blksize: 1024,
            windowsize: 4,
            netascii: false,
            source: KeptSource::File { size: 1 << 40, stamp: 12 },
            name,
        }
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let longest = [b'x'; limits::FILE_NAME_MAX];
        let made = KeptSource::Made { what: Made::Grub, len: 700, hash: 13 };
        let rows = [
            kept(b"vmlinuz"),
            KeptTransfer { mac: None, identity: Some(Mac([2; 6])), arch: None, ..kept(&longest) },
            KeptTransfer {
                source: made,
                netascii: true,
                options: TftpOptions::default(),
                origin: Requester::Stranger,
                ..kept(b"grub.cfg")
            },
        ];
        for row in rows {
            let mut buf = [0; limits::ROW_MAX];
            let len = row.write(&mut buf).expect("the longest name has room");
            assert_eq!(KeptTransfer::read(&buf[..len]), Some(row.clone()));
            let fixed = len - row.name.len();
            assert!((0..=fixed).all(|len| KeptTransfer::read(&buf[..len]).is_none()), "a row that is cut off");
        }
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let heard = Instant::from_nanos(0x1234_5678_9a00);
        for (acked, carry) in [(None, None), (Some(0), Some(0)), (Some(1 << 40), Some(b'\n')), (Some(65_536), Some(255))] {
            let progress = KeptProgress { acked, heard, resent: 2, start: BlockStart { offset: 1 << 40, carry } };
            assert_eq!(KeptProgress::of(progress.mark()), progress);
        }
    }
}
