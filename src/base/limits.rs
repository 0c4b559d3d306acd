//! Limits of what all machines and worlds share, related by compile-time assertions (law 2). Those of a protocol stand with it.

use std::time::Duration;

/// Client records: machines seen, whether they have a number or not. The config's `capacity` sets it.
pub const CAPACITY_DEFAULT: usize = 4096;
/// The smallest `capacity` that the config accepts, in records.
pub const CAPACITY_MIN: usize = 16;
/// The largest `capacity`, in records; also the bound of node numbers.
pub const CAPACITY_MAX: usize = 131_072;

/// Boot interfaces and networks (local ones and those behind relays).
pub const LINKS_MAX: usize = 16;
/// Networks that one head serves.
pub const NETWORKS_MAX: usize = 256;

/// MACs that all config sections together may name.
pub const NODE_MACS_MAX: usize = 4 * CAPACITY_MAX;

/// Addresses of one guest pool.
pub const GUESTS_MAX: usize = 65_536;

/// Open boot files: a descriptor each, shared by all their transfers. GRUB's modules alone are more than a hundred.
pub const FILES: usize = 256;

/// A requested file name, in bytes.
pub const FILE_NAME_MAX: usize = 255;

/// The largest frame that is received whole; clients send nothing larger.
pub const RECEIVE_MAX: usize = 2048;

/// The largest frame that the machine writes itself (parts of files are read in by the shell).
pub const WRITE_MAX: usize = 1500;

/// A run of datagrams in one output: at most so many bytes of a file, so that it fits one UDP_SEGMENT call, and so many datagrams.
pub const RUN_BYTES_MAX: usize = 64 * 1024;
/// Datagrams in one run.
pub const RUN_MAX: usize = 64;

/// A record of the journal, in bytes without its newline: two lots with all MACs that lots have.
pub const JOURNAL_LINE_MAX: usize = 2048;

/// What is kept of one transfer for the machine that comes after this one, in bytes.
pub const ROW_MAX: usize = 344;

/// Records that may wait for the disk; nothing more is promised then.
pub const JOURNAL_PENDING: usize = 1024;

/// The half second (law 7).
pub const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// What one call of a machine may put out: the loop drains the outbox before less than this is left.
pub const OUTPUTS_PER_CALL: usize = 24;
/// Bytes that one call of a machine may put out.
pub const BYTES_PER_CALL: usize = 64 * 1024;

/// The outbox: enough for a batch of calls between two drains.
pub const OUTPUTS: usize = 512;
/// Bytes of all outputs between two drains.
pub const OUTBOX_BYTES: usize = 512 * 1024;

const _: () = {
    assert!(CAPACITY_MIN <= CAPACITY_DEFAULT && CAPACITY_DEFAULT <= CAPACITY_MAX);
    assert!(WRITE_MAX <= RECEIVE_MAX && BYTES_PER_CALL >= 8 * WRITE_MAX);
    assert!(OUTPUTS >= 8 * OUTPUTS_PER_CALL && OUTBOX_BYTES >= 8 * BYTES_PER_CALL);
    assert!(JOURNAL_LINE_MAX <= BYTES_PER_CALL / 4);
    assert!(FILE_NAME_MAX + 64 < WRITE_MAX && FILE_NAME_MAX < ROW_MAX);
    assert!(LINKS_MAX <= NETWORKS_MAX && LINKS_MAX < u8::MAX as usize);
};
