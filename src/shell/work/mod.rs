//! File processes: what may wait for a disk is done by them, so that nothing in the loop does.
//!
//! A call about a file can wait: for a disk that is slow, for a file system that is frozen (a snapshot), for the server of NFS or FUSE, which may
//! never answer. `musterd` forks a few small processes first of all, before it has read its config: eight, which are copies of an almost empty
//! process. The loop hands each one request at a time over a socket pair (SOCK_SEQPACKET, watched like any other source) and goes on; open
//! files are handed over as well (SCM_RIGHTS). The loop's process stays the only one that decides, and has one thread.
//!
//! | process | what it does |
//! |---|---|
//! | `musterd: writer` | the state folder: appends to the journal and syncs it, rewrites it, writes the names ([`pen`]) |
//! | `musterd: clerk` | what operators ask for: reads the config, looks at the root, opens the control socket, writes `state.json` ([`clerk`]) |
//! | `musterd: reader` | the boot files: six, so that one file that hangs holds up nobody but those who want it ([`beneath`]) |
//!
//! # What the loop does itself
//! Of files, it does only what never waits: it reads boot files of file systems that can say "not in memory" (`RWF_NOWAIT`), and compares them with
//! what they were (fstat), on file systems that are known to answer that from memory ([`beneath::is_near`]). It writes what is long into memory
//! (memfd) for a process to copy, reads the kernel's own /proc and /sys, and sends to sockets. On all other file systems it never touches a file
//! but to hold its O_PATH descriptor, which says nothing to any server; even closing a file can wait, and is a reader's work.
//!
//! # What it costs
//! Measured on two busy cores, ext4: asking a process and being answered takes 16 µs, which is what a sync takes longer than its disk. A look at a path takes
//! 50 µs until a new file is there and 28 µs for one that is known, against 12 µs in the loop itself, which serves others meanwhile; and a path that
//! many ask for is looked at twice a second. 64 KiB of a far file take 60 µs and what its server takes (120 µs in all of bindfs). Each
//! process has 0.2 MiB of its own, and a descriptor or two.
//!
//! # When one dies, or hangs
//! None ends by itself. When one is gone `musterd` says so and exits 1, for its supervisor to start it again: it cannot fork another one, since by then
//! it is large and has everything open. When `musterd` ends they end: their socket closes, and the kernel kills those that are about to wait
//! (PR_SET_PDEATHSIG). One that waits for a dead disk in the kernel ends when that lets it go; the writer holds the lock of the state folder until then,
//! so that no second daemon writes beside it. While one hangs the log says so, and only those who need it wait. The files of one folder of the
//! root take half of the readers at most, so that a server which is dead beneath one folder holds up no other. When all readers hang (servers are dead
//! beneath two folders, or beneath the root) every file that is not in memory waits, and a reload that names another root does not set them free:
//! that takes a restart.
//!
//! # Why not io_uring, or AIO
//! io_uring is switched off on many kernels and in most sandboxes, so that a second way would be needed anyhow; and a request of its that
//! hangs keeps the whole daemon from ending. Linux AIO only syncs without waiting; it opens and writes with a wait. One way is enough.

pub mod beneath;
pub mod clerk;
pub(crate) mod message;
pub(crate) mod pen;
mod serve;
pub mod survey;
mod walk;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::ShellError;
use super::confine::{Held, Order};
use super::sys::child;
use crate::base::time::Instant;
use message::{Op, WorkAnswer, WorkOutcome, WorkWords};

/// How many files may hang at once before those that do not hang wait as well; those of one folder of the root take half of them.
pub const READERS: usize = 6;
/// After this long without an answer it is said in the log.
pub const SLOW: Duration = Duration::from_secs(5);
/// At start: how long a process may take to give up what it does not need.
const CONFINED: Duration = Duration::from_secs(10);
/// How long the end of a process is waited for, at the end of the daemon's.
const LAST_WAIT_MS: u64 = 200;

/// All file processes.
pub struct Crew {
    /// Writes the journal and the names.
    pub writer: Worker,
    /// Does what reloads and checkpoints need.
    pub clerk: Worker,
    /// Look at paths and read boot files; [`READERS`] of them.
    pub readers: Vec<Worker>,
}

impl Crew {
    /// Forks them: to be called before anything is allocated or opened that they need not have.
    pub fn start() -> Result<Crew, ShellError> {
        let failed = |error| ShellError::system("cannot start the processes that read and write files", error, "");
        let readers = (0..READERS).map(|_| Worker::start(c"musterd: reader")).collect::<io::Result<_>>();
        let (writer, clerk) = (Worker::start(c"musterd: writer").map_err(failed)?, Worker::start(c"musterd: clerk").map_err(failed)?);
        Ok(Crew { writer, clerk, readers: readers.map_err(failed)? })
    }
}

/// One file process, and what it was asked.
pub struct Worker {
    socket: Option<OwnedFd>,
    pid: i32,
    asked: Option<Instant>,
    told: bool,
    /// Its socket may have something.
    ready: bool,
    dead: bool,
}

impl Worker {
    /// Starts one more process.
    pub fn start(name: &CStr) -> io::Result<Worker> {
        let (ours, theirs) = child::socket_pair()?;
        let pid = child::fork_child(name, theirs, |socket| serve::serve(&socket))?;
        Ok(Worker { socket: Some(ours), pid, asked: None, told: false, ready: false, dead: false })
    }

    /// Readable when there is an answer.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Some(socket) => socket.as_fd(),
            None => unreachable!("it is taken away at the end alone"),
        }
    }

    /// The kernel says that its socket has something.
    pub fn event(&mut self) {
        self.ready = true;
    }

    /// Whether there may be something to take.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether it has nothing to do.
    pub fn is_idle(&self) -> bool {
        self.asked.is_none()
    }

    /// What there is to say once its process is gone.
    pub fn death(&self) -> Option<ShellError> {
        let sentence =
            || format!("file process {} has died: restart musterd (a supervisor does), and report it if it was not killed", self.pid);
        self.dead.then(|| ShellError::new(sentence()))
    }

    /// Asks for something. One at a time, but for what is not answered.
    pub fn ask(&mut self, now: Instant, op: Op, words: WorkWords, body: &[u8], files: &[BorrowedFd<'_>]) {
        debug_assert!(self.is_idle(), "one request at a time");
        self.asked = Some(now);
        // There is room for one message in any case: it fails when the process is gone.
        self.dead |= message::ask(self.fd(), op, words, body, files).is_err();
    }

    /// Tells it something that it does not answer, before something that it does.
    pub fn tell(&mut self, op: Op, files: &[BorrowedFd<'_>]) {
        debug_assert!(self.is_idle(), "there is room for two messages");
        self.dead |= message::ask(self.fd(), op, WorkWords::default(), &[], files).is_err();
    }

    /// The answer, if there is one; its bytes are laid into the buffer.
    pub fn take(&mut self, body: &mut [u8]) -> Option<WorkAnswer> {
        match message::answered(self.fd(), body) {
            Ok(None) => self.ready = false,
            Ok(Some(answer)) => {
                self.asked = None;
                return Some(answer);
            }
            Err(_) => (self.dead, self.ready) = (true, false),
        }
        None
    }

    /// Whether it is to be said now that it gives no answer.
    pub fn hangs(&mut self, now: Instant) -> bool {
        let slow = self.asked.is_some_and(|asked| now.since(asked) >= SLOW);
        slow && !std::mem::replace(&mut self.told, true)
    }

    /// It was said that it gives no answer.
    pub fn is_told(&self) -> bool {
        self.told
    }

    /// Whether it is to be said now that it answers again.
    pub fn recovers(&mut self) -> bool {
        self.asked.is_none() && std::mem::take(&mut self.told)
    }

    /// Asks, and waits for the answer: at start.
    pub fn ask_and_wait(
        &mut self,
        op: Op,
        words: WorkWords,
        body: &[u8],
        files: &[BorrowedFd<'_>],
        room: &mut [u8],
        longest: Duration,
    ) -> io::Result<WorkAnswer> {
        self.ask(Instant::ZERO, op, words, body, files);
        if !self.wait(longest) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.take(room).ok_or_else(|| io::Error::other("a file process has died"))
    }

    /// At start: has the process give up what it does not need. What holds it then.
    pub fn confine(&mut self, order: &Order) -> io::Result<Held> {
        let (words, body) = order.message();
        let answer = self.ask_and_wait(Op::Confine, words, &body, &[], &mut [], CONFINED)?;
        match answer.outcome {
            WorkOutcome::Done => Ok(Held { landlock: answer.words[0] as u32, seccomp: answer.words[1] != 0 }),
            WorkOutcome::Failed(error) => Err(error),
            WorkOutcome::Refused => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Waits for an answer; false: the time is over.
    pub fn wait(&mut self, longest: Duration) -> bool {
        let millis = longest.as_millis().min(u16::MAX.into()) as u16;
        self.ready |= self.socket.as_ref().is_some_and(|socket| child::wait_readable(socket, millis));
        self.ready
    }

    /// Makes sending to it never wait: it is the loop's from now on.
    pub fn join_loop(&mut self) -> io::Result<()> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        Ok(fcntl(self.fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop)?)
    }
}

/// The process ends with its socket. It is waited for a moment, so that whoever starts next finds the state folder unlocked.
impl Drop for Worker {
    fn drop(&mut self) {
        self.socket = None;
        let mut waited = 0;
        while !child::has_ended(self.pid) && self.is_idle() && waited < LAST_WAIT_MS {
            std::thread::sleep(Duration::from_millis(1));
            waited += 1;
        }
    }
}

/// The sentence of a refusal, or what the system says.
pub fn sentence(outcome: &WorkOutcome, body: &[u8]) -> String {
    match outcome {
        WorkOutcome::Done => String::new(),
        WorkOutcome::Failed(error) => error.to_string(),
        WorkOutcome::Refused => String::from_utf8_lossy(body).into_owned(),
    }
}
