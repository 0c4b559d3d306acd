//! The name-service module `libnss_muster.so.2`: names and addresses of a cluster's nodes by arithmetic, from the names file alone.
//!
//! It is a crate of its own because it is loaded into every process of a machine that looks a name up: it depends on libc alone and allocates
//! nothing. The arithmetic is the main crate's very source (`roll/plan`), which is built in here a second time. Each call reads the file again
//! (some 200 bytes, always in the page cache), so there is no state: calls may come from any thread, also one with the smallest stack, in a signal
//! handler, after a fork. What is no whole names file is as good as none.
//!
//! NOTFOUND is said of what the plan would have if it were there: a number beyond it, and IPv6 of a node. Without a names file, and of all other
//! names and addresses, the module says UNAVAIL, so that `[NOTFOUND=return]` behind it keeps others' questions going and ends its own. Results live in the caller's buffer; one that is too small gets ERANGE, and the caller comes
//! again with a larger one.
//!
//! The functions are those of glibc's nss.h (info libc, "NSS Modules Interface"). All pointers come from glibc, which checks them.

// Without the standard library, which would bring its own threads and symbols of a recent C library into every process. It is only there
// where panics unwind: in builds for tests.
#![cfg_attr(panic = "abort", no_std)]
#![allow(unsafe_code, reason = "the C library calls it by pointers, and its buffers are the caller's")]

#[allow(dead_code)]
#[path = "../../src/roll/plan/mod.rs"]
mod plan;

mod answer;
mod file;
mod netgroup;

use core::ffi::{CStr, c_char, c_int, c_void};

use answer::{Area, FoundHost, HostAnswer, Tuple};
use libc::{AF_INET, AF_INET6, hostent, in_addr, size_t, socklen_t};
use plan::Host;

// The one library that it needs.
#[link(name = "c")]
unsafe extern "C" {}

/// Nothing here panics: this is for the linker.
#[cfg(panic = "abort")]
#[panic_handler]
fn never(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: it may be called at any time.
    unsafe { libc::abort() }
}

/// `enum nss_status`
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NssStatus {
    /// NSS_STATUS_TRYAGAIN: ask again, with a larger buffer where errno is ERANGE.
    TryAgain = -2,
    /// NSS_STATUS_UNAVAIL: there is no usable names file, or the name is not of its kind.
    Unavailable = -1,
    /// NSS_STATUS_NOTFOUND: a name of the plan's kind that it has not.
    NotFound = 0,
    /// NSS_STATUS_SUCCESS: the result is in the caller's buffer.
    Success = 1,
}

/// netdb.h
const NETDB_INTERNAL: c_int = -1;
const NETDB_SUCCESS: c_int = 0;
const HOST_NOT_FOUND: c_int = 1;
const NO_DATA: c_int = 4;

/// Longer ones are no names (RFC 1035, 2.3.4).
const NAME_MAX: usize = 255;

/// Where a caller wants to hear how it went.
struct ErrnoPointers {
    errno: *mut c_int,
    h_errno: *mut c_int,
}

impl ErrnoPointers {
    /// # Safety
    /// Both pointers are glibc's.
    unsafe fn tell(&self, status: NssStatus, errno: c_int, h_errno: c_int) -> NssStatus {
        // SAFETY: by this function's contract they are null or may be written.
        unsafe {
            if !self.errno.is_null() && errno != 0 {
                *self.errno = errno;
            }
            if !self.h_errno.is_null() {
                *self.h_errno = h_errno;
            }
        }
        status
    }

    unsafe fn missing(&self, why: Missing) -> NssStatus {
        let status = match why {
            Missing::NotOurs => NssStatus::Unavailable,
            Missing::NotThere => NssStatus::NotFound,
        };
        // SAFETY: as for `tell`.
        unsafe { self.tell(status, libc::ENOENT, HOST_NOT_FOUND) }
    }

    unsafe fn too_small(&self) -> NssStatus {
        // SAFETY: as for `tell`.
        unsafe { self.tell(NssStatus::TryAgain, libc::ERANGE, NETDB_INTERNAL) }
    }

    unsafe fn done(&self) -> NssStatus {
        // SAFETY: as for `tell`.
        unsafe { self.tell(NssStatus::Success, 0, NETDB_SUCCESS) }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// Another module may know it: there is no names file, or it is not for such names.
    NotOurs,
    /// Nobody else would know it.
    NotThere,
}

/// The host that a name means.
///
/// # Safety
/// `name` is null or a C string.
unsafe fn by_name(name: *const c_char) -> Result<HostAnswer, Missing> {
    // SAFETY: by this function's contract.
    let name = unsafe { name.as_ref().map(|name| CStr::from_ptr(name)) };
    let name = name.and_then(|name| name.to_str().ok()).filter(|name| name.len() <= NAME_MAX).ok_or(Missing::NotOurs)?;
    file::with(|file| {
        file.plan.names().meaning(name).ok_or(Missing::NotOurs)?;
        let host = file.plan.meaning(name).ok_or(Missing::NotThere)?;
        HostAnswer::of(file, host).ok_or(Missing::NotThere)
    })
    .unwrap_or(Err(Missing::NotOurs))
}

/// # Safety
/// As glibc calls it: `name` is a C string, `result` may be written, `buffer` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_muster_gethostbyname3_r(
    name: *const c_char,
    family: c_int,
    result: *mut hostent,
    buffer: *mut c_char,
    len: size_t,
    errno: *mut c_int,
    h_errno: *mut c_int,
    ttl: *mut i32,
    canonical: *mut *mut c_char,
) -> NssStatus {
    let outcome = ErrnoPointers { errno, h_errno };
    // SAFETY: by this function's contract.
    unsafe {
        if family != AF_INET && family != AF_INET6 {
            return outcome.tell(NssStatus::Unavailable, libc::EAFNOSUPPORT, NO_DATA);
        }
        let answer = match by_name(name) {
            Ok(answer) => answer,
            Err(why) => return outcome.missing(why),
        };
        if family == AF_INET6 {
            return outcome.tell(NssStatus::NotFound, libc::ENOENT, NO_DATA);
        }
        let Some(found) = answer.hostent(&mut Area::new(buffer, len)) else { return outcome.too_small() };
        give(found, result, ttl, canonical);
        outcome.done()
    }
}

unsafe fn give(found: FoundHost, result: *mut hostent, ttl: *mut i32, canonical: *mut *mut c_char) {
    // SAFETY: the caller's contract: null or writable.
    unsafe {
        if !canonical.is_null() {
            *canonical = found.0.h_name;
        }
        if !ttl.is_null() {
            *ttl = 0;
        }
        if !result.is_null() {
            *result = found.0;
        }
    }
}

/// # Safety
/// As [`_nss_muster_gethostbyname3_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_muster_gethostbyname2_r(
    name: *const c_char,
    family: c_int,
    result: *mut hostent,
    buffer: *mut c_char,
    len: size_t,
    errno: *mut c_int,
    h_errno: *mut c_int,
) -> NssStatus {
    let none = core::ptr::null_mut();
    // SAFETY: by this function's contract; the last two may be null.
    unsafe { _nss_muster_gethostbyname3_r(name, family, result, buffer, len, errno, h_errno, none, core::ptr::null_mut()) }
}

/// # Safety
/// As [`_nss_muster_gethostbyname3_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_muster_gethostbyname_r(
    name: *const c_char,
    result: *mut hostent,
    buffer: *mut c_char,
    len: size_t,
    errno: *mut c_int,
    h_errno: *mut c_int,
) -> NssStatus {
    // SAFETY: by this function's contract.
    unsafe { _nss_muster_gethostbyname2_r(name, AF_INET, result, buffer, len, errno, h_errno) }
}

/// What getaddrinfo asks for AF_UNSPEC.
///
/// # Safety
/// As glibc calls it: `tuples` may be written, and points to null or to a tuple that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_muster_gethostbyname4_r(
    name: *const c_char,
    tuples: *mut *mut Tuple,
    buffer: *mut c_char,
    len: size_t,
    errno: *mut c_int,
    h_errno: *mut c_int,
    ttl: *mut i32,
) -> NssStatus {
    let outcome = ErrnoPointers { errno, h_errno };
    // SAFETY: by this function's contract.
    unsafe {
        let answer = match by_name(name) {
            Ok(answer) => answer,
            Err(why) => return outcome.missing(why),
        };
        let mut area = Area::new(buffer, len);
        let Some(text) = answer.name(&mut area) else { return outcome.too_small() };
        let tuple = answer.tuple(text);
        if !tuples.is_null() {
            match (*tuples).as_mut() {
                Some(theirs) => *theirs = tuple,
                None => match area.put(tuple) {
                    Some(ours) => *tuples = ours,
                    None => return outcome.too_small(),
                },
            }
        }
        if !ttl.is_null() {
            *ttl = 0;
        }
        outcome.done()
    }
}

/// # Safety
/// As glibc calls it: `address` has `address_len` bytes, `result` may be written, `buffer` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_muster_gethostbyaddr2_r(
    address: *const c_void,
    address_len: socklen_t,
    family: c_int,
    result: *mut hostent,
    buffer: *mut c_char,
    len: size_t,
    errno: *mut c_int,
    h_errno: *mut c_int,
    ttl: *mut i32,
) -> NssStatus {
    let outcome = ErrnoPointers { errno, h_errno };
    // SAFETY: by this function's contract.
    unsafe {
        if family != AF_INET || address_len as usize != size_of::<in_addr>() || address.is_null() {
            return outcome.tell(NssStatus::Unavailable, libc::EAFNOSUPPORT, HOST_NOT_FOUND);
        }
        let octets = address.cast::<[u8; 4]>().read_unaligned();
        let answer = file::with(|file| {
            let host = match file.plan.number(octets.into()) {
                Some(number) => Host::Node(number),
                None => file.head.filter(|head| head.octets() == octets).map(|_| Host::Head)?,
            };
            HostAnswer::of(file, host)
        });
        let Some(answer) = answer.flatten() else { return outcome.missing(Missing::NotOurs) };
        let Some(found) = answer.hostent(&mut Area::new(buffer, len)) else { return outcome.too_small() };
        give(found, result, ttl, core::ptr::null_mut());
        outcome.done()
    }
}

/// # Safety
/// As [`_nss_muster_gethostbyaddr2_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_muster_gethostbyaddr_r(
    address: *const c_void,
    address_len: socklen_t,
    family: c_int,
    result: *mut hostent,
    buffer: *mut c_char,
    len: size_t,
    errno: *mut c_int,
    h_errno: *mut c_int,
) -> NssStatus {
    // SAFETY: by this function's contract; the last may be null.
    unsafe { _nss_muster_gethostbyaddr2_r(address, address_len, family, result, buffer, len, errno, h_errno, core::ptr::null_mut()) }
}
