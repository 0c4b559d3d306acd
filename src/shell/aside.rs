//! A look that may hang, or that needs another user's eyes: done by a process of its own, which is given up when it does not answer in time.
//!
//! For programs that look at a machine (`muster doctor`); the daemon has its file processes ([`super::work`]). Nothing is changed here but by what
//! the look itself does.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ShellError;
use super::confine::account::Account;
use super::confine::become_account;
use super::sys::child;

/// What a look came to.
pub enum Aside<T> {
    /// What it found.
    Found(T),
    /// It has not ended in time: something that it touches hangs.
    Hangs,
}

/// Looks as this user, without any privilege; None: as whoever runs this. It is waited for as long as `patience`.
///
/// # Errors
/// There can be no such process, or it died.
pub fn look<T: Serialize + DeserializeOwned>(
    user: Option<&Account>,
    patience: Duration,
    look: impl FnOnce() -> T,
) -> Result<Aside<T>, ShellError> {
    let failed = |error: io::Error| ShellError::system("cannot look from a process of its own", error, "");
    let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
    let pid = child::fork_child(c"muster: look", OwnedFd::from(theirs), |socket| {
        let answer = match user.map_or(Ok(()), become_account) {
            Ok(()) => Ok(look()),
            Err(error) => Err(error.to_string()),
        };
        let text = serde_json::to_vec(&answer).unwrap_or_default();
        // Whoever asked may have given up.
        let _ = UnixStream::from(socket).write_all(&text);
    })
    .map_err(failed)?;
    let heard = hear(&mut ours, Instant::now() + patience);
    if !matches!(heard, Ok(Some(_))) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    // One that waits for a dead disk cannot be waited for.
    child::has_ended(pid);
    let Some(text) = heard.map_err(failed)? else { return Ok(Aside::Hangs) };
    match serde_json::from_slice::<Result<T, String>>(&text) {
        Ok(Ok(found)) => Ok(Aside::Found(found)),
        Ok(Err(why)) => Err(ShellError::new(format!("cannot become {}: {why}", user.map_or("it", |user| &user.name)))),
        Err(error) => Err(failed(error.into())),
    }
}

/// All that is said until the other end closes. None: the time is over.
fn hear(from: &mut UnixStream, end: Instant) -> io::Result<Option<Vec<u8>>> {
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        from.set_read_timeout(Some(left))?;
        match from.read(&mut piece) {
            Ok(0) => return Ok(Some(text)),
            Ok(len) => text.extend_from_slice(piece.get(..len).unwrap_or_default()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_answered_in_full_or_given_up() {
        let found = look(None, Duration::from_secs(10), || "x".repeat(300_000)).unwrap();
        assert!(matches!(found, Aside::Found(text) if text.len() == 300_000));
        let begin = Instant::now();
        let hangs = look(None, Duration::from_millis(100), || std::thread::sleep(Duration::from_secs(60))).unwrap();
        assert!(matches!(hangs, Aside::Hangs) && begin.elapsed() < Duration::from_secs(30));
        assert!(look(None, Duration::from_secs(10), || -> u8 { std::process::abort() }).is_err(), "it died");
    }

    #[test]
    fn it_looks_with_the_eyes_of_the_user() {
        let path = std::env::temp_dir().join(format!("muster-aside-{}", std::process::id()));
        std::fs::write(&path, "").unwrap();
        std::os::unix::fs::chown(&path, Some(0), Some(0)).expect("this test becomes another user: run it as root");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let nobody = Account { name: "nobody".into(), uid: 65534, gid: 65534, operators: None };
        let can = |user| look(user, Duration::from_secs(10), || std::fs::File::open(&path).is_ok()).unwrap();
        assert!(matches!((can(None), can(Some(&nobody))), (Aside::Found(true), Aside::Found(false))));
        std::fs::remove_file(&path).unwrap();
    }
}
