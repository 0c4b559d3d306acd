//! What a program says to whoever started it. The reader may have gone (`| head -1`): no fault of ours, and no reason to panic, which is what
//! `println!` does.

use std::io::{ErrorKind, Write};

use super::ShellError;

/// Writes a text to standard output. False when nobody reads it any more.
///
/// # Errors
/// It cannot be written for another reason, such as a full disk.
pub fn print(text: &str) -> Result<bool, ShellError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(ShellError::system("cannot write to standard output", error, "")),
    }
}

/// Writes a line to standard error, if anybody reads that.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
