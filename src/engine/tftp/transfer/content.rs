//! What is loaded: a file of the root, or a text that is made, and where its blocks lie in it.

use crate::base::machine::{FileId, OpenFile};
use crate::engine::boot::Made;
use crate::engine::tftp::files::Hold;
use crate::engine::tftp::netascii::{BlockStart, Cursor};
use crate::wire::tftp;

/// Where the bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferSource {
    /// The world was asked to open it.
    Opening,
    File(OpenFile),
    /// An earlier daemon had this file open: it is opened again, and must be the same.
    Again {
        size: u64,
        stamp: u64,
    },
    /// A text made from the config, of this many bytes, and a hash of them.
    Made {
        what: Made,
        len: u64,
        hash: u64,
    },
}

pub struct Content {
    source: TransferSource,
    /// Its place among those who hold the file.
    hold: Option<Hold>,
    /// What is made for it where the root has no file of the name.
    made: Option<Made>,
    netascii: Option<Cursor>,
    blksize: u16,
}

impl Content {
    pub fn new(name: &[u8], netascii: bool) -> Content {
        Content {
            source: TransferSource::Opening,
            hold: None,
            made: Made::of(name),
            netascii: netascii.then(Cursor::default),
            blksize: tftp::BLKSIZE_DEFAULT,
        }
    }

    /// As an earlier daemon has left it. `start`: where its next block begins, if it goes as netascii.
    pub(super) fn taken_up(source: TransferSource, start: Option<BlockStart>, blksize: u16) -> Content {
        Content { source, hold: None, made: None, netascii: start.map(Cursor::at), blksize }
    }

    pub fn source(&self) -> TransferSource {
        self.source
    }

    pub fn hold(&self) -> Option<Hold> {
        self.hold
    }

    /// What is made for it where the root has no file of the name.
    pub fn made(&self) -> Option<Made> {
        self.made
    }

    /// Where it stands, if it goes as netascii.
    pub fn netascii(&self) -> Option<Cursor> {
        self.netascii
    }

    pub fn blksize(&self) -> u16 {
        self.blksize
    }

    pub fn file(&self) -> Option<FileId> {
        match self.source {
            TransferSource::File(open) => Some(open.file),
            TransferSource::Opening | TransferSource::Again { .. } | TransferSource::Made { .. } => None,
        }
    }

    /// Payload bytes in all; 0 while unknown.
    pub fn size(&self) -> u64 {
        match self.source {
            TransferSource::File(open) => open.size,
            TransferSource::Again { size, .. } => size,
            TransferSource::Made { len, .. } => len,
            TransferSource::Opening => 0,
        }
    }

    /// The file offset and length of a block, for anything but netascii.
    pub fn extent(&self, block: u64) -> (u64, u64) {
        let offset = (block - 1) * u64::from(self.blksize);
        (offset, self.size().saturating_sub(offset).min(u64::from(self.blksize)))
    }

    pub(super) fn opened(&mut self, open: OpenFile) {
        self.source = TransferSource::File(open);
    }

    pub(super) fn held(&mut self, hold: Option<Hold>) {
        self.hold = hold;
    }

    /// A text was made for it, which is sent as it is in either mode.
    pub(super) fn was_made(&mut self, made: TransferSource) {
        (self.source, self.netascii) = (made, None);
    }

    pub(super) fn settled(&mut self, blksize: u16) {
        self.blksize = blksize;
    }

    /// The cursor has gone on: a read was put out or answered, or a block was laid down.
    pub(super) fn moved(&mut self, cursor: Cursor) {
        self.netascii = Some(cursor);
    }

    /// The block that the cursor stands at has arrived.
    pub(super) fn arrived(&mut self) {
        if let Some(cursor) = self.netascii.as_mut() {
            cursor.arrived();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_end_with_a_short_block() {
        let mut it = Content::new(b"vmlinuz", false);
        it.opened(OpenFile { file: FileId::from_u64(0), size: 1024, stamp: 0 });
        assert_eq!([1, 2, 3].map(|block| it.extent(block)), [(0, 512), (512, 512), (1024, 0)]);
    }
}
