//! The limit that `make bench` measures musterd against: a process that does nothing but send a file's blocks over UDP, as fast as the kernel
//! takes them, a window at a time, with nobody to wait for. `bare-sender gso|mmsg ADDRESS:PORT FILE BLKSIZE WINDOW SECONDS`
//!
//! Like a TFTP server it reads each block from the file into its place behind a header of four bytes. It prints what it sent as JSON.

use std::error::Error;
use std::fs::File;
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, setsockopt, sockopt::UdpGsoSegment};
use nix::sys::uio::preadv;

const HEADER: usize = 4;

struct Window {
    file: File,
    size: u64,
    blksize: usize,
    /// `WINDOW` segments, laid end to end.
    bytes: Vec<u8>,
}

impl Window {
    /// Reads the blocks from `offset` on, with their headers; gives where the next window begins.
    fn read(&mut self, offset: u64) -> Result<u64, Box<dyn Error>> {
        let payload = (self.bytes.len() / (HEADER + self.blksize) * self.blksize) as u64;
        let offset = if offset + payload > self.size { 0 } else { offset };
        let first = offset / self.blksize as u64 + 1;
        let mut blocks = Vec::with_capacity(64);
        for (n, segment) in self.bytes.chunks_exact_mut(HEADER + self.blksize).enumerate() {
            let (header, block) = segment.split_at_mut(HEADER);
            header.copy_from_slice(&[[0, 3], ((first + n as u64) as u16).to_be_bytes()].concat());
            blocks.push(IoSliceMut::new(block));
        }
        let len = preadv(&self.file, &mut blocks, offset as i64)?;
        if len as u64 != payload { Err("the file holds no whole window".into()) } else { Ok(offset + payload) }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, to, path, blksize, window, seconds] = arguments.as_slice() else {
        return Err("usage: bare-sender gso|mmsg ADDRESS:PORT FILE BLKSIZE WINDOW SECONDS".into());
    };
    let (blksize, window, length): (usize, usize, f64) = (blksize.parse()?, window.parse()?, seconds.parse()?);
    let (segment, length) = (HEADER + blksize, Duration::try_from_secs_f64(length)?);
    let file = File::open(path)?;
    let mut blocks = Window { size: file.metadata()?.len(), file, blksize, bytes: vec![0; segment * window] };
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    if mode == "gso" {
        setsockopt(&socket, UdpGsoSegment, &i32::try_from(segment)?)?;
    }
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(window, None);
    let none = vec![None; window];
    let (mut offset, mut sent, mut refused) = (0, 0u64, 0u64);
    let began = Instant::now();
    while began.elapsed() < length {
        offset = blocks.read(offset)?;
        if mode == "gso" {
            match socket.send(&blocks.bytes) {
                Ok(_) => sent += window as u64,
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOBUFS)) || error.kind() == ErrorKind::WouldBlock => refused += 1,
                Err(error) => return Err(error.into()),
            }
        } else {
            let segments: Vec<[IoSlice<'_>; 1]> = blocks.bytes.chunks_exact(segment).map(|segment| [IoSlice::new(segment)]).collect();
            sent += sendmmsg(socket.as_raw_fd(), &mut headers, &segments, &none, [], MsgFlags::empty())?.count() as u64;
        }
    }
    let (took, usage) = (began.elapsed().as_secs_f64(), getrusage(UsageWho::RUSAGE_SELF)?);
    let cpu = [usage.user_time(), usage.system_time()].map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6);
    let told = serde_json::json!({
        "packets": sent, "payload_bytes": sent * blksize as u64, "seconds": took, "refused": refused, "cpu_s": cpu[0] + cpu[1],
    });
    println!("{told}");
    Ok(())
}
