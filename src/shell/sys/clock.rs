//! What the kernel knows of its clock.

use std::io;

use super::check;

/// Whether somebody keeps the clock right (adjtimex(2): not TIME_ERROR, and not STA_UNSYNC).
pub fn is_synchronized() -> io::Result<bool> {
    // SAFETY: timex is plain data; all zero is a valid value, and with `modes` zero nothing is changed.
    let mut told: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a local, which outlives the call.
    let state = check(unsafe { libc::adjtimex(&raw mut told) })?;
    Ok(state != libc::TIME_ERROR && told.status & libc::STA_UNSYNC == 0)
}
