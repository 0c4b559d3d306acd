//! Every `unsafe` of the project, here and in the parts below: system calls that neither std nor nix offers in the form needed here (batches over fixed
//! buffers, packet sockets, reads that never wait). Each wrapper is safe to call: lengths and lifetimes are settled inside.

#![allow(unsafe_code, reason = "system calls that neither std nor nix offers in this form")]

pub(crate) mod child;
pub(crate) mod clock;
pub(crate) mod file;
pub(crate) mod handed;
pub(crate) mod map;
pub(crate) mod pass;
pub(crate) mod rights;
pub(crate) mod ring;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_void, iovec, mmsghdr, msghdr, sockaddr_in, sockaddr_ll, sockaddr_storage, socklen_t};

use crate::base::limits::RECEIVE_MAX;

/// Messages of one recvmmsg or sendmmsg call.
pub const BATCH: usize = 64;
/// Blocks of one vectored read.
pub const RUN_BLOCKS: usize = 128;

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn set_option<T>(fd: RawFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which outlives the call; T is plain data chosen by callers in this module.
    check(unsafe { libc::setsockopt(fd, level, name, (value as *const T).cast::<c_void>(), size_of::<T>() as socklen_t) }).map(drop)
}

pub fn set_int_option(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    set_option(fd.as_raw_fd(), level, name, &value)
}

/// Raises the send buffer beyond the system's limit where rights allow it, so that a turn's packets may wait for the device.
pub fn set_send_buffer(fd: BorrowedFd<'_>, bytes: usize) {
    let value = bytes as c_int;
    if set_int_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, value).is_err() {
        let _ = set_int_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, value);
    }
}

/// Whether the kernel cuts a large datagram into packets of one size (UDP_SEGMENT, since 4.18).
pub fn can_segment(fd: BorrowedFd<'_>) -> bool {
    set_int_option(fd, libc::SOL_UDP, UDP_SEGMENT, 0).is_ok()
}

/// Raises the receive buffer beyond the system's limit where rights allow it; gives the size that it has now, in bytes.
pub fn set_receive_buffer(fd: BorrowedFd<'_>, bytes: usize) -> usize {
    let value = bytes as c_int;
    if set_int_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, value).is_err() {
        let _ = set_int_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, value);
    }
    let (mut got, mut len): (c_int, socklen_t) = (0, size_of::<c_int>() as socklen_t);
    // SAFETY: both pointers are to locals of the sizes that are told.
    let result =
        unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, (&raw mut got).cast::<c_void>(), &raw mut len) };
    // The kernel tells twice what it was asked for.
    if result == 0 { got.max(0) as usize / 2 } else { 0 }
}

pub fn bind_to_device(fd: BorrowedFd<'_>, interface: &str) -> io::Result<()> {
    let name = interface.as_bytes();
    // SAFETY: the pointer and the length describe `name`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name.as_ptr().cast::<c_void>(), name.len() as socklen_t)
    };
    check(result).map(drop)
}

/// A step of a classic BPF program, as in `linux/filter.h`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Filter {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

pub fn attach_filter(fd: BorrowedFd<'_>, program: &[Filter]) -> io::Result<()> {
    // `sock_filter` and `Filter` have the same layout; the kernel copies the program.
    let fprog = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut().cast() };
    set_option(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &fprog)
}

/// A UDP socket, non-blocking, closed on exec.
/// Connections that wait to be accepted.
const BACKLOG: c_int = 1024;

pub fn udp_socket() -> io::Result<OwnedFd> {
    socket(libc::AF_INET, libc::SOCK_DGRAM, 0)
}

/// A socket with a port of the kernel's choice, for datagrams to and from one address.
pub fn udp_to(address: SocketAddrV4) -> io::Result<OwnedFd> {
    let fd = udp_socket()?;
    let address = sockaddr(address);
    // SAFETY: `address` is a whole sockaddr_in, of the length that is given.
    check(unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), size_of::<sockaddr_in>() as u32) })?;
    Ok(fd)
}

fn socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::socket(domain, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn sockaddr(address: SocketAddrV4) -> sockaddr_in {
    sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

pub fn bind_inet(fd: BorrowedFd<'_>, address: SocketAddrV4) -> io::Result<()> {
    let name = sockaddr(address);
    // SAFETY: the pointer and the length describe `name`.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), size_of::<sockaddr_in>() as socklen_t) }).map(drop)
}

/// A TCP socket that listens at an address, whether this machine has it at the moment or not.
pub fn listen_tcp(address: SocketAddrV4) -> io::Result<std::net::TcpListener> {
    let fd = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    set_int_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    set_int_option(fd.as_fd(), libc::IPPROTO_IP, libc::IP_FREEBIND, 1)?;
    bind_inet(fd.as_fd(), address)?;
    // SAFETY: no pointers.
    check(unsafe { libc::listen(fd.as_raw_fd(), BACKLOG) })?;
    Ok(fd.into())
}

/// The largest IP packet that the kernel's route to an address takes now, in bytes: no packet is sent.
pub fn route_mtu(to: Ipv4Addr) -> io::Result<u32> {
    let fd = udp_socket()?;
    let name = sockaddr(SocketAddrV4::new(to, 9));
    // SAFETY: the pointer and the length describe `name`.
    check(unsafe { libc::connect(fd.as_raw_fd(), (&raw const name).cast(), size_of::<sockaddr_in>() as socklen_t) })?;
    let (mut mtu, mut len): (c_int, _) = (0, size_of::<c_int>() as socklen_t);
    // SAFETY: the pointers describe `mtu` and `len`, which outlive the call.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MTU, (&raw mut mtu).cast(), &raw mut len) })?;
    u32::try_from(mtu).map_err(io::Error::other)
}

/// A packet socket that receives nothing yet. `raw`: with Ethernet headers; else from the network header on.
pub fn packet_socket(raw: bool) -> io::Result<OwnedFd> {
    socket(libc::AF_PACKET, if raw { libc::SOCK_RAW } else { libc::SOCK_DGRAM }, 0)
}

/// The index of the interface that a packet socket is bound to; -1: it was deleted.
pub fn bound_index(fd: BorrowedFd<'_>) -> io::Result<c_int> {
    // SAFETY: sockaddr_ll is plain data; all zero is a valid value.
    let mut name: sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut len = size_of::<sockaddr_ll>() as socklen_t;
    // SAFETY: the pointer and the length describe `name`, and both outlive the call.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut name).cast(), &raw mut len) })?;
    Ok(name.sll_ifindex)
}

/// Lets a packet socket receive all protocols of an interface.
pub fn bind_packet(fd: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain data; all zero is a valid value.
    let mut name: sockaddr_ll = unsafe { std::mem::zeroed() };
    name.sll_family = libc::AF_PACKET as u16;
    name.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    name.sll_ifindex = index as c_int;
    // SAFETY: the pointer and the length describe `name`.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), size_of::<sockaddr_ll>() as socklen_t) }).map(drop)
}

/// Subscribes a packet socket to a multicast address, or to everything (promiscuous).
pub fn packet_membership(fd: BorrowedFd<'_>, index: u32, multicast: Option<[u8; 6]>) -> io::Result<()> {
    let mut address = [0u8; 8];
    address[..6].copy_from_slice(&multicast.unwrap_or_default());
    let request = libc::packet_mreq {
        mr_ifindex: index as c_int,
        mr_type: if multicast.is_some() { libc::PACKET_MR_MULTICAST } else { libc::PACKET_MR_PROMISC } as u16,
        mr_alen: 6,
        mr_address: address,
    };
    set_option(fd.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

/// `struct tpacket_auxdata` of `linux/if_packet.h`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Auxdata {
    status: u32,
    len: u32,
    snaplen: u32,
    mac: u16,
    net: u16,
    vlan_tci: u16,
    vlan_tpid: u16,
}

const UDP_SEGMENT: c_int = 103;
const PACKET_AUXDATA: c_int = 8;
const PACKET_IGNORE_OUTGOING: c_int = 23;
const TP_STATUS_CSUMNOTREADY: u32 = 1 << 3;
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;

/// Asks for checksum and VLAN notes, and not to be shown what this machine sends itself.
pub fn packet_options(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_int_option(fd, libc::SOL_PACKET, PACKET_AUXDATA, 1)?;
    set_int_option(fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
}

/// One received message.
pub struct Received<'a> {
    pub bytes: &'a [u8],
    /// It was longer than the buffer.
    pub truncated: bool,
    /// The sender, on a UDP socket.
    pub from: Option<SocketAddrV4>,
    /// The kernel vouches for a checksum that is not filled in (packet sockets).
    pub checksum_pending: bool,
    /// The VLAN tag that was taken off the frame.
    pub vlan: Option<u16>,
    /// How many messages this socket has lost in all, when the kernel says so (SO_RXQ_OVFL).
    pub lost: Option<u32>,
    /// The ring was full lately: [`ring::dropped`] tells how much was lost.
    pub losing: bool,
}

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct RecvControl([u8; 128]);

/// Fixed buffers for `recvmmsg`.
pub struct Receiver {
    buffers: Box<[[u8; RECEIVE_MAX]]>,
    names: Box<[sockaddr_storage]>,
    control: Box<[RecvControl]>,
    iovecs: Box<[iovec]>,
    headers: Box<[mmsghdr]>,
}

impl Default for Receiver {
    fn default() -> Receiver {
        // SAFETY: these are plain C structures for which all zero is a valid value.
        let (name, vec, header): (sockaddr_storage, iovec, mmsghdr) = unsafe { std::mem::zeroed() };
        Receiver {
            buffers: vec![[0; RECEIVE_MAX]; BATCH].into(),
            names: vec![name; BATCH].into(),
            control: vec![RecvControl([0; 128]); BATCH].into(),
            iovecs: vec![vec; BATCH].into(),
            headers: vec![header; BATCH].into(),
        }
    }
}

impl Receiver {
    /// Takes what is there, at most [`BATCH`] messages; gives their number. `WouldBlock` when nothing is.
    pub fn receive(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        self.receive_some(fd, BATCH)
    }

    /// The same with fewer messages at most, but one at the least.
    pub fn receive_some(&mut self, fd: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        let most = most.clamp(1, BATCH);
        for i in 0..most {
            self.iovecs[i] = iovec { iov_base: self.buffers[i].as_mut_ptr().cast(), iov_len: RECEIVE_MAX };
            let header: &mut msghdr = &mut self.headers[i].msg_hdr;
            header.msg_name = (&raw mut self.names[i]).cast();
            header.msg_namelen = size_of::<sockaddr_storage>() as socklen_t;
            header.msg_iov = &raw mut self.iovecs[i];
            header.msg_iovlen = 1;
            header.msg_control = self.control[i].0.as_mut_ptr().cast();
            header.msg_controllen = self.control[i].0.len() as _;
            header.msg_flags = 0;
        }
        // SAFETY: every header was just pointed at buffers of this struct with their true lengths; they outlive the call, and nothing
        // else touches them during it.
        let got = unsafe {
            libc::recvmmsg(fd.as_raw_fd(), self.headers.as_mut_ptr(), most as u32, libc::MSG_DONTWAIT as _, std::ptr::null_mut())
        };
        check(got).map(|got| got as usize)
    }

    /// The message at a place below the number that `receive` gave.
    pub fn get(&self, at: usize) -> Received<'_> {
        let header = &self.headers[at].msg_hdr;
        let len = (self.headers[at].msg_len as usize).min(RECEIVE_MAX);
        let mut received = Received {
            bytes: &self.buffers[at][..len],
            truncated: header.msg_flags & libc::MSG_TRUNC != 0,
            from: self.name(at),
            checksum_pending: false,
            vlan: None,
            lost: None,
            losing: false,
        };
        // SAFETY: the kernel has filled `control` up to msg_controllen with well-formed control messages, which CMSG_* walk inside that
        // length; payloads are read unaligned after their length was checked.
        unsafe {
            let mut message = libc::CMSG_FIRSTHDR(header);
            while let Some(head) = message.as_ref() {
                let data = libc::CMSG_DATA(message);
                let len: usize = head.cmsg_len as _;
                let room = len.saturating_sub(data as usize - message as usize);
                match (head.cmsg_level, head.cmsg_type) {
                    (libc::SOL_PACKET, PACKET_AUXDATA) if room >= size_of::<Auxdata>() => {
                        let aux = data.cast::<Auxdata>().read_unaligned();
                        received.checksum_pending = aux.status & TP_STATUS_CSUMNOTREADY != 0;
                        received.vlan = (aux.status & TP_STATUS_VLAN_VALID != 0).then_some(aux.vlan_tci);
                    }
                    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) if room >= 4 => received.lost = Some(data.cast::<u32>().read_unaligned()),
                    _ => {}
                }
                message = libc::CMSG_NXTHDR(header, message);
            }
        }
        received
    }

    fn name(&self, at: usize) -> Option<SocketAddrV4> {
        let storage = &self.names[at];
        if storage.ss_family != libc::AF_INET as u16 {
            return None;
        }
        // SAFETY: the family says that the kernel wrote a sockaddr_in, which is smaller than sockaddr_storage and needs no more alignment.
        let name = unsafe { (storage as *const sockaddr_storage).cast::<sockaddr_in>().read() };
        Some(SocketAddrV4::new(Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr)), u16::from_be(name.sin_port)))
    }
}

/// A message to send: a range of one arena, and where to, on a UDP socket.
#[derive(Clone, Copy)]
pub struct OutDatagram {
    pub start: u32,
    pub len: u32,
    pub to: Option<SocketAddrV4>,
    /// The kernel cuts it into packets of this many bytes; 0: it is one packet.
    pub segment: u16,
}

/// A control message UDP_SEGMENT, laid out as `struct cmsghdr` and its padded payload.
#[derive(Clone, Copy, Default)]
#[repr(C, align(8))]
struct UdpSegment {
    len: usize,
    level: c_int,
    kind: c_int,
    size: u16,
    padding: [u8; 6],
}

impl UdpSegment {
    fn of(size: u16) -> UdpSegment {
        // CMSG_LEN: the header and the payload, without padding.
        let len = size_of::<usize>() + 2 * size_of::<c_int>() + size_of::<u16>();
        UdpSegment { len, level: libc::SOL_UDP, kind: UDP_SEGMENT, size, padding: [0; 6] }
    }
}

/// Fixed headers for `sendmmsg`.
pub struct Sender {
    names: Box<[sockaddr_in]>,
    iovecs: Box<[iovec]>,
    control: Box<[UdpSegment]>,
    headers: Box<[mmsghdr]>,
}

impl Default for Sender {
    fn default() -> Sender {
        // SAFETY: these are plain C structures for which all zero is a valid value.
        let (name, vec, header): (sockaddr_in, iovec, mmsghdr) = unsafe { std::mem::zeroed() };
        let (iovecs, headers) = (vec![vec; BATCH].into(), vec![header; BATCH].into());
        Sender { names: vec![name; BATCH].into(), iovecs, control: vec![UdpSegment::default(); BATCH].into(), headers }
    }
}

impl Sender {
    /// Sends messages whose bytes lie in `arena`, at most [`BATCH`]; gives how many were taken.
    pub fn send(&mut self, fd: BorrowedFd<'_>, arena: &[u8], messages: &[OutDatagram]) -> io::Result<usize> {
        let count = messages.len().min(BATCH);
        for (i, message) in messages.iter().take(count).enumerate() {
            let bytes = arena.get(message.start as usize..).and_then(|rest| rest.get(..message.len as usize)).unwrap_or(&[]);
            self.iovecs[i] = iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            let header = &mut self.headers[i].msg_hdr;
            (header.msg_name, header.msg_namelen) = match message.to {
                None => (std::ptr::null_mut(), 0),
                Some(to) => {
                    self.names[i] = sockaddr(to);
                    ((&raw mut self.names[i]).cast(), size_of::<sockaddr_in>() as socklen_t)
                }
            };
            header.msg_iov = &raw mut self.iovecs[i];
            header.msg_iovlen = 1;
            (header.msg_control, header.msg_controllen) = (std::ptr::null_mut(), 0);
            if message.segment > 0 {
                self.control[i] = UdpSegment::of(message.segment);
                (header.msg_control, header.msg_controllen) = ((&raw mut self.control[i]).cast(), size_of::<UdpSegment>() as _);
            }
        }
        // SAFETY: `count` headers point at names, vectors and control messages of this struct and at bytes of `arena`, all of which outlive the call; the
        // kernel only reads the bytes.
        let sent = unsafe {
            libc::sendmmsg(fd.as_raw_fd(), self.headers.as_mut_ptr(), count as u32, (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _)
        };
        check(sent).map(|sent| sent as usize)
    }
}

/// The supplementary groups of whoever has connected to a unix socket (SO_PEERGROUPS, since 4.13).
pub fn peer_groups(fd: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0u32; 64];
    loop {
        let mut len = (groups.len() * size_of::<u32>()) as socklen_t;
        // SAFETY: the pointer and the length describe `groups`, which outlives the call; the kernel writes whole words.
        let result = unsafe {
            let to = groups.as_mut_ptr().cast::<c_void>();
            libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERGROUPS, to, &raw mut len)
        };
        let count = len as usize / size_of::<u32>();
        match check(result) {
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
            // The kernel says how many there are.
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) && count > groups.len() => groups.resize(count, 0),
            Err(error) => return Err(error),
        }
    }
}

/// Hour, minute and second of a time in the zone of this process.
pub fn local_time(unix: u64) -> (u8, u8, u8) {
    let time = unix as _;
    // SAFETY: tm is plain data; all zero is a valid value (its zone is a null pointer, which is not read).
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to locals that outlive the call.
    unsafe { libc::localtime_r(&raw const time, &raw mut tm) };
    (tm.tm_hour as u8, tm.tm_min as u8, tm.tm_sec as u8)
}

/// Puts the process into a session of its own, without a terminal. Refused to the leader of a process group.
pub fn become_session_leader() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Forks; true in the child. Only called before anything is opened and before any thread exists.
pub fn fork() -> io::Result<bool> {
    // SAFETY: the process has one thread, so the child may go on as usual.
    check(unsafe { libc::fork() }).map(|pid| pid == 0)
}
