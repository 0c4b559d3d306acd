//! What a machine wants done: outputs in order, their bytes in one fixed arena (law 2).
//!
//! Outputs are written in place and are drained by the world, which borrows each. Nothing is allocated after [`Outbox::new`].

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;

use super::addr::Mac;
use super::endpoint::EndpointId;
use super::limits;
use super::machine::{ConnId, FileId, Link, RowMark, Seq};

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

/// Bytes of a file for somebody. The world reads them into the very buffer that it sends from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendFile<'a> {
    /// Comes back in `Input::Cold`, `Warm` and `Changed`.
    pub token: u64,
    /// The file, which is open.
    pub file: FileId,
    /// Where they begin in the file, and how many they are. May be none.
    pub offset: u64,
    /// How many bytes; 0 is possible.
    pub bytes: u64,
    /// Where they go.
    pub to: Target<'a>,
}

/// Where the bytes of a file go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// To a peer by UDP, each part with a header.
    Datagrams(DatagramRun<'a>),
    /// Behind what was written before. Nothing more may be written before `Drained`; a file that has changed closes the connection.
    Conn(ConnId),
}

/// A run of datagrams to one peer, each with a header of its own before its part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramRun<'a> {
    /// The endpoint that sends.
    pub endpoint: EndpointId,
    /// The address and port that the datagrams come from.
    pub from: SocketAddrV4,
    /// The peer's address and port.
    pub to: SocketAddrV4,
    /// Single datagrams may leave as frames of the world's own making; runs leave through the kernel, which cuts them up.
    pub via: Via,
    /// Bytes of the file in each datagram but the last, which has the rest and may have none.
    pub size: u16,
    /// How many datagrams, up to `limits::RUN_MAX`.
    pub count: u16,
    /// The headers, one behind the other, all of one length.
    pub headers: &'a [u8],
}

impl DatagramRun<'_> {
    /// The length of each header.
    pub fn header_len(&self) -> usize {
        self.headers.len() / usize::from(self.count.max(1))
    }
}

/// What becomes of the journal. Lines are without newline.
///
/// Between `CompactBegin` and `CompactEnd` the world puts every `Append` into the old file and into the new one. Then it syncs the new file,
/// renames it over the old one, syncs the folder, goes on in the new one, and says `Input::Compacted`: after a crash there is one of the two,
/// whole. Before that the machine begins no other; but before `CompactEnd` it may begin again, and the lines since the first
/// `CompactBegin` are not wanted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalOp<'a> {
    /// Answered by `Input::Synced`. Records are numbered from 1 without a gap.
    Append {
        /// The record's number, one more than the last.
        seq: Seq,
        /// The record, up to `limits::JOURNAL_LINE_MAX` bytes.
        line: &'a [u8],
    },
    /// A new file begins, empty.
    CompactBegin,
    /// A line of the new file that is no record of now.
    CompactLine {
        /// The line, up to `limits::JOURNAL_LINE_MAX` bytes.
        line: &'a [u8],
    },
    /// The new file is whole.
    CompactEnd,
}

/// What a machine wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output<'a> {
    /// A datagram from an endpoint. `from` has the endpoint's port; its address is what a frame of the world's own making bears.
    Datagram {
        /// The endpoint that sends.
        endpoint: EndpointId,
        /// The address and port that it comes from.
        from: SocketAddrV4,
        /// The address and port that it goes to.
        to: SocketAddrV4,
        /// How its frame is addressed.
        via: Via,
        /// What UDP carries.
        body: &'a [u8],
    },
    /// A whole Ethernet frame.
    Frame {
        /// The link that it leaves by.
        link: Link,
        /// From the destination's hardware address on, without the checksum at the end.
        bytes: &'a [u8],
    },
    /// A message to a connection, which the world frames; of lines, any number of whole ones. A reader for whom they are too many is dropped,
    /// and hears `Closed`.
    Write {
        /// The connection.
        conn: ConnId,
        /// The message, without its frame.
        bytes: &'a [u8],
    },
    /// Make a connection from an endpoint that dials; answered by `Opened` with this token. The machine keeps to the number of connections
    /// that the endpoint has.
    Connect {
        /// An endpoint that dials.
        endpoint: EndpointId,
        /// The peer's address and port.
        to: SocketAddrV4,
        /// Comes back in `Event::Opened`.
        token: u64,
    },
    /// End a connection: at once, or when everything was taken. `Closed` follows.
    Close {
        /// The connection.
        conn: ConnId,
        /// Whether what was written and not taken yet is lost.
        at_once: bool,
    },
    /// Send bytes of an open file.
    SendFile(SendFile<'a>),
    /// Open a file beneath the root; answered by `Input::Opened`. The path is what the client asked for, as bytes.
    Open {
        /// Comes back in `Input::Opened`.
        token: u64,
        /// Relative to the root, in bytes.
        path: &'a [u8],
    },
    /// Read some bytes; answered by `Input::Bytes`, `Cold` or `Changed`.
    Read {
        /// Comes back in the answer.
        token: u64,
        /// The file, which is open.
        file: FileId,
        /// Where to begin, in bytes.
        offset: u64,
        /// How many bytes, at most.
        len: u32,
    },
    /// Close a file. One that was opened several times stays until the last close.
    CloseFile {
        /// The file.
        file: FileId,
    },
    /// Something for the journal.
    Record(JournalOp<'a>),
    /// The endpoints with the address `from` are at `to` from now on, since a link's address has changed.
    Readdress {
        /// The old address.
        from: Ipv4Addr,
        /// The new address.
        to: Ipv4Addr,
    },
    /// The endpoints of a link are reached at this address as well, or no more.
    Address {
        /// The link.
        link: Link,
        /// One of its interface's addresses.
        address: Ipv4Addr,
        /// As well; else no more.
        on: bool,
    },
    /// Find out how large a packet may be on the route to an address; answered by `Route`.
    Route {
        /// Comes back in the answer.
        token: u64,
        /// An address that is reached through routers.
        to: Ipv4Addr,
    },
    /// Keep a row for the machine that comes after this one, in place of the one that was there; its mark is of zeros. See [`RowMark`].
    Row {
        /// Its place: below the number of places that the world was told at start.
        place: u32,
        /// The row, up to `limits::ROW_MAX` bytes.
        bytes: &'a [u8],
    },
    /// Change the mark of a row.
    MarkRow {
        /// The row's place.
        place: u32,
        /// What it is from now on.
        mark: RowMark,
    },
    /// Keep a row no longer.
    DropRow {
        /// Its place.
        place: u32,
    },
    /// Make the kernel's neighbour entry of `ip` permanent, or drop it when `mac` is None.
    Neighbour {
        /// The link on which the neighbour is.
        link: Link,
        /// The neighbour's IP address.
        ip: Ipv4Addr,
        /// Its hardware address; None drops the entry.
        mac: Option<Mac>,
    },
    /// Ask who has `ip` (RFC 5227 probe: the sender's address is 0.0.0.0).
    Probe {
        /// The link on which to ask.
        link: Link,
        /// The address in question.
        ip: Ipv4Addr,
    },
    /// Work on files that are no boot files: the world does one task after the other, and says what came of each by `Input::Done`, with its token.
    Task {
        /// Comes back in `Input::Done`.
        token: u64,
        /// What to do.
        task: FileTask<'a>,
    },
    /// Say what the kernel has lost: answered by `Input::Counted`.
    Count,
    /// The machine was asked to end, and has written everything down, as far as the disks answer: the world ends.
    Leave,
}

/// What is to be done with files. Paths are what the kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileTask<'a> {
    /// Read a text, whole.
    Read {
        /// The file.
        path: &'a [u8],
    },
    /// Find out which names are regular files beneath a folder: its path, and then each name behind a zero byte.
    Exists {
        /// The folder and the names.
        names: &'a [u8],
    },
    /// Open a folder, to serve boot files from.
    Root {
        /// The folder.
        path: &'a [u8],
    },
    /// Serve from the folder that was opened last; files that are open stay so. Not answered.
    Serve,
    /// A piece of the text of the next `Write` or `Publish`. Not answered.
    Piece {
        /// The piece, behind those before it.
        text: &'a [u8],
    },
    /// Replace a file by the pieces, whole or not at all.
    Write {
        /// The file.
        path: &'a [u8],
    },
    /// The same for a file beside the journal, by whoever writes the journal. Not answered.
    Publish {
        /// The file.
        path: &'a [u8],
    },
}

impl<'a> Output<'a> {
    /// Where its bytes are.
    fn bytes(&mut self) -> Option<&mut &'a [u8]> {
        match self {
            Output::Datagram { body: bytes, .. }
            | Output::Frame { bytes, .. }
            | Output::Write { bytes, .. }
            | Output::Open { path: bytes, .. }
            | Output::Row { bytes, .. }
            | Output::SendFile(SendFile { to: Target::Datagrams(DatagramRun { headers: bytes, .. }), .. })
            | Output::Task {
                task:
                    FileTask::Read { path: bytes }
                    | FileTask::Exists { names: bytes }
                    | FileTask::Root { path: bytes }
                    | FileTask::Piece { text: bytes }
                    | FileTask::Write { path: bytes }
                    | FileTask::Publish { path: bytes },
                ..
            }
            | Output::Record(JournalOp::Append { line: bytes, .. } | JournalOp::CompactLine { line: bytes }) => Some(bytes),
            _ => None,
        }
    }
}

/// An output whose bytes lie in the arena.
struct Item {
    output: Output<'static>,
    bytes: Range<u32>,
}

/// What a machine has put out since the last drain: outputs, and an arena for their bytes.
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
    /// An empty outbox of the size of `limits`. Allocates.
    pub fn new() -> Outbox {
        Outbox { items: Vec::with_capacity(limits::OUTPUTS), arena: vec![0; limits::OUTBOX_BYTES].into(), used: 0 }
    }

    /// An outbox without room, to stand in while the real one is drained. Allocates nothing.
    pub fn none() -> Outbox {
        Outbox { items: Vec::new(), arena: Box::default(), used: 0 }
    }

    /// Whether nothing was put out.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many outputs there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether one more call of a machine fits.
    pub fn has_room(&self) -> bool {
        self.items.len() + limits::OUTPUTS_PER_CALL <= limits::OUTPUTS && self.used + limits::BYTES_PER_CALL <= limits::OUTBOX_BYTES
    }

    fn is_full(&self) -> bool {
        self.items.len() >= self.items.capacity().min(limits::OUTPUTS)
    }

    /// Puts out what needs no bytes. The caller stays within `limits::OUTPUTS_PER_CALL`, so there is room.
    pub fn put(&mut self, output: Output<'static>) -> bool {
        let room = !self.is_full();
        if room {
            self.items.push(Item { output, bytes: 0..0 });
        }
        room
    }

    /// Puts out what has bytes, which `write` lays in place; nothing when it declines or the outbox is full.
    fn put_with(&mut self, output: Output<'static>, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        if self.is_full() {
            return false;
        }
        let free = &mut self.arena[self.used..];
        let room = free.len();
        let Some(len) = write(free).filter(|&len| len <= room) else { return false };
        let start = self.used;
        self.used += len;
        self.items.push(Item { output, bytes: start as u32..self.used as u32 });
        true
    }

    /// Puts out a datagram whose payload `write` lays into the buffer that it is given, returning its length. False when it declined.
    pub fn datagram(
        &mut self,
        endpoint: EndpointId,
        from: SocketAddrV4,
        to: SocketAddrV4,
        via: Via,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        self.put_with(Output::Datagram { endpoint, from, to, via, body: &[] }, write)
    }

    /// Puts out a whole frame, likewise.
    pub fn frame(&mut self, link: Link, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        self.put_with(Output::Frame { link, bytes: &[] }, write)
    }

    /// Writes to a connection, likewise.
    pub fn write(&mut self, conn: ConnId, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        self.put_with(Output::Write { conn, bytes: &[] }, write)
    }

    /// Asks for a file, as [`Output::Open`]. False when there is no room.
    pub fn open(&mut self, token: u64, path: &[u8]) -> bool {
        self.put_with(Output::Open { token, path: &[] }, |buf| copy(buf, path))
    }

    /// Keeps a row that `write` lays down, as [`Output::Row`].
    pub fn row(&mut self, place: u32, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        self.put_with(Output::Row { place, bytes: &[] }, |buf| {
            let most = buf.len().min(limits::ROW_MAX);
            write(buf.get_mut(..most)?)
        })
    }

    /// Has a task done, with these bytes.
    pub fn task(&mut self, token: u64, task: FileTask<'static>, bytes: &[u8]) -> bool {
        self.put_with(Output::Task { token, task }, |buf| copy(buf, bytes))
    }

    /// Sends a part of a file to a connection.
    pub fn send_file(&mut self, token: u64, file: FileId, offset: u64, bytes: u64, conn: ConnId) -> bool {
        self.put(Output::SendFile(SendFile { token, file, offset, bytes, to: Target::Conn(conn) }))
    }

    /// Sends a part of a file as a run of datagrams, whose headers `write` lays down.
    pub fn send_run(
        &mut self,
        token: u64,
        (file, offset, bytes): (FileId, u64, u64),
        run: DatagramRun<'static>,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        self.put_with(Output::SendFile(SendFile { token, file, offset, bytes, to: Target::Datagrams(run) }), write)
    }

    /// Puts out a record that `write` lays down. `seq` is one more than the last.
    pub fn append(&mut self, seq: Seq, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        self.line(JournalOp::Append { seq, line: &[] }, write)
    }

    /// Begins a compaction, as [`JournalOp::CompactBegin`]. False when there is no room.
    pub fn compact_begin(&mut self) -> bool {
        self.put(Output::Record(JournalOp::CompactBegin))
    }

    /// Puts out a line of a compaction that `write` lays down. False when it declined or there is no room.
    pub fn compact_line(&mut self, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        self.line(JournalOp::CompactLine { line: &[] }, write)
    }

    /// Ends a compaction, as [`JournalOp::CompactEnd`]. False when there is no room.
    pub fn compact_end(&mut self) -> bool {
        self.put(Output::Record(JournalOp::CompactEnd))
    }

    fn line(&mut self, op: JournalOp<'static>, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        self.put_with(Output::Record(op), |buf| {
            let most = buf.len().min(limits::JOURNAL_LINE_MAX);
            write(buf.get_mut(..most)?)
        })
    }

    /// All outputs in order. The world acts on each and then calls [`clear`](Outbox::clear).
    pub fn iter(&self) -> impl Iterator<Item = Output<'_>> {
        self.items.iter().map(|item| {
            let mut output: Output<'_> = item.output;
            if let Some(bytes) = output.bytes() {
                *bytes = &self.arena[item.bytes.start as usize..item.bytes.end as usize];
            }
            output
        })
    }

    /// Empties it, after the world has acted on everything.
    pub fn clear(&mut self) {
        self.items.clear();
        self.used = 0;
    }
}

fn copy(buf: &mut [u8], bytes: &[u8]) -> Option<usize> {
    buf.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(bytes.len())
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
        assert!(out.put(Output::CloseFile { file: FileId::from_u64(4) }));
        let shown: Vec<String> = out.iter().map(|output| format!("{output:?}")).collect();
        assert_eq!(shown.len(), 3);
        assert!(shown[0].contains("token: 7") && shown[1].contains("body: [97, 98, 99]") && shown[2].contains("file: #4.0"));
        out.clear();
        assert!(out.is_empty() && out.has_room());
    }

    #[test]
    fn a_full_outbox_declines_instead_of_growing() {
        let mut out = Outbox::new();
        while out.has_room() {
            assert!(out.frame(0, |buf| (buf.len() >= 1500).then_some(1500)));
        }
        while out.put(Output::CloseFile { file: FileId::from_u64(0) }) {}
        assert_eq!(out.len(), limits::OUTPUTS);
        assert!(!out.frame(0, |_| Some(0)) && !out.open(0, b"") && out.items.capacity() == limits::OUTPUTS);
    }
}
