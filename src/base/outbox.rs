//! What a machine wants done: outputs in order, their bytes in one fixed arena (law 2).
//!
//! Outputs are written in place and are drained by the world, which borrows each. Nothing is allocated after [`Outbox::new`].

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::ops::Range;

use super::addr::Mac;
use super::limits;
use super::machine::{DnsPeer, Errand, FileId, Link};

/// How a datagram finds its way on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// A unicast frame to this hardware address, whoever owns the IP address, without ARP.
    Mac(Mac),
    /// A broadcast frame.
    Broadcast,
    /// As the kernel routes it: neighbours it knows, relays behind routers.
    Kernel,
}

/// A run of TFTP DATA packets (RFC 1350, 5) of one file to one peer. The world reads the file and lays a header before each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// The transfer: comes back in `Input::Cold` and `Input::Changed`.
    pub token: u64,
    pub link: Link,
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    /// Lock-step blocks may leave as frames of the world's own making; windows leave through the kernel, which cuts them up.
    pub via: Via,
    pub file: FileId,
    /// Where the first block begins in the file, in bytes.
    pub offset: u64,
    /// Payload bytes of the whole run; all blocks but the last are `blksize` long. May be 0: one empty block.
    pub bytes: u32,
    pub blksize: u16,
    /// The block number of the first block; later ones count up and wrap to 0.
    pub block: u16,
    pub count: u16,
}

/// What becomes of the journal. Lines are without newline.
///
/// Between `RewriteBegin` and `RewriteEnd` the world puts every `Append` into the old file and into the new one. Then it syncs the new file,
/// renames it over the old one, syncs the folder, goes on in the new one, and says `Input::Rewritten`: after a crash there is one of the two,
/// whole. Before that the machine begins no other; but before `RewriteEnd` it may begin anew, and the lines since the first
/// `RewriteBegin` are not wanted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalOp<'a> {
    /// Answered by `Input::Synced`. Records are numbered from 1 without a gap.
    Append {
        seq: u64,
        line: &'a [u8],
    },
    RewriteBegin,
    RewriteLine {
        line: &'a [u8],
    },
    RewriteEnd,
}

#[derive(Clone, Copy, Debug)]
pub enum Output<'a> {
    Datagram {
        link: Link,
        from: SocketAddrV4,
        to: SocketAddrV4,
        via: Via,
        body: &'a [u8],
    },
    /// A whole Ethernet frame.
    Frame {
        link: Link,
        bytes: &'a [u8],
    },
    Blocks(Blocks),
    Journal(JournalOp<'a>),
    /// Open a file beneath the root; answered by `Input::Opened`. The path is what the client asked for, as bytes.
    Open {
        token: u64,
        path: &'a [u8],
    },
    Close {
        file: FileId,
    },
    /// Read some bytes; answered by `Input::Bytes`, `Cold` or `Changed`.
    Read {
        token: u64,
        file: FileId,
        offset: u64,
        len: u32,
    },
    /// Make the kernel's neighbour entry of `ip` permanent, or drop it when `mac` is None.
    Neighbour {
        link: Link,
        ip: Ipv4Addr,
        mac: Option<Mac>,
    },
    /// Ask who has `ip` (RFC 5227 probe: the sender's address is 0.0.0.0).
    ArpProbe {
        link: Link,
        ip: Ipv4Addr,
    },
    /// A router advertisement of lifetime 0 without prefix, in a frame to `mac` alone.
    RouterAdvert {
        link: Link,
        mac: Mac,
        source: Ipv6Addr,
    },
    /// Whole lines for an operator. A reader for which they are too many is dropped, and `Input::StreamClosed` says so.
    Stream {
        conn: u8,
        body: &'a [u8],
    },
    /// Let an operator go, once everything was taken.
    StreamClose {
        conn: u8,
    },
    /// Do this for an operator, and answer.
    Errand {
        conn: u8,
        errand: Errand,
    },
    /// A DNS message. A client that does not take it is dropped, and `Input::DnsClosed` says so.
    Dns {
        peer: DnsPeer,
        to: SocketAddrV4,
        body: &'a [u8],
    },
    /// End a connection, whatever it has not taken yet.
    DnsClose {
        peer: DnsPeer,
    },
}

enum Item {
    Datagram {
        link: Link,
        from: SocketAddrV4,
        to: SocketAddrV4,
        via: Via,
        body: Range<u32>,
    },
    Frame {
        link: Link,
        body: Range<u32>,
    },
    Open {
        token: u64,
        body: Range<u32>,
    },
    Stream {
        conn: u8,
        body: Range<u32>,
    },
    Dns {
        peer: DnsPeer,
        to: SocketAddrV4,
        body: Range<u32>,
    },
    /// None: a line of a rewriting.
    Journal {
        seq: Option<u64>,
        body: Range<u32>,
    },
    Plain(Output<'static>),
}

pub struct Outbox {
    items: Vec<Item>,
    arena: Box<[u8]>,
    used: usize,
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox::new()
    }
}

impl Outbox {
    pub fn new() -> Outbox {
        Outbox { items: Vec::with_capacity(limits::OUTPUTS), arena: vec![0; limits::OUTBOX_BYTES].into(), used: 0 }
    }

    /// An outbox without room, to stand in while the real one is drained. Allocates nothing.
    pub fn none() -> Outbox {
        Outbox { items: Vec::new(), arena: Box::default(), used: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether one more call of a machine fits.
    pub fn has_room(&self) -> bool {
        self.items.len() + limits::OUTPUTS_PER_CALL <= limits::OUTPUTS && self.used + limits::BYTES_PER_CALL <= limits::OUTBOX_BYTES
    }

    /// Lets `write` fill a body in place; None when it declines or the outbox is full, and nothing is put out then.
    fn body(&mut self, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<Range<u32>> {
        if self.items.len() >= self.items.capacity().min(limits::OUTPUTS) {
            return None;
        }
        let free = &mut self.arena[self.used..];
        let room = free.len();
        let len = write(free).filter(|&len| len <= room)?;
        let start = self.used;
        self.used += len;
        Some(start as u32..self.used as u32)
    }

    /// Puts out a datagram whose payload `write` lays into the buffer that it is given, returning its length. False when it declined.
    pub fn datagram(
        &mut self,
        link: Link,
        from: SocketAddrV4,
        to: SocketAddrV4,
        via: Via,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let Some(body) = self.body(write) else { return false };
        self.items.push(Item::Datagram { link, from, to, via, body });
        true
    }

    /// Puts out a whole frame, likewise.
    pub fn frame(&mut self, link: Link, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let Some(body) = self.body(write) else { return false };
        self.items.push(Item::Frame { link, body });
        true
    }

    pub fn open(&mut self, token: u64, path: &[u8]) -> bool {
        let copy = |buf: &mut [u8]| buf.get_mut(..path.len()).map(|to| to.copy_from_slice(path)).map(|()| path.len());
        let Some(body) = self.body(copy) else { return false };
        self.items.push(Item::Open { token, body });
        true
    }

    /// Puts out what needs no bytes. The caller stays within `limits::OUTPUTS_PER_CALL`, so there is room.
    fn plain(&mut self, output: Output<'static>) -> bool {
        let room = self.items.len() < self.items.capacity().min(limits::OUTPUTS);
        if room {
            self.items.push(Item::Plain(output));
        }
        room
    }

    pub fn blocks(&mut self, blocks: Blocks) -> bool {
        self.plain(Output::Blocks(blocks))
    }

    /// Puts out a record that `write` lays down, likewise. `seq` is one more than the last.
    pub fn journal_append(&mut self, seq: u64, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        self.journal_line(Some(seq), write)
    }

    pub fn journal_rewrite_begin(&mut self) -> bool {
        self.plain(Output::Journal(JournalOp::RewriteBegin))
    }

    pub fn journal_rewrite_line(&mut self, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        self.journal_line(None, write)
    }

    pub fn journal_rewrite_end(&mut self) -> bool {
        self.plain(Output::Journal(JournalOp::RewriteEnd))
    }

    fn journal_line(&mut self, seq: Option<u64>, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let short = |buf: &mut [u8]| {
            let most = buf.len().min(limits::JOURNAL_LINE_MAX);
            write(buf.get_mut(..most)?)
        };
        let Some(body) = self.body(short) else { return false };
        self.items.push(Item::Journal { seq, body });
        true
    }

    pub fn close(&mut self, file: FileId) -> bool {
        self.plain(Output::Close { file })
    }

    pub fn read(&mut self, token: u64, file: FileId, offset: u64, len: u32) -> bool {
        self.plain(Output::Read { token, file, offset, len })
    }

    pub fn neighbour(&mut self, link: Link, ip: Ipv4Addr, mac: Option<Mac>) -> bool {
        self.plain(Output::Neighbour { link, ip, mac })
    }

    pub fn arp_probe(&mut self, link: Link, ip: Ipv4Addr) -> bool {
        self.plain(Output::ArpProbe { link, ip })
    }

    pub fn router_advert(&mut self, link: Link, mac: Mac, source: Ipv6Addr) -> bool {
        self.plain(Output::RouterAdvert { link, mac, source })
    }

    /// Puts out lines for an operator's connection, likewise.
    pub fn stream(&mut self, conn: u8, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let Some(body) = self.body(write) else { return false };
        self.items.push(Item::Stream { conn, body });
        true
    }

    pub fn stream_close(&mut self, conn: u8) -> bool {
        self.plain(Output::StreamClose { conn })
    }

    pub fn errand(&mut self, conn: u8, errand: Errand) -> bool {
        self.plain(Output::Errand { conn, errand })
    }

    /// Puts out a DNS message, likewise.
    pub fn dns(&mut self, peer: DnsPeer, to: SocketAddrV4, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let Some(body) = self.body(write) else { return false };
        self.items.push(Item::Dns { peer, to, body });
        true
    }

    pub fn dns_close(&mut self, peer: DnsPeer) -> bool {
        self.plain(Output::DnsClose { peer })
    }

    /// All outputs in order. The world acts on each and then calls [`clear`](Outbox::clear).
    pub fn iter(&self) -> impl Iterator<Item = Output<'_>> {
        let bytes = |range: &Range<u32>| &self.arena[range.start as usize..range.end as usize];
        self.items.iter().map(move |item| match item {
            Item::Datagram { link, from, to, via, body } => {
                Output::Datagram { link: *link, from: *from, to: *to, via: *via, body: bytes(body) }
            }
            Item::Frame { link, body } => Output::Frame { link: *link, bytes: bytes(body) },
            Item::Open { token, body } => Output::Open { token: *token, path: bytes(body) },
            Item::Journal { seq: Some(seq), body } => Output::Journal(JournalOp::Append { seq: *seq, line: bytes(body) }),
            Item::Journal { seq: None, body } => Output::Journal(JournalOp::RewriteLine { line: bytes(body) }),
            Item::Stream { conn, body } => Output::Stream { conn: *conn, body: bytes(body) },
            Item::Dns { peer, to, body } => Output::Dns { peer: *peer, to: *to, body: bytes(body) },
            Item::Plain(output) => *output,
        })
    }

    pub fn clear(&mut self) {
        self.items.clear();
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 67);

    #[test]
    fn keeps_order_and_bytes() {
        let mut out = Outbox::new();
        assert!(out.open(7, b"vmlinuz"));
        assert!(out.datagram(1, HEAD, HEAD, Via::Broadcast, |buf| buf.get_mut(..3).map(|b| b.copy_from_slice(b"abc")).map(|()| 3)));
        assert!(!out.datagram(1, HEAD, HEAD, Via::Broadcast, |_| None), "declined");
        assert!(out.close(FileId(4)));
        let shown: Vec<String> = out.iter().map(|output| format!("{output:?}")).collect();
        assert_eq!(shown.len(), 3);
        assert!(shown[0].contains("token: 7") && shown[1].contains("body: [97, 98, 99]") && shown[2].contains("FileId(4)"));
        out.clear();
        assert!(out.is_empty() && out.has_room());
    }

    #[test]
    fn a_full_outbox_declines_instead_of_growing() {
        let mut out = Outbox::new();
        while out.has_room() {
            assert!(out.frame(0, |buf| (buf.len() >= 1500).then_some(1500)));
        }
        while out.close(FileId(0)) {}
        assert_eq!(out.len(), limits::OUTPUTS);
        assert!(!out.frame(0, |_| Some(0)) && !out.open(0, b"") && out.items.capacity() == limits::OUTPUTS);
    }
}
