//! What the machine and the loop have done by the clerk ([`super::work::clerk`]): one thing after the other, each answered when it is done.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ShellError;
use super::confine::{Held, Order};
use super::control::Guard;
use super::sys::file::in_memory;
use super::work::beneath::{How, Root};
use super::work::clerk::Door;
use super::work::message::{BODY_MAX, Op, WorkAnswer, WorkOutcome, WorkWords};
use super::work::survey::names_of;
use super::work::{SLOW, Worker, sentence};
use crate::base::time::Instant;

/// What is to be done.
#[derive(Debug)]
pub enum Task {
    /// Read this config.
    Config(PathBuf),
    /// Tell which names are regular files beneath this root. At start: with these folders into which links may lead.
    Exists(PathBuf, Vec<PathBuf>, Vec<String>),
    /// Open this folder to serve from.
    Root(PathBuf),
    /// Replace this file, whole or not at all.
    Write(PathBuf, Vec<u8>),
    /// Create the control socket again.
    Bind(PathBuf, Option<(u64, u64)>),
    /// See whether the disk of the journal's folder answers.
    Try(PathBuf),
    /// See which files beneath this root cannot be read, these names first.
    Survey(Root, PathBuf, Vec<String>),
}

/// What came of it. Errors are whole sentences.
#[derive(Debug)]
pub enum ClerkReport {
    /// None: there is no such file.
    Config(Option<String>),
    /// For each name, whether it is a regular file.
    Exists(Vec<bool>),
    /// The folder, opened.
    Root(Root),
    /// The file is replaced.
    Written,
    /// The socket, bound and listening.
    Bound(Box<Door>),
    /// The disk answers.
    Tried,
    /// Sentences on what cannot be read.
    Surveyed(Vec<String>),
    /// It could not be done, and why.
    Failed(String),
}

/// The loop's side of the clerk process, which does one task after the other.
pub struct Clerk {
    worker: Worker,
    doing: Option<(u64, Task)>,
    queue: VecDeque<(u64, Task)>,
    reports: VecDeque<(u64, ClerkReport)>,
    ticket: u64,
    room: Box<[u8]>,
}

impl Clerk {
    /// A clerk with nothing to do.
    pub fn new(worker: Worker) -> Clerk {
        Clerk { worker, doing: None, queue: VecDeque::new(), reports: VecDeque::new(), ticket: 0, room: vec![0; BODY_MAX].into() }
    }

    /// At start: has something done, and waits for it, but not for ever.
    pub fn wait(&mut self, task: Task, longest: Duration) -> ClerkReport {
        let what = task.what();
        self.ask(task);
        self.give(Instant::ZERO);
        let deadline = std::time::Instant::now() + longest;
        while std::time::Instant::now() < deadline && self.reports.is_empty() && self.death().is_none() {
            self.worker.wait(Duration::from_millis(50));
            self.turn(Instant::ZERO);
        }
        match self.reports.pop_front() {
            Some((_, report)) => report,
            None => ClerkReport::Failed(format!("{what}: its disk or server has not answered for {} s: check it", longest.as_secs())),
        }
    }

    /// At start: has its process give up what it does not need. What holds it then.
    pub fn confine(&mut self, order: &Order) -> io::Result<Held> {
        self.worker.confine(order)
    }

    /// The loop's from now on; gives what is to be watched.
    pub fn join_loop(&mut self) -> io::Result<RawFd> {
        self.worker.join_loop()?;
        Ok(self.worker.fd().as_raw_fd())
    }

    /// The kernel says that its socket has something.
    pub fn event(&mut self) {
        self.worker.event();
    }

    /// Why it cannot go on.
    pub fn death(&self) -> Option<ShellError> {
        self.worker.death()
    }

    /// Something is under way, so that it is to be looked at each half second.
    pub fn is_waiting(&self) -> bool {
        self.doing.is_some()
    }

    /// There is something to hand over or to report, which waits for no event.
    pub fn has_work(&self) -> bool {
        !self.reports.is_empty() || (self.doing.is_none() && !self.queue.is_empty())
    }

    /// Has something done; gives the number that its report will bear.
    pub fn ask(&mut self, task: Task) -> u64 {
        self.ticket += 1;
        self.queue.push_back((self.ticket, task));
        self.ticket
    }

    /// Once a turn: takes what was done, and gives more to do.
    pub fn turn(&mut self, now: Instant) {
        if self.worker.is_ready() {
            if let Some(answer) = self.worker.take(&mut self.room) {
                if let Some((ticket, task)) = self.doing.take() {
                    let report = report(&task, answer, &self.room);
                    self.reports.push_back((ticket, report));
                }
            }
        }
        self.give(now);
        if self.worker.hangs(now) {
            let what = self.doing.as_ref().map_or(String::new(), |(_, task)| task.what());
            log::error!("{what}: its disk or server has not answered for {} s (check it)", SLOW.as_secs());
        }
        if self.worker.recovers() {
            log::info!("config, root or run folder: its disk or server answers again");
        }
    }

    fn give(&mut self, now: Instant) {
        if self.doing.is_some() {
            return;
        }
        let Some((ticket, task)) = self.queue.pop_front() else { return };
        match task.send(&mut self.worker, now) {
            Ok(()) => self.doing = Some((ticket, task)),
            Err(error) => self.reports.push_back((ticket, ClerkReport::Failed(format!("{}: {error}", task.what())))),
        }
    }

    /// The next report.
    pub fn report(&mut self) -> Option<(u64, ClerkReport)> {
        self.reports.pop_front()
    }
}

impl Task {
    /// Creates the socket of operators' connections again.
    pub fn bind(guard: &Guard) -> Task {
        let (folder, ours) = guard.place();
        Task::Bind(folder.to_path_buf(), ours)
    }

    fn what(&self) -> String {
        match self {
            Task::Config(path) => format!("cannot read the config {}", path.display()),
            Task::Exists(root, ..) | Task::Root(root) | Task::Survey(_, root, _) => format!("cannot serve files from {}", root.display()),
            Task::Write(path, _) => format!("cannot write {}", path.display()),
            Task::Bind(folder, _) => format!("cannot open the control socket in {}", folder.display()),
            Task::Try(folder) => format!("cannot keep the journal in {}", folder.display()),
        }
    }

    fn send(&self, worker: &mut Worker, now: Instant) -> io::Result<()> {
        let (mut words, mut files) = (WorkWords::default(), Vec::<OwnedFd>::new());
        let (op, body) = match self {
            Task::Config(path) => (Op::Config, path.as_os_str().as_bytes().to_vec()),
            Task::Root(path) => (Op::Root, path.as_os_str().as_bytes().to_vec()),
            Task::Try(path) => (Op::Try, path.as_os_str().as_bytes().to_vec()),
            Task::Survey(root, _, names) => {
                words[..2].copy_from_slice(&[u64::from(root.how != How::Openat2), root.near.into()]);
                files.push(root.fd.try_clone()?);
                (Op::Survey, names_of(names))
            }
            Task::Exists(root, allow, names) => {
                let names = names.iter().flat_map(|name| [&b"\0"[..], name.as_bytes()].concat());
                let allow = allow.iter().flat_map(|path| [&b"\n"[..], path.as_os_str().as_bytes()].concat());
                (Op::Exists, root.as_os_str().as_bytes().iter().copied().chain(allow).chain(names).collect())
            }
            Task::Write(path, text) => {
                let mut file = File::from(in_memory(c"muster")?);
                io::Write::write_all(&mut file, text)?;
                files.push(file.into());
                (Op::Write, path.as_os_str().as_bytes().to_vec())
            }
            Task::Bind(folder, ours) => {
                let (dev, ino) = ours.unwrap_or_default();
                words[..3].copy_from_slice(&[ours.is_some().into(), dev, ino]);
                (Op::Bind, folder.as_os_str().as_bytes().to_vec())
            }
        };
        if body.len() > BODY_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        worker.ask(now, op, words, &body, &files);
        Ok(())
    }
}

fn report(task: &Task, mut answer: WorkAnswer, room: &[u8]) -> ClerkReport {
    let body = room.get(..answer.len).unwrap_or_default();
    if let WorkOutcome::Refused = answer.outcome {
        return ClerkReport::Failed(sentence(&answer.outcome, body));
    }
    if let WorkOutcome::Failed(error) = &answer.outcome {
        let remedy = if matches!(task, Task::Write(..)) { ": check that its folder exists and is not full" } else { "" };
        return ClerkReport::Failed(format!("{}: {error}{remedy}", task.what()));
    }
    let words = answer.words;
    match (task, answer.files[0].take()) {
        (Task::Config(_), Some(file)) => match text(file) {
            Ok(text) => ClerkReport::Config(Some(text)),
            Err(error) => ClerkReport::Failed(format!("{}: {error}", task.what())),
        },
        (Task::Config(_), None) => ClerkReport::Config(None),
        (Task::Exists(..), _) => ClerkReport::Exists(body.iter().map(|byte| *byte != 0).collect()),
        (Task::Root(_), Some(fd)) => {
            let how = if words[0] == 0 { How::Openat2 } else { How::Walk(words[0] as i32) };
            ClerkReport::Root(Root { fd, how, near: words[1] != 0 })
        }
        (Task::Survey(_, root, _), _) => ClerkReport::Surveyed(denied(body, [words[0], words[1]], root)),
        (Task::Write(..), _) => ClerkReport::Written,
        (Task::Try(_), _) => ClerkReport::Tried,
        (Task::Bind(..), Some(listener)) => ClerkReport::Bound(Box::new(Door {
            listener: listener.into(),
            identity: Some((words[0], words[1])),
            group: words[2].checked_sub(1).map(|group| group as u32),
            ungiven: (words[3] != 0).then(|| io::Error::from_raw_os_error(words[3] as i32)),
        })),
        (task, None) => ClerkReport::Failed(format!("{}: a file process gave no file", task.what())),
    }
}

/// What there is to say of files that cannot be read: the body has the user, the names of some that are denied, and those that are links out.
fn denied(body: &[u8], [count, denied]: [u64; 2], root: &Path) -> Vec<String> {
    let (said, root) = (String::from_utf8_lossy(body), root.display());
    let mut names = said.split('\0');
    let user = names.next().unwrap_or_default();
    let (denied, outside): (Vec<_>, Vec<_>) = (0..).zip(names).partition(|(at, _)| *at < denied);
    let list = |names: &[(u64, &str)]| names.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ");
    let more = count.saturating_sub(denied.len() as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let mut lines = Vec::new();
    if !denied.is_empty() {
        lines.push(format!("boot files: {user} may not read {}{more} in {root} (chmod a+r, or a+rx for a folder)", list(&denied)));
    }
    if !outside.is_empty() {
        let remedy = "name the folder where they lead with allow in [boot], by absolute links, and restart";
        lines.push(format!("boot files: not served, since their links lead out of {root}: {} ({remedy})", list(&outside)));
    }
    lines
}

fn text(file: OwnedFd) -> io::Result<String> {
    let (mut file, mut text) = (File::from(file), String::new());
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}
