//! What a process may do: capabilities, and the signal by which the kernel tells of a system call that it refused.

use std::io;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use libc::{c_int, c_ulong, c_void};

use super::check;

/// A capability, by its number in `linux/capability.h`.
pub type Cap = u8;

/// `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: c_int,
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn own() -> Header {
    Header { version: VERSION, pid: 0 }
}

/// The capabilities that this process may use, a bit each.
pub fn permitted() -> io::Result<u64> {
    let (mut header, mut data) = (own(), [Data::default(); 2]);
    // SAFETY: version 3 takes one header and two blocks of data, and both outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) } as c_int)?;
    Ok(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)
}

/// Whether this process may use a capability.
pub fn has(cap: Cap) -> bool {
    permitted().is_ok_and(|all| all >> cap & 1 == 1)
}

/// Gives up every capability but these, for good and for whatever might be executed.
pub fn keep_only(caps: &[Cap]) -> io::Result<()> {
    let wanted = caps.iter().fold(0u64, |all, cap| all | 1 << cap) & permitted()?;
    // SAFETY: numbers alone. Before 4.3 there is no such set, and nothing in it.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong, 0, 0, 0) };
    let part = |bits: u64| Data { effective: bits as u32, permitted: bits as u32, inheritable: 0 };
    let (mut header, data) = (own(), [part(wanted), part(wanted >> 32)]);
    // SAFETY: as above; the kernel reads the data.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) } as c_int).map(drop)
}

/// Takes all capabilities but these away from whatever this process may become. Without the right to do so nothing changes.
pub fn bound_to(caps: &[Cap]) {
    for cap in (0..64).filter(|cap| !caps.contains(cap)) {
        // SAFETY: numbers alone; one that the kernel does not know is refused.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, c_ulong::from(cap), 0, 0, 0) };
    }
}

/// A mark in a trace: from here on a filter would hold.
pub fn mark() {
    // SAFETY: numbers alone; it asks whether there is a filter.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) };
}

/// What was refused last: the call's number and who asked, plus one. It is shared by all processes that were forked since [`share`].
static REFUSED: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());

/// Makes the place where refused calls are noted, for this process and those that it forks.
pub fn share() -> io::Result<()> {
    // SAFETY: a mapping of the kernel's choice; it is never unmapped.
    let place = unsafe {
        let (reads, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        libc::mmap(std::ptr::null_mut(), size_of::<AtomicU64>(), reads, shared, -1, 0)
    };
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // A page of zeros is an atomic zero, at an address that is aligned for it.
    REFUSED.store(place.cast(), Ordering::Relaxed);
    Ok(())
}

fn refused() -> Option<&'static AtomicU64> {
    // SAFETY: null, or the mapping of `share`, which lives as long as the process and is only used as an atomic.
    unsafe { REFUSED.load(Ordering::Relaxed).as_ref() }
}

/// A system call that was refused since this was asked last: its number, and the process that asked for it.
pub fn take_refused() -> Option<(u32, u32)> {
    let place = refused()?;
    if place.load(Ordering::Relaxed) == 0 {
        return None;
    }
    let noted = place.swap(0, Ordering::Relaxed);
    (noted != 0).then_some(((noted - 1) as u32, (noted >> 32) as u32))
}

/// Whether calls can be refused with a note here: it takes knowledge of the machine's registers.
pub const CAN_NOTE: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// From now on a call that a filter traps (SIGSYS) fails with EPERM, and is noted.
pub fn note_refused() -> io::Result<()> {
    // SAFETY: sigaction is plain data; all zero is a valid value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_refused as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: the handler does only what a handler may: it writes an atomic and the context that it is given.
    check(unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) }).map(drop)
}

extern "C" fn on_refused(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes the context of what was interrupted. The registers hold the call's number; what is written is
    // what it seems to return.
    let number = unsafe { refuse(context.cast::<libc::ucontext_t>()) };
    if let Some(place) = refused() {
        let note = u64::from(std::process::id()) << 32 | (number.wrapping_add(1) & u64::from(u32::MAX));
        place.store(note, Ordering::Relaxed);
    }
}

#[cfg(target_arch = "x86_64")]
unsafe fn refuse(context: *mut libc::ucontext_t) -> u64 {
    // SAFETY: as the caller says.
    let register = unsafe { &mut (*context).uc_mcontext.gregs[libc::REG_RAX as usize] };
    std::mem::replace(register, -i64::from(libc::EPERM)) as u64
}

#[cfg(target_arch = "aarch64")]
unsafe fn refuse(context: *mut libc::ucontext_t) -> u64 {
    // SAFETY: as the caller says.
    let registers = unsafe { &mut (*context).uc_mcontext.regs };
    registers[0] = (-i64::from(libc::EPERM)) as u64;
    registers[8]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn refuse(_: *mut libc::ucontext_t) -> u64 {
    0
}
