//! The head's files that are no boot files, in memory: the config, what a checkpoint writes, the names. Each task takes as long as the disk does,
//! unless that hangs: then it is never answered.

use std::collections::BTreeMap;

use crate::base::facts::LinkFacts;
use crate::base::machine::TaskOutcome;
use crate::base::outbox::FileTask;

/// What came of a task.
#[derive(Clone, Debug, PartialEq)]
pub enum SimClerkAnswer {
    Text(Option<String>),
    Exists(Vec<bool>),
    Opened,
    Written,
    Failed(String),
}

#[derive(Default)]
pub struct SimClerk {
    files: BTreeMap<String, String>,
    /// The pieces of a text.
    text: Vec<u8>,
    /// The folder that was opened last, and the one from which boot files are served.
    opened: Option<String>,
    root: String,
    /// The disk hangs.
    pub hangs: bool,
}

impl SimClerkAnswer {
    /// As the machine hears it.
    pub fn outcome<'a>(&'a self, links: &'a [LinkFacts]) -> Result<TaskOutcome<'a>, &'a str> {
        match self {
            SimClerkAnswer::Text(text) => Ok(TaskOutcome::Text { text: text.as_deref(), links }),
            SimClerkAnswer::Exists(found) => Ok(TaskOutcome::Exists(found)),
            SimClerkAnswer::Opened => Ok(TaskOutcome::Opened),
            SimClerkAnswer::Written => Ok(TaskOutcome::Written),
            SimClerkAnswer::Failed(why) => Err(why),
        }
    }
}

impl SimClerk {
    /// Serves boot files from this folder.
    pub fn new(root: String) -> SimClerk {
        SimClerk { root, ..SimClerk::default() }
    }

    /// Somebody writes a file.
    pub fn put(&mut self, path: &str, text: impl Into<String>) {
        self.files.insert(path.into(), text.into());
    }

    /// What a file holds, if there is one.
    pub fn file(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// From where boot files are served.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Does a task; gives what there is to tell of it. `exists` tells which names are boot files: all folders hold the same.
    pub fn act(&mut self, task: FileTask<'_>, exists: impl Fn(&[u8]) -> bool) -> Option<SimClerkAnswer> {
        let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let answer = match task {
            FileTask::Piece { text } => {
                self.text.extend_from_slice(text);
                return None;
            }
            FileTask::Serve => {
                self.root = self.opened.take().unwrap_or_default();
                return None;
            }
            FileTask::Publish { path } => {
                self.write(string(path));
                return None;
            }
            FileTask::Read { path } => SimClerkAnswer::Text(self.file(&string(path)).map(str::to_string)),
            FileTask::Exists { names } => SimClerkAnswer::Exists(names.split(|byte| *byte == 0).skip(1).map(exists).collect()),
            FileTask::Root { path } => {
                self.opened = Some(string(path));
                SimClerkAnswer::Opened
            }
            FileTask::Write { path } if path.starts_with(b"/full/") => {
                self.text.clear();
                SimClerkAnswer::Failed(format!("cannot write {}: no space is left", string(path)))
            }
            FileTask::Write { path } => {
                self.write(string(path));
                SimClerkAnswer::Written
            }
        };
        Some(answer).filter(|_| !self.hangs)
    }

    fn write(&mut self, path: String) {
        let text = std::mem::take(&mut self.text);
        self.files.insert(path, String::from_utf8_lossy(&text).into_owned());
    }
}
