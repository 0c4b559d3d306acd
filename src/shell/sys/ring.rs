//! A packet ring: received frames lie in memory that the kernel and we share (PACKET_RX_RING, TPACKET_V2), so that taking one costs no
//! system call. V2 and not V3, which holds frames back until a block is full.
//!
//! Each frame has a place of fixed size. Its status word says whose it is: the kernel's until a frame has been laid down, ours until it
//! is released. The ring has its size for good.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{c_int, c_void, socklen_t};

use super::{Received, TP_STATUS_CSUMNOTREADY, TP_STATUS_VLAN_VALID, check, set_int_option, set_option};
use crate::base::limits::RECEIVE_MAX;

/// The place of a frame, with the kernel's own header: a frame of more than about 1,980 bytes is cut.
const PLACE: usize = 2048;
/// What the kernel allocates at a time.
const BLOCK: usize = 1 << 16;

const PACKET_VERSION: c_int = 10;
const PACKET_RX_RING: c_int = 5;
const PACKET_STATISTICS: c_int = 6;
const TPACKET_V2: c_int = 1;
const TP_STATUS_USER: u32 = 1;
const TP_STATUS_LOSING: u32 = 1 << 2;

/// `struct tpacket_req` of `linux/if_packet.h`.
#[repr(C)]
struct RingRequest {
    block_size: u32,
    block_nr: u32,
    frame_size: u32,
    frame_nr: u32,
}

/// `struct tpacket2_hdr`, which each place begins with.
#[derive(Clone, Copy)]
#[repr(C)]
struct RingHeader {
    status: u32,
    len: u32,
    snaplen: u32,
    mac: u16,
    net: u16,
    sec: u32,
    nsec: u32,
    vlan_tci: u16,
    vlan_tpid: u16,
    padding: [u8; 4],
}

const _: () = assert!(PLACE == RECEIVE_MAX && BLOCK % PLACE == 0 && size_of::<RingHeader>() == 32);

pub struct Ring {
    map: NonNull<u8>,
    frames: usize,
    /// The place that the kernel fills next.
    next: usize,
}

impl Ring {
    /// Gives a packet socket that is not bound yet a ring of at least `frames` places.
    pub fn new(fd: BorrowedFd<'_>, frames: usize) -> io::Result<Ring> {
        let blocks = (frames * PLACE).div_ceil(BLOCK).max(1);
        let frames = blocks * (BLOCK / PLACE);
        set_int_option(fd, libc::SOL_PACKET, PACKET_VERSION, TPACKET_V2)?;
        let request = RingRequest { block_size: BLOCK as u32, block_nr: blocks as u32, frame_size: PLACE as u32, frame_nr: frames as u32 };
        set_option(fd.as_raw_fd(), libc::SOL_PACKET, PACKET_RX_RING, &request)?;
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a new mapping at an address that the kernel chooses; nothing of ours is replaced.
        let map = unsafe { libc::mmap(std::ptr::null_mut(), frames * PLACE, prot, flags, fd.as_raw_fd(), 0) };
        let map = if map == libc::MAP_FAILED { None } else { NonNull::new(map.cast::<u8>()) };
        map.map(|map| Ring { map, frames, next: 0 }).ok_or_else(|| {
            let error = io::Error::last_os_error();
            // Without its ring the socket queues frames again, for `recvmmsg`.
            let none = RingRequest { block_size: 0, block_nr: 0, frame_size: 0, frame_nr: 0 };
            let _ = set_option(fd.as_raw_fd(), libc::SOL_PACKET, PACKET_RX_RING, &none);
            error
        })
    }

    /// How many frames may wait.
    pub fn frames(&self) -> usize {
        self.frames
    }

    fn status(&self) -> &AtomicU32 {
        // SAFETY: `next < frames`, so the place lies within the mapping, which lives as long as `self`; its first word is the status, it is
        // aligned to 2048 bytes, and both sides touch it by whole words only.
        unsafe { AtomicU32::from_ptr(self.map.as_ptr().add(self.next * PLACE).cast::<u32>()) }
    }

    /// The frame that has waited the longest. It stays until it is released.
    pub fn peek(&self) -> Option<Received<'_>> {
        let status = self.status().load(Ordering::Acquire);
        if status & TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the place lies within the mapping and is aligned. The status, which was read with acquire order, says that the kernel has
        // written it and does not touch it before `release`, which needs `&mut self` and so outlives no borrow of the frame.
        let (header, place) = unsafe {
            let start = self.map.as_ptr().add(self.next * PLACE);
            (start.cast::<RingHeader>().read(), std::slice::from_raw_parts(start, PLACE))
        };
        let (start, len) = (usize::from(header.mac), header.snaplen as usize);
        let bytes = place.get(start..).and_then(|rest| rest.get(..len));
        Some(Received {
            bytes: bytes.unwrap_or(&[]),
            truncated: header.len > header.snaplen || bytes.is_none(),
            from: None,
            checksum_pending: status & TP_STATUS_CSUMNOTREADY != 0,
            vlan: (status & TP_STATUS_VLAN_VALID != 0).then_some(header.vlan_tci),
            lost: None,
            losing: status & TP_STATUS_LOSING != 0,
        })
    }

    /// Gives the place of the frame that `peek` shows back to the kernel.
    pub fn release(&mut self) {
        self.status().store(0, Ordering::Release);
        self.next = (self.next + 1) % self.frames;
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and nothing borrows from it any more.
        unsafe { libc::munmap(self.map.as_ptr().cast::<c_void>(), self.frames * PLACE) };
    }
}

/// Frames that a packet socket has dropped for want of room since this was asked last.
pub fn dropped(fd: BorrowedFd<'_>) -> u32 {
    // `struct tpacket_stats`: packets, drops.
    let (mut stats, mut len) = ([0u32; 2], size_of::<[u32; 2]>() as socklen_t);
    // SAFETY: both pointers are to locals of the sizes that are told.
    let result =
        unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_PACKET, PACKET_STATISTICS, stats.as_mut_ptr().cast::<c_void>(), &raw mut len) };
    if check(result).is_ok() { stats[1] } else { 0 }
}
