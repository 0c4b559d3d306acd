//! What the head's owner asks for: to read the config again, to write the state down, to end. A command comes from a signal
//! ([`Input::Command`](crate::base::machine::Input)) or in an operator's line, and is the same either way; who asked on a connection gets the answer there.
//!
//! One command is under way at a time, in steps ([`reload`](super::reload), [`checkpoint`](super::checkpoint)). What waits for a file is a
//! [`FileTask`] of the world's, which says what came of it; between two steps machines boot. The next command begins when this one has ended.
//! Signals of one kind that wait are one. To end goes before everything else, and is a checkpoint whose end is
//! [`Output::Leave`](crate::base::outbox::Output).
//!
//! Limits: a command that has not ended after [`LONGEST`] is given up, which is less than its asker waits for the answer; the end waits for
//! [`LAST`] at most. [`WAITING`] commands wait. Allocates, since no machine that boots waits for it. Called by the Server alone.

use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::machine::{Command, ConnId, Reload, TaskOutcome};
use crate::base::outbox::{FileTask, Outbox, Output};
use crate::base::time::{Instant, Now};
use crate::config::ConfigFile;
use crate::wire::control::{self, Rejection, Reply};

use super::server::Server;
use super::{checkpoint, reload};

/// How long a command may take.
pub const LONGEST: Duration = Duration::from_secs(8);
/// At the end: how long the disks of journal and state are waited for.
pub const LAST: Duration = Duration::from_secs(5);
const WAITING: usize = 64;
/// Bytes of a text that are put out in one call.
const PIECE: usize = 32 << 10;
/// The longest reason in an answer, in bytes: what is behind it is in the log.
const WHY_MAX: usize = 16 << 10;

/// What there is to say of something that was done, a line each, or why it was not.
pub(super) type CommandResult = Result<Vec<String>, Rejection>;

/// What is to be said of reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadState {
    /// One is under way.
    UnderWay,
    /// The last one was refused: the config before it is in force.
    Refused,
    /// What was read last is in force.
    Done,
}

/// How far a command has come.
pub(super) enum CommandStep {
    Reload(reload::ReloadStep),
    Checkpoint(checkpoint::CheckpointStep),
}

/// What is to be done next.
pub(super) enum NextStep {
    /// The world does a task; these are its bytes. Then the step goes on.
    Task(CommandStep, FileTask<'static>, Vec<u8>),
    /// The step goes on when it hears of something.
    Wait(CommandStep),
    End(CommandResult),
    /// Everything is written down.
    Leave,
}

struct Current {
    step: CommandStep,
    /// The connection that waits for the answer; None: it was a signal.
    by: Option<ConnId>,
    began: Instant,
}

/// A text on its way to the world, and what becomes of it.
struct TextTask {
    text: String,
    sent: usize,
    end: FileTask<'static>,
    path: PathBuf,
    token: u64,
}

#[derive(Default)]
pub(super) struct Commands {
    /// What a reload reads.
    pub(super) file: ConfigFile,
    current: Option<Current>,
    waiting: VecDeque<(Command, Option<ConnId>)>,
    texts: VecDeque<TextTask>,
    /// What is written down says that there are numbers.
    pub(super) remembered: bool,
    /// How the last reload ended.
    refused: bool,
    /// The last task, and the one whose end the current command waits for; 0: none.
    token: u64,
    awaits: u64,
}

impl Commands {
    fn checkpoint(&self) -> Option<&checkpoint::CheckpointStep> {
        self.current.as_ref().and_then(|current| if let CommandStep::Checkpoint(step) = &current.step { Some(step) } else { None })
    }

    /// Whether a checkpoint is under way, and whether the machine ends with it.
    pub(super) fn checkpoints(&self) -> Option<bool> {
        self.checkpoint().map(checkpoint::CheckpointStep::leaves)
    }

    fn longest(&self) -> Duration {
        if self.checkpoints() == Some(true) { LAST } else { LONGEST }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let begins = self.current.is_none() && !self.waiting.is_empty();
        if begins || !self.texts.is_empty() {
            return Some(Instant::ZERO);
        }
        self.current.as_ref().map(|current| current.began + self.longest())
    }

    /// The number of a task that the current command waits for from now on.
    fn issue(&mut self) -> u64 {
        self.token += 1;
        self.awaits = self.token;
        self.token
    }

    /// Has a text written; the current command waits for that.
    pub(super) fn write(&mut self, path: PathBuf, text: String) {
        let token = self.issue();
        self.texts.push_back(TextTask { text, sent: 0, end: FileTask::Write { path: &[] }, path, token });
    }

    /// Has a text written beside the journal. Nobody waits for that.
    pub(super) fn publish(&mut self, path: PathBuf, text: String) {
        self.texts.push_back(TextTask { text, sent: 0, end: FileTask::Publish { path: &[] }, path, token: 0 });
    }

    /// Puts out the next piece of a text, or what becomes of the pieces.
    fn put_out(&mut self, out: &mut Outbox) {
        let Some(text) = self.texts.front_mut() else { return };
        let rest = text.text.as_bytes().get(text.sent..).unwrap_or_default();
        let piece = rest.get(..PIECE).unwrap_or(rest);
        if !piece.is_empty() {
            out.task(0, FileTask::Piece { text: &[] }, piece);
            text.sent += piece.len();
        } else if let Some(TextTask { end, path, token, .. }) = self.texts.pop_front() {
            out.task(token, end, bytes_of(&path));
        }
    }
}

pub(super) fn bytes_of(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

impl Server {
    /// The same server, which reads its config from this file when it is to read it again.
    pub fn with_file(mut self, file: ConfigFile) -> Server {
        self.commands.file = file;
        self
    }

    /// Whether a reload is under way or waits; else how the last one ended.
    pub fn reload_state(&self) -> ReloadState {
        let commands = &self.commands;
        let under_way = matches!(&commands.current, Some(Current { step: CommandStep::Reload(step), .. }) if !step.previews());
        let is_reload = |command: &Command| matches!(command, Command::Reload(Reload::Stay | Reload::Renumber));
        match commands.refused {
            _ if under_way || commands.waiting.iter().any(|(command, _)| is_reload(command)) => ReloadState::UnderWay,
            true => ReloadState::Refused,
            false => ReloadState::Done,
        }
    }

    /// Takes a command up. It begins when those before it have ended.
    pub(super) fn command(&mut self, now: Now, command: Command, by: Option<ConnId>, out: &mut Outbox) {
        let waiting = &mut self.commands.waiting;
        if command == Command::Leave {
            waiting.clear();
            if self.commands.checkpoints() != Some(true) {
                self.begin(now, command, by, out);
            }
        } else if by.is_none() && waiting.contains(&(command, None)) {
            // The one that waits begins after this signal as well.
        } else if waiting.len() < WAITING {
            waiting.push_back((command, by));
        } else {
            answer(out, by, Err(Rejection::new("the daemon is busy", "try again")));
        }
    }

    /// Puts texts out, gives up what takes too long, and begins what waits.
    pub(super) fn expire_commands(&mut self, now: Now, out: &mut Outbox) {
        while !self.commands.texts.is_empty() && out.has_room() {
            self.commands.put_out(out);
        }
        let longest = self.commands.longest();
        if self.commands.current.as_ref().is_some_and(|current| now.at.since(current.began) >= longest) && out.has_room() {
            self.go_on(out, |_, step, _| match step {
                CommandStep::Reload(_) => reload::late(),
                CommandStep::Checkpoint(step) => step.late(),
            });
        }
        if self.commands.current.is_none() && out.has_room() {
            if let Some((command, by)) = self.commands.waiting.pop_front() {
                self.begin(now, command, by, out);
            }
        }
    }

    fn begin(&mut self, now: Now, command: Command, by: Option<ConnId>, out: &mut Outbox) {
        // What the one before has asked for, if it did not come to its end, is not for this one.
        self.commands.awaits = 0;
        let next = match command {
            Command::Reload(how) => reload::begin(how, &self.commands.file),
            Command::Checkpoint => self.begin_checkpoint(false, out),
            Command::Leave => self.begin_checkpoint(true, out),
        };
        self.follow((by, now.at, matches!(command, Command::Reload(Reload::Stay | Reload::Renumber))), next, out);
    }

    /// The world has done a task, or cannot.
    pub(super) fn done(&mut self, now: Now, token: u64, outcome: Result<TaskOutcome<'_>, &str>, out: &mut Outbox) {
        // One that was given up may be answered after all.
        if token != self.commands.awaits {
            return;
        }
        self.go_on(out, |server, step, out| match step {
            CommandStep::Reload(step) => server.go_on_reloading(now, step, outcome, out),
            CommandStep::Checkpoint(step) => server.written(step, outcome),
        });
    }

    /// The current command goes on.
    pub(super) fn go_on(&mut self, out: &mut Outbox, on: impl FnOnce(&mut Server, CommandStep, &mut Outbox) -> NextStep) {
        if let Some(Current { step, by, began }) = self.commands.current.take() {
            let reload = matches!(&step, CommandStep::Reload(step) if !step.previews());
            let next = on(self, step, out);
            self.follow((by, began, reload), next, out);
        }
    }

    fn follow(&mut self, (by, began, reload): (Option<ConnId>, Instant, bool), next: NextStep, out: &mut Outbox) {
        let step = match next {
            NextStep::Task(step, task, bytes) => {
                let put_out = out.task(self.commands.issue(), task, &bytes);
                debug_assert!(put_out, "there is room for a task in a call");
                step
            }
            NextStep::Wait(step) => step,
            NextStep::End(outcome) => {
                if reload {
                    self.commands.refused = outcome.is_err();
                }
                return answer(out, by, outcome);
            }
            NextStep::Leave => {
                out.put(Output::Leave);
                return;
            }
        };
        self.commands.current = Some(Current { step, by, began });
    }
}

/// Tells who asked on a connection what came of it, as far as a line holds it: the log has the rest.
fn answer(out: &mut Outbox, by: Option<ConnId>, outcome: CommandResult) {
    let Some(conn) = by else { return };
    let mut reply = match outcome {
        Ok(said) => Reply::Done { said },
        Err(Rejection { why, hint }) => Reply::Error(Rejection { why: cut(why), hint }),
    };
    while !out.write(conn, |buf| control::write(buf, &reply)) {
        let Reply::Done { said } = &mut reply else { return };
        // The last line says how it ended.
        let Some(last) = said.pop() else { return };
        said.truncate(said.len() / 2);
        said.push(last);
    }
}

fn cut(mut why: String) -> String {
    if why.len() > WHY_MAX {
        why.truncate((0..=WHY_MAX).rev().find(|at| why.is_char_boundary(*at)).unwrap_or(0));
        why.push_str("...");
    }
    why
}

#[cfg(test)]
mod tests;
