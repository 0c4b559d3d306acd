//! What a machine has done with files that are no boot files: by the clerk, one task after the other, and names by the journal's writer.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::machine::{Input, Machine, TaskOutcome};
use crate::base::outbox::FileTask;
use crate::base::time::Now;

use super::super::clerk::{Clerk, ClerkReport, Task};
use super::super::facts;
use super::super::work::beneath::Root;
use super::Shell;

/// For whom the clerk does something.
enum For {
    /// The machine, which knows it by this number.
    Machine(u64),
    /// The loop itself: the operators' socket is made again.
    Door,
    /// The log: which files cannot be read.
    Log,
}

#[derive(Default)]
pub(super) struct Tasks {
    /// What the clerk was asked for, and the numbers of its reports.
    asked: VecDeque<(u64, For)>,
    /// The pieces of a text.
    text: Vec<u8>,
    /// The folder that was opened last.
    root: Option<Root>,
}

impl Shell {
    /// Begins a task. Without a clerk there is nobody to do it: machines that have none ask for nothing.
    pub(super) fn task(&mut self, token: u64, task: FileTask<'_>) {
        let path = |bytes| PathBuf::from(OsStr::from_bytes(bytes));
        let work = match task {
            FileTask::Piece { text } => return self.tasks.text.extend_from_slice(text),
            FileTask::Serve => {
                if let (Some(files), Some(root)) = (self.files.as_mut(), self.tasks.root.take()) {
                    files.set_root(root);
                }
                return;
            }
            FileTask::Publish { path: name } => {
                let text = std::mem::take(&mut self.tasks.text);
                return self.journal.iter_mut().for_each(|journal| journal.publish(&path(name), &text));
            }
            FileTask::Read { path: name } => Task::Config(path(name)),
            FileTask::Root { path: name } => Task::Root(path(name)),
            FileTask::Write { path: name } => Task::Write(path(name), std::mem::take(&mut self.tasks.text)),
            FileTask::Exists { names } => {
                let mut parts = names.split(|byte| *byte == 0);
                let root = path(parts.next().unwrap_or_default());
                Task::Exists(root, Vec::new(), parts.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
            }
        };
        self.ask(work, For::Machine(token));
    }

    fn ask(&mut self, work: Task, whose: For) {
        if let Some(clerk) = self.clerk.as_mut() {
            self.tasks.asked.push_back((clerk.ask(work), whose));
        }
    }

    /// Has the operators' socket made again, if there is to be one. Those who are connected stay.
    pub fn reopen_control(&mut self) {
        if let Some(task) = self.conns.guard().map(Task::bind) {
            self.ask(task, For::Door);
        }
    }

    /// Has it looked which boot files cannot be read: these, of the root that `path` names, and the others there.
    pub fn survey(&mut self, path: &Path, names: Vec<String>) {
        let root = self.files.as_ref().and_then(|files| files.root().ok());
        if let Some(root) = root {
            self.ask(Task::Survey(root, path.into(), names), For::Log);
        }
    }

    /// Tells the machine what the clerk has done.
    pub(super) fn serve_clerk<M: Machine>(&mut self, machine: &mut M, now: Now) {
        while let Some((ticket, report)) = self.clerk.as_mut().and_then(Clerk::report) {
            let asked = self.tasks.asked.pop_front().filter(|(asked, _)| *asked == ticket);
            match asked.map(|(_, whose)| whose) {
                Some(For::Machine(token)) => self.tell_done(machine, now, token, report),
                Some(For::Log) => match report {
                    ClerkReport::Surveyed(lines) => lines.iter().for_each(|line| log::warn!("{line}")),
                    ClerkReport::Failed(why) => log::info!("boot files: not looked through ({why})"),
                    _ => {}
                },
                Some(For::Door) => self.adopt_control(report).unwrap_or_else(|error| log::error!("{error}")),
                None => debug_assert!(false, "the clerk reports in the order in which it was asked"),
            }
        }
    }

    fn tell_done<M: Machine>(&mut self, machine: &mut M, now: Now, token: u64, report: ClerkReport) {
        let why;
        let links;
        let outcome = match &report {
            ClerkReport::Config(text) => match facts::links() {
                Ok(found) => {
                    links = found;
                    Ok(TaskOutcome::Text { text: text.as_deref(), links: &links })
                }
                Err(error) => {
                    why = error.to_string();
                    Err(why.as_str())
                }
            },
            ClerkReport::Exists(found) => Ok(TaskOutcome::Exists(found)),
            ClerkReport::Root(_) => Ok(TaskOutcome::Opened),
            ClerkReport::Written | ClerkReport::Tried | ClerkReport::Bound(_) | ClerkReport::Surveyed(_) => Ok(TaskOutcome::Written),
            ClerkReport::Failed(why) => Err(why.as_str()),
        };
        if !self.outbox.has_room() {
            self.drain(machine, now);
        }
        machine.handle(now, Input::Done { token, outcome }, &mut self.outbox);
        if let ClerkReport::Root(root) = report {
            self.tasks.root = Some(root);
        }
        self.drain(machine, now);
    }
}
