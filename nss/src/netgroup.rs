//! The netgroup `all`: every node of the plan, by its full name and by its short one. Who is up only the head knows.
//!
//! All state is a place in the caller's own structure.

use core::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use core::ptr::{null, null_mut};

use libc::size_t;

use crate::answer::{Area, CText, HostAnswer};
use crate::plan::{Host, Number};
use crate::{NssStatus, file};

/// `struct __netgrent` of glibc (inet/netgroup.h).
#[repr(C)]
pub struct Netgroup {
    kind: c_int,
    host: *const c_char,
    user: *const c_char,
    domain: *const c_char,
    data: *mut c_char,
    data_size: size_t,
    position: c_ulong,
    first: c_int,
    known: *mut c_void,
    needed: *mut c_void,
    service: *mut c_void,
}

/// `triple_val`
const TRIPLE: c_int = 0;

/// # Safety
/// As glibc calls it: `group` is a C string, `netgroup` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_muster_setnetgrent(group: *const c_char, netgroup: *mut Netgroup) -> NssStatus {
    // SAFETY: by this function's contract.
    unsafe {
        if group.is_null() || CStr::from_ptr(group) != c"all" || file::with(|_| ()).is_none() {
            return NssStatus::Unavailable;
        }
        let Some(netgroup) = netgroup.as_mut() else { return NssStatus::Unavailable };
        (netgroup.position, netgroup.data, netgroup.data_size) = (0, null_mut(), 0);
    }
    NssStatus::Success
}

/// # Safety
/// As glibc calls it: `netgroup` is one that was set, `buffer` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_muster_getnetgrent_r(
    netgroup: *mut Netgroup,
    buffer: *mut c_char,
    len: size_t,
    errno: *mut c_int,
) -> NssStatus {
    // SAFETY: by this function's contract.
    let (netgroup, mut area) = unsafe { (netgroup.as_mut(), Area::new(buffer, len)) };
    let Some(netgroup) = netgroup else { return NssStatus::Unavailable };
    let number = u32::try_from(netgroup.position / 2).ok().map(Number);
    let answer = number.and_then(|number| file::with(|file| HostAnswer::of(file, Host::Node(number))).flatten());
    let Some(answer) = answer else {
        return NssStatus::NotFound;
    };
    let host = answer.nth((netgroup.position % 2) as usize).and_then(|name| area.text(name));
    // A user of this name there is not: the group is one of hosts.
    let user = CText::of(format_args!("-")).and_then(|user| area.text(&user));
    let (Some(host), Some(user)) = (host, user) else {
        // SAFETY: by this function's contract.
        if let Some(errno) = unsafe { errno.as_mut() } {
            *errno = libc::ERANGE;
        }
        return NssStatus::TryAgain;
    };
    (netgroup.kind, netgroup.host, netgroup.user, netgroup.domain) = (TRIPLE, host, user, null());
    netgroup.position += if answer.nth(1).is_some() { 1 } else { 2 };
    NssStatus::Success
}

/// # Safety
/// As glibc calls it: `netgroup` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_muster_endnetgrent(netgroup: *mut Netgroup) -> NssStatus {
    // SAFETY: by this function's contract.
    if let Some(netgroup) = unsafe { netgroup.as_mut() } {
        netgroup.position = 0;
    }
    NssStatus::Success
}
