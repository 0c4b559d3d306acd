//! What the loop asks of a file process, and what it is answered: eight words, some bytes, and open files beside them.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::super::sys::pass;

/// Bytes of one message behind its words.
pub const BODY_MAX: usize = 64 << 10;
const WORDS: usize = 8;
const HEAD: usize = 8 * WORDS;

/// What is to be done. The words and files of each are described where it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    // Everybody's (`confine`).
    Confine,
    // The writer's (`pen`).
    Adopt,
    Append,
    Place,
    Settle,
    Watch,
    Names,
    // The readers' (`beneath`, `serve`).
    Look,
    Warm,
    Fetch,
    State,
    Close,
    Bury,
    // The clerk's (`clerk`).
    Config,
    Exists,
    Root,
    Bind,
    Write,
    Try,
    Survey,
}

impl Op {
    const ALL: [Op; 20] = {
        use Op::*;
        [
            Confine, Adopt, Append, Place, Settle, Watch, Names, Look, Warm, Fetch, State, Close, Bury, Config, Exists, Root, Bind, Write,
            Try, Survey,
        ]
    };

    fn of(word: u64) -> Option<Op> {
        usize::try_from(word).ok().and_then(|at| Op::ALL.get(at).copied())
    }
}

/// The words behind the first.
pub type WorkWords = [u64; WORDS - 1];
pub type WorkFiles = [Option<OwnedFd>; pass::FILES_MAX];

/// How something went.
#[derive(Debug)]
pub enum WorkOutcome {
    Done,
    /// A system call failed.
    Failed(io::Error),
    /// It is refused, with a sentence in the body.
    Refused,
}

const DONE: u64 = 0;
const REFUSED: u64 = u64::MAX;

/// An answer; its bytes are in the buffer that it was received into.
#[derive(Debug)]
pub struct WorkAnswer {
    pub outcome: WorkOutcome,
    pub words: WorkWords,
    pub len: usize,
    pub files: WorkFiles,
}

/// A request; its bytes are in the buffer that it was received into.
#[derive(Debug)]
pub struct WorkRequest {
    pub op: Op,
    pub words: WorkWords,
    pub len: usize,
    pub files: WorkFiles,
}

impl WorkRequest {
    /// The file that came along.
    pub fn file(&self) -> io::Result<&OwnedFd> {
        self.files[0].as_ref().ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

fn emit(first: u64, words: WorkWords) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    for (to, word) in head.chunks_exact_mut(8).zip([first].into_iter().chain(words)) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    head
}

fn parse(head: [u8; HEAD]) -> (u64, WorkWords) {
    let word = |at: usize| head.get(8 * at..8 * at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes);
    (word(0), std::array::from_fn(|at| word(at + 1)))
}

/// A message; None: there is none yet. An error when the other end is gone.
fn receive(fd: BorrowedFd<'_>, body: &mut [u8], wait: bool) -> io::Result<Option<(u64, WorkWords, usize, WorkFiles)>> {
    let mut head = [0; HEAD];
    match pass::receive(fd, &mut head, body, wait) {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
        Ok((len, _)) if len < HEAD => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok((len, files)) => {
            let (first, words) = parse(head);
            Ok(Some((first, words, len - HEAD, files)))
        }
    }
}

pub fn ask(fd: BorrowedFd<'_>, op: Op, words: WorkWords, body: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    pass::send(fd, &emit(op as u64, words), body, files)
}

pub fn answer(fd: BorrowedFd<'_>, outcome: &WorkOutcome, words: WorkWords, body: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let first = match outcome {
        WorkOutcome::Done => DONE,
        WorkOutcome::Failed(error) => error.raw_os_error().unwrap_or(libc::EIO) as u64,
        WorkOutcome::Refused => REFUSED,
    };
    pass::send(fd, &emit(first, words), body, files)
}

/// The next request; waits for it.
pub fn request(fd: BorrowedFd<'_>, body: &mut [u8]) -> io::Result<WorkRequest> {
    loop {
        if let Some((first, words, len, files)) = receive(fd, body, true)? {
            let op = Op::of(first).ok_or(io::ErrorKind::InvalidData)?;
            return Ok(WorkRequest { op, words, len, files });
        }
    }
}

/// The answer, if there is one by now.
pub fn answered(fd: BorrowedFd<'_>, body: &mut [u8]) -> io::Result<Option<WorkAnswer>> {
    Ok(receive(fd, body, false)?.map(|(first, words, len, files)| {
        let outcome = match first {
            DONE => WorkOutcome::Done,
            REFUSED => WorkOutcome::Refused,
            errno => WorkOutcome::Failed(io::Error::from_raw_os_error(errno as i32)),
        };
        WorkAnswer { outcome, words, len, files }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::sys::child::socket_pair;
    use std::os::fd::AsFd;

    #[test]
    fn every_request_and_answer_comes_back() {
        let (ours, theirs) = socket_pair().unwrap();
        let mut body = [0; 16];
        for (at, op) in Op::ALL.into_iter().enumerate() {
            assert_eq!(op as usize, at);
            ask(ours.as_fd(), op, [1, 2, 3, 4, 5, 6, at as u64], b"body", &[theirs.as_fd()]).unwrap();
            let request = request(theirs.as_fd(), &mut body).unwrap();
            assert_eq!((request.op, request.words, request.len), (op, [1, 2, 3, 4, 5, 6, at as u64], 4));
            assert!(request.file().is_ok());
        }
        for outcome in [WorkOutcome::Done, WorkOutcome::Refused, WorkOutcome::Failed(io::Error::from_raw_os_error(libc::EROFS))] {
            answer(theirs.as_fd(), &outcome, [7; 7], b"why", &[]).unwrap();
            let answer = answered(ours.as_fd(), &mut body).unwrap().unwrap();
            assert_eq!((format!("{:?}", answer.outcome), &body[..answer.len]), (format!("{outcome:?}"), &b"why"[..]));
        }
        assert!(answered(ours.as_fd(), &mut body).unwrap().is_none());
        drop(theirs);
        assert!(answered(ours.as_fd(), &mut body).is_err(), "the other end is gone");
    }
}
