//! The file processes as the loop serves them: boot files, the journal, and what operators ask for.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::time::Duration;

use mio::Interest;
use mio::unix::SourceFd;

use crate::base::machine::{Input, Machine};
use crate::base::time::Now;

use super::super::ShellError;
use super::super::clerk::{Clerk, ClerkReport, Task};
use super::super::conns::OWN_TOKEN;
use super::super::files::{Files, News};
use super::super::journal::{Journal, JournalNews};
use super::super::source::EventSource;
use super::super::work::Worker;
use super::{ROUNDS, Shell};

/// How long the root is waited for at start.
const START: Duration = Duration::from_secs(10);

/// Opens the root, the way all beneath it will be opened.
pub(super) fn open(clerk: &mut Clerk, root: &Path, readers: Vec<Worker>) -> Result<Files, ShellError> {
    match clerk.wait(Task::Root(root.to_path_buf()), START) {
        ClerkReport::Root(root) => {
            Files::new(root, readers).map_err(|error| ShellError::system("cannot use the processes that read files", error, ""))
        }
        ClerkReport::Failed(why) => Err(ShellError::new(why)),
        _ => Err(ShellError::new("the root was not opened: start musterd again")),
    }
}

impl Shell {
    fn watch(&self, fd: RawFd, source: EventSource) -> Result<(), ShellError> {
        let watched = self.poll.registry().register(&mut SourceFd(&fd), source.into(), Interest::READABLE);
        watched.map_err(|error| ShellError::system("cannot watch a file process", error, ""))
    }

    pub(super) fn watch_files(&mut self, mut clerk: Clerk) -> Result<(), ShellError> {
        for (at, fd) in self.files.iter().flat_map(Files::fds).enumerate() {
            self.watch(fd, EventSource::Reader(at))?;
        }
        let fd = clerk.join_loop().map_err(|error| ShellError::system("cannot use a file process", error, ""))?;
        self.watch(fd, EventSource::Clerk)?;
        self.clerk = Some(clerk);
        Ok(())
    }

    /// From now on what the machine promises is kept in this journal.
    pub fn keep(&mut self, journal: Journal) -> Result<(), ShellError> {
        self.watch(journal.fd().as_fd().as_raw_fd(), EventSource::Journal)?;
        self.journal = Some(journal);
        Ok(())
    }

    /// How many boot files are open.
    pub fn open_files(&self) -> usize {
        self.files.as_ref().map_or(0, Files::open_files)
    }

    /// Something is asked of a file process: its answer is looked for each turn, and whether it hangs each half second.
    pub(super) fn is_waiting(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| !journal.is_idle())
            || self.files.as_ref().is_some_and(Files::is_waiting)
            || self.clerk.as_ref().is_some_and(Clerk::is_waiting)
    }

    /// Takes what the file processes have done. An error when one is gone.
    pub(super) fn turn_files(&mut self, now: Now) -> Result<(), ShellError> {
        let Shell { files, clerk, journal, .. } = self;
        files.iter_mut().for_each(|files| files.turn(now.at));
        clerk.iter_mut().for_each(|clerk| clerk.turn(now.at));
        let death = files.as_ref().and_then(Files::death).or_else(|| clerk.as_ref().and_then(Clerk::death));
        match death.or_else(|| journal.as_ref().and_then(Journal::death)) {
            Some(death) => Err(death),
            None => Ok(()),
        }
    }

    /// Tells the machine what there is of boot files, and gives the readers what came of it.
    pub(super) fn serve_files<M: Machine>(&mut self, machine: &mut M, now: Now) {
        for _ in 0..ROUNDS {
            while self.outbox.has_room() {
                let Some(news) = self.files.as_mut().and_then(Files::news) else { break };
                let input = match news {
                    News::Opened { token, answer } => Input::Opened { token, answer },
                    News::Warm { token: OWN_TOKEN } => {
                        self.conns.warm(now.at);
                        continue;
                    }
                    News::Warm { token } => Input::Warm { token },
                };
                machine.handle(now, input, &mut self.outbox);
            }
            self.drain(machine, now);
            if !self.files.as_ref().is_some_and(Files::has_news) {
                break;
            }
        }
        self.files.iter_mut().for_each(Files::dispatch);
    }

    /// Gives the journal's writer what was put out, and tells the machine what is on disk.
    pub(super) fn serve_journal<M: Machine>(&mut self, machine: &mut M, now: Now) {
        while let Some(told) = self.journal.as_mut().and_then(|journal| journal.turn(now.at)) {
            let outcome = self.journal.as_mut().filter(|_| told == JournalNews::Compacted).and_then(Journal::outcome);
            let failed = outcome.and_then(Result::err);
            let input = match (told, &failed) {
                (JournalNews::Synced(seq), _) => Input::Synced { seq },
                (JournalNews::Compacted, Some(why)) => Input::NotCompacted { why },
                (JournalNews::Compacted, None) => Input::Compacted,
                (JournalNews::TakenAway, _) => Input::JournalGone,
            };
            machine.handle(now, input, &mut self.outbox);
            self.drain(machine, now);
        }
    }
}
