//! What a config may ask for at most.

use crate::base::limits;

/// The largest TFTP windowsize (RFC 7440 has 65,535).
pub const WINDOWSIZE_MAX: u16 = 64;

/// Server ports of the TFTP pool, a descriptor each.
pub const TFTP_PORTS_MAX: usize = 64;

/// A text that is made for a boot loader (iPXE, GRUB, pxelinux), in bytes.
pub const SCRIPT_MAX: usize = 4096;

/// Addresses on which names are asked for, besides those of the links.
pub const DNS_LISTEN_MAX: usize = 4;
/// Servers that questions may be forwarded to, and addresses that may have whole zones.
pub const DNS_UPSTREAMS_MAX: usize = 4;
/// Secondary name servers that may have whole zones.
pub const DNS_TRANSFER_MAX: usize = 16;

const _: () = assert!(WINDOWSIZE_MAX as usize <= limits::RUN_MAX && limits::BYTES_PER_CALL >= SCRIPT_MAX + limits::WRITE_MAX);
/// Folders beside the root into which links may lead.
pub const ALLOW_MAX: usize = 8;
