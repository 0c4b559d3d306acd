//! Every limit of the house, in one place, related by compile-time assertions (law 2).

use std::time::Duration;

/// Client records: machines seen, whether they have a number or not. The config's `capacity` sets it.
pub const CAPACITY_DEFAULT: usize = 4096;
pub const CAPACITY_MIN: usize = 16;
pub const CAPACITY_MAX: usize = 131_072;

/// Transfers a client record pays for: one running, and one orphan that the client gave up without a word (iPXE's way).
pub const TRANSFERS_PER_CLIENT: usize = 2;

/// Boot interfaces and networks (local ones and those behind relays).
pub const LINKS_MAX: usize = 16;
pub const NETWORKS_MAX: usize = 256;

/// MACs that all config sections together may name.
pub const NODE_MACS_MAX: usize = 4 * CAPACITY_MAX;

/// Addresses of one guest pool.
pub const GUESTS_MAX: usize = 65_536;

/// Open boot files: a descriptor each, shared by all their transfers. GRUB's modules alone are more than a hundred.
pub const FILES: usize = 256;

/// A requested file name, in bytes. RFC 1350 sets no limit; the DHCP `file` field holds 128, firmware asks for longer paths.
pub const FILE_NAME_MAX: usize = 255;

/// The largest frame that is received whole; clients send nothing larger.
pub const RECEIVE_MAX: usize = 2048;

/// The largest frame that the machine writes itself (file blocks are read in by the shell).
pub const WRITE_MAX: usize = 1500;

/// A run of blocks in one output: at most this many bytes, so that a window fits one UDP_SEGMENT call.
pub const RUN_BYTES_MAX: usize = 64 * 1024;

/// TFTP blksize (RFC 2348).
pub const BLKSIZE_MIN: u16 = 8;
pub const BLKSIZE_DEFAULT: u16 = 512;
pub const BLKSIZE_MAX: u16 = 65_464;

/// The largest TFTP windowsize that the config may allow (RFC 7440 has 65,535).
pub const WINDOWSIZE_MAX: u16 = 64;

/// Server ports of the TFTP pool, a descriptor each.
pub const PORTS_MAX: usize = 64;

/// A text that is made for a boot loader (iPXE, GRUB, pxelinux), in bytes.
pub const SCRIPT_MAX: usize = 4096;

/// A record of the journal, in bytes without its newline: two lots with all MACs that lots have.
pub const JOURNAL_LINE_MAX: usize = 2048;

/// Records that may wait for the disk; nothing more is promised then.
pub const JOURNAL_PENDING: usize = 1024;

/// Connections of operators at once, and the longest line either way, its newline included.
pub const CONTROL_CONNECTIONS: usize = 16;
pub const CONTROL_LINE_MAX: usize = 64 * 1024;
/// What may wait for the reader of a connection: an answer, and the events of a storm's second or two.
pub const CONTROL_OUT: usize = 128 * 1024;

/// Addresses on which names are asked for: those of the links, and those that the config adds.
pub const DNS_LISTEN_MAX: usize = 4;
pub const DNS_LISTENERS: usize = LINKS_MAX + DNS_LISTEN_MAX;
/// Connections of those who ask for names at once, and to servers that are asked.
pub const DNS_CONNECTIONS: usize = 32;
pub const DNS_CALLS: usize = 4;
/// Sockets from which other servers are asked, each with a port of the kernel's choice.
pub const DNS_ASKERS: usize = 16;
/// Questions that wait for the answers of other servers.
pub const DNS_PENDING: usize = 256;
/// Servers that questions may be forwarded to, and addresses that may have whole zones.
pub const DNS_UPSTREAMS_MAX: usize = 4;
pub const DNS_TRANSFER_MAX: usize = 16;
/// A DNS message: of a client's, and the longest there is (RFC 1035, 4.2.2: its length has 16 bits).
pub const DNS_QUERY_MAX: usize = 2048;
pub const DNS_MESSAGE_MAX: usize = 65_535;

/// The half second (law 7).
pub const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// What one call of a machine may put out: the loop drains the outbox before less than this is left.
pub const OUTPUTS_PER_CALL: usize = 16;
pub const BYTES_PER_CALL: usize = 64 * 1024;

/// The outbox: enough for a batch of calls between two drains.
pub const OUTPUTS: usize = 512;
pub const OUTBOX_BYTES: usize = 512 * 1024;

const _: () = {
    assert!(CAPACITY_MIN <= CAPACITY_DEFAULT && CAPACITY_DEFAULT <= CAPACITY_MAX);
    assert!(WRITE_MAX <= RECEIVE_MAX);
    assert!(BYTES_PER_CALL >= 8 * WRITE_MAX && BYTES_PER_CALL >= SCRIPT_MAX + WRITE_MAX);
    assert!(CONTROL_LINE_MAX <= BYTES_PER_CALL && CONTROL_LINE_MAX <= CONTROL_OUT && CONTROL_CONNECTIONS <= u8::MAX as usize);
    assert!(OUTPUTS >= 8 * OUTPUTS_PER_CALL && OUTBOX_BYTES >= 8 * BYTES_PER_CALL);
    assert!(JOURNAL_LINE_MAX <= BYTES_PER_CALL / 4);
    assert!(RUN_BYTES_MAX > BLKSIZE_MAX as usize);
    assert!(FILE_NAME_MAX + 64 < WRITE_MAX);
    assert!(DNS_MESSAGE_MAX <= BYTES_PER_CALL && DNS_QUERY_MAX <= RECEIVE_MAX && DNS_PENDING.is_power_of_two());
    assert!(DNS_LISTENERS + DNS_CONNECTIONS + DNS_ASKERS + DNS_CALLS <= u8::MAX as usize);
    assert!(LINKS_MAX <= NETWORKS_MAX && LINKS_MAX < u8::MAX as usize);
};
