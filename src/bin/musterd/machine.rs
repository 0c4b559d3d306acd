//! The machine as the config sees it. Which boot files there are only a file process may look up: what is not known yet is asked for, and the config
//! is resolved once more.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use muster::base::facts::LinkFacts;
use muster::config::{self, Resolved, Source, World};

use super::Options;

/// Bytes of names that are asked for at a time.
const ASKED_MAX: usize = 32 << 10;

pub struct Machine {
    links: Vec<LinkFacts>,
    known: BTreeMap<(PathBuf, String), bool>,
    asked: RefCell<Vec<(PathBuf, String)>>,
}

impl Machine {
    pub fn new(links: Vec<LinkFacts>) -> Machine {
        Machine { links, known: BTreeMap::new(), asked: RefCell::default() }
    }

    /// Its interfaces.
    pub fn facts(&self) -> &[LinkFacts] {
        &self.links
    }

    /// Which of these names are files beneath a root.
    pub fn learn(&mut self, root: &Path, names: &[String], found: &[bool]) {
        let found = found.iter().copied().chain(std::iter::repeat(false));
        self.known.extend(names.iter().zip(found).map(|(name, found)| ((root.to_path_buf(), name.clone()), found)));
    }
}

impl World for Machine {
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
}

pub enum Unresolved {
    /// Whether these are files beneath this root must be known first.
    Ask(PathBuf, Vec<String>),
    /// Sentences.
    Wrong(String),
}

/// What a config comes to, with the flags, on this machine.
pub fn resolve(options: &Options, text: Option<&str>, machine: &Machine) -> Result<Resolved, Unresolved> {
    let shown = options.config_path().display().to_string();
    let resolved = config::resolve(text.map(|text| Source { path: &shown, text }), &options.flags, machine);
    let asked = std::mem::take(&mut *machine.asked.borrow_mut());
    if let Some((root, _)) = asked.first() {
        let mut room = ASKED_MAX;
        let fits = |name: &String| {
            room = room.saturating_sub(name.len() + 1);
            room > 0
        };
        let names = asked.iter().filter(|(of, _)| of == root).map(|(_, name)| name.clone());
        return Err(Unresolved::Ask(root.clone(), names.take_while(fits).collect()));
    }
    resolved.map_err(|errors| Unresolved::Wrong(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}
