//! The config's file, read at start, for a test, or again: its text and the facts come from whoever may touch files, which need know no key of it.
//!
//! Which boot files there are is not known before the text is: [`ConfigFile::resolve`] asks for what it misses, and is called once more.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::ConfigText;
use super::memory::LinkMemory;
use super::model::System;
use super::resolve::{Flags, Resolved, resolve};
use crate::base::facts::LinkFacts;

/// Bytes of names that are asked for at a time.
const ASKED_MAX: usize = 32 << 10;

/// Where the config is, and what the command line says.
#[derive(Clone, Debug, Default)]
pub struct ConfigFile {
    /// Where it is, usually /etc/muster/muster.toml.
    pub path: PathBuf,
    /// Somebody has named it, so it must be there.
    pub required: bool,
    /// What the command line sets, in place of the file.
    pub flags: Flags,
}

/// What is known of the machine: its links, and which names are files beneath which root, as far as that was looked up.
#[derive(Debug, Default)]
pub struct MachineFacts {
    links: Vec<LinkFacts>,
    known: BTreeMap<(PathBuf, String), bool>,
    asked: RefCell<Vec<(PathBuf, String)>>,
    allowed: RefCell<Vec<PathBuf>>,
    /// The folders of the pid file and of the journal, as far as the config was read.
    places: RefCell<Option<(PathBuf, PathBuf)>>,
    /// What earlier daemons knew of the links is known.
    recalled: bool,
    /// Something was written down; and it cannot be read.
    remembers: bool,
    damaged: bool,
}

/// Why there is no config (yet).
#[derive(Debug)]
pub enum Unresolved {
    /// Which of these names are files beneath this root must be known first: see [`MachineFacts::learn`].
    Ask(PathBuf, Vec<String>),
    /// What this file says of the links must be known first: see [`MachineFacts::recall`].
    Recall(PathBuf),
    /// An interface is missing, or has no address yet; else it would be right. The folder of the pid file, and what is missing.
    Await(PathBuf, String),
    /// What is wrong, a sentence a line.
    Wrong(String),
}

impl ConfigFile {
    /// What the text comes to on this machine. None: there is no such file.
    ///
    /// # Errors
    /// Everything that is wrong with it, or what must be known first.
    pub fn resolve(&self, text: Option<&str>, facts: &MachineFacts) -> Result<Resolved, Unresolved> {
        let shown = self.path.display().to_string();
        if text.is_none() && self.required {
            return Err(Unresolved::Wrong(format!("cannot read the config {shown}: no such file: name another with -c")));
        }
        let resolved = resolve(text.map(|text| ConfigText { path: &shown, text }), &self.flags, facts);
        let places = facts.places.borrow().clone();
        if let Some((_, state)) = places.as_ref().filter(|_| !facts.recalled) {
            return Err(Unresolved::Recall(state.join(LinkMemory::FILE)));
        }
        if let Some((_, state)) = places.as_ref().filter(|_| facts.damaged) {
            let path = state.join(LinkMemory::FILE).display().to_string();
            let what = "is damaged: it says by which networks nodes have their addresses";
            return Err(Unresolved::Wrong(format!(
                "{path} {what} (restore it; or remove it, and nodes get their addresses by the interfaces as they are)"
            )));
        }
        let asked = std::mem::take(&mut *facts.asked.borrow_mut());
        if let Some((root, _)) = asked.first() {
            let mut room = ASKED_MAX;
            let fits = |name: &String| {
                room = room.saturating_sub(name.len() + 1);
                room > 0
            };
            let names = asked.iter().filter(|(of, _)| of == root).map(|(_, name)| name.clone());
            return Err(Unresolved::Ask(root.clone(), names.take_while(fits).collect()));
        }
        resolved.map_err(|errors| {
            let said = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            match places.filter(|_| errors.iter().all(|error| error.passes)) {
                Some((run, _)) => Unresolved::Await(run, said),
                None => Unresolved::Wrong(said),
            }
        })
    }
}

impl MachineFacts {
    /// Of a machine with these links, of whose files nothing is known.
    pub fn new(links: Vec<LinkFacts>) -> MachineFacts {
        MachineFacts { links, recalled: true, ..MachineFacts::default() }
    }

    /// The same at start: what an earlier daemon knew of the links is still to be read.
    pub fn at_start(links: Vec<LinkFacts>) -> MachineFacts {
        MachineFacts { recalled: false, ..MachineFacts::new(links) }
    }

    /// What an earlier daemon knew of the links, as it wrote it down; None: nothing.
    pub fn recall(&mut self, text: Option<&str>) {
        self.recalled = true;
        self.remembers = text.is_some();
        match text.map(LinkMemory::read) {
            Some(Some(memory)) => memory.apply(&mut self.links),
            Some(None) => self.damaged = true,
            None => {}
        }
    }

    /// Whether an earlier daemon has written down what nodes have their addresses by.
    pub fn remembers(&self) -> bool {
        self.remembers
    }

    /// Folders into which links in the root may lead, as far as the config was read.
    pub fn allowed(&self) -> Vec<PathBuf> {
        self.allowed.borrow().clone()
    }

    /// Which of these names are files beneath a root, in their order; those behind the last that was found are none.
    pub fn learn(&mut self, root: &Path, names: &[String], found: &[bool]) {
        let found = found.iter().copied().chain(std::iter::repeat(false));
        self.known.extend(names.iter().zip(found).map(|(name, found)| ((root.to_path_buf(), name.clone()), found)));
    }
}

impl System for MachineFacts {
    fn links(&self) -> &[LinkFacts] {
        &self.links
    }

    fn exists(&self, root: &Path, name: &str) -> bool {
        let key = (root.to_path_buf(), name.to_string());
        self.known.get(&key).copied().unwrap_or_else(|| {
            self.asked.borrow_mut().push(key);
            false
        })
    }

    fn allow(&self, folders: &[PathBuf]) {
        *self.allowed.borrow_mut() = folders.to_vec();
    }

    fn places(&self, run: &Path, state: &Path) {
        *self.places.borrow_mut() = Some((run.into(), state.into()));
    }
}
