//! What a reload may do, and in which order: the config is read; it is looked which boot files there are, as far as the text leaves that open; the
//! new config is compared with the old one; the root is opened; then everything is in force at once.
//!
//! Refused, with the old config in force as before: what is no config; what was sized at start ([`Config::needs_restart`]); what would move
//! nodes that hold leases, unless an operator says so ([`Reload::Renumber`]); what contradicts the journal. A file that cannot be read or a disk that
//! hangs refuses it as well. A preview ends with the comparison.
//!
//! What the config leaves out rests on the interfaces as they were, once there are numbered machines (`config::memory`).

use std::path::PathBuf;

use crate::base::machine::{Reload, TaskOutcome};
use crate::base::outbox::{FileTask, Outbox};
use crate::base::time::Now;
use crate::config::{Config, ConfigFile, LinkMemory, MachineFacts, Resolved, Unresolved};
use crate::roll::plan::{NamesFile, This};
use crate::wire::control::Rejection;

use super::command::{self, LONGEST, NextStep, bytes_of};
use super::dns::Serial;
use super::server::Server;

const STAYS: &str = "the old config stays in force";

/// How far a reload has come.
pub(super) enum ReloadStep {
    /// The config is read.
    Reading(Reload),
    /// It is looked which of these names are files beneath the root.
    Looking { how: Reload, text: Option<String>, facts: Box<MachineFacts>, root: PathBuf, names: Vec<String> },
    /// The root is opened; then this config is taken over, and these lines are said.
    Opening { how: Reload, new: Box<Config>, said: Vec<String> },
}

impl ReloadStep {
    /// Whether it ends with the comparison.
    pub(super) fn previews(&self) -> bool {
        let (ReloadStep::Reading(how) | ReloadStep::Looking { how, .. } | ReloadStep::Opening { how, .. }) = self;
        how.is_preview()
    }
}

fn task(step: ReloadStep, task: FileTask<'static>, bytes: Vec<u8>) -> NextStep {
    NextStep::Task(command::CommandStep::Reload(step), task, bytes)
}

pub(super) fn begin(how: Reload, file: &ConfigFile) -> NextStep {
    task(ReloadStep::Reading(how), FileTask::Read { path: &[] }, bytes_of(&file.path).to_vec())
}

/// The world has not answered in time.
pub(super) fn late() -> NextStep {
    refuse(vec![format!("the disk of the config or of the root has not answered for {} s", LONGEST.as_secs())], STAYS)
}

fn refuse(lines: Vec<String>, why: &str) -> NextStep {
    lines.iter().for_each(|line| log::error!("{line}"));
    log::error!("config: not applied ({why})");
    NextStep::End(Err(Rejection::new(format!("the config was not applied: {}", lines.join("; ")), why)))
}

impl Server {
    pub(super) fn go_on_reloading(
        &mut self,
        now: Now,
        step: ReloadStep,
        done: Result<TaskOutcome<'_>, &str>,
        out: &mut Outbox,
    ) -> NextStep {
        match (step, done) {
            (_, Err(why)) => refuse(why.lines().map(str::to_string).collect(), STAYS),
            (ReloadStep::Reading(how), Ok(TaskOutcome::Text { text, links })) => {
                let mut links = links.to_vec();
                let numbered = !how.derives_anew() && self.is_numbered();
                LinkMemory::of(self.config(), numbered).apply(&mut links);
                self.resolve(how, text.map(str::to_string), Box::new(MachineFacts::new(links)))
            }
            (ReloadStep::Looking { how, text, mut facts, root, names }, Ok(TaskOutcome::Exists(found))) => {
                facts.learn(&root, &names, found);
                self.resolve(how, text, facts)
            }
            (ReloadStep::Opening { how, new, said }, Ok(TaskOutcome::Opened)) => self.take_over(now, how, &new, said, out),
            _ => refuse(vec!["unexpected answer of a file process: restart musterd".into()], STAYS),
        }
    }

    /// Makes a config of its text, as far as it is known which boot files there are.
    fn resolve(&mut self, how: Reload, text: Option<String>, facts: Box<MachineFacts>) -> NextStep {
        match self.commands.file.resolve(text.as_deref(), &facts) {
            Ok(Resolved { config, .. }) => self.consider(how, config),
            Err(Unresolved::Wrong(why) | Unresolved::Await(_, why)) => refuse(why.lines().map(str::to_string).collect(), STAYS),
            Err(Unresolved::Recall(_)) => unreachable!("only at start something is read that this server wrote"),
            Err(Unresolved::Ask(root, names)) => {
                let asked = names.iter().flat_map(|name| [&b"\0"[..], name.as_bytes()].concat());
                let bytes = bytes_of(&root).iter().copied().chain(asked).collect();
                task(ReloadStep::Looking { how, text, facts, root, names }, FileTask::Exists { names: &[] }, bytes)
            }
        }
    }

    /// Whether a config can be taken over.
    fn consider(&self, how: Reload, new: Config) -> NextStep {
        let old = self.config();
        let fixed = old.needs_restart(&new);
        let mut said: Vec<String> = old.listing.difference(&new.listing).iter().map(|line| format!("config: {line}")).collect();
        if how.is_preview() && fixed.is_empty() {
            said.extend(self.moved(&new).0);
            return NextStep::End(Ok(said));
        }
        said.iter().for_each(|line| log::info!("{line}"));
        if !fixed.is_empty() {
            return refuse(fixed, "restart musterd to apply these changes");
        }
        if let Err((moves, why)) = self.may_move(how, &new) {
            return refuse(moves, &why);
        }
        // Another folder may bear the root's name by now.
        let path = bytes_of(&new.boot.root).to_vec();
        task(ReloadStep::Opening { how, new: Box::new(new), said }, FileTask::Root { path: &[] }, path)
    }

    /// Which nodes a config would move, a line each run of them, and how many they are.
    fn moved(&self, new: &Config) -> (Vec<String>, u32) {
        let moves = self.moves(&new.plan);
        (moves.iter().map(|of| format!("renumber: {of}")).collect(), moves.iter().map(|of| of.last.0 - of.first.0 + 1).sum())
    }

    /// The same, if it may; else why not.
    fn may_move(&self, how: Reload, new: &Config) -> Result<Vec<String>, (Vec<String>, String)> {
        let (moves, nodes) = self.moved(new);
        if how != Reload::Stay || moves.is_empty() {
            return Ok(moves);
        }
        Err((moves, format!("it would move nodes that hold leases, {nodes} in all; to move them, run muster reload --renumber")))
    }

    /// The root is open: the new config is in force from here on, all of it, or it is refused.
    fn take_over(&mut self, now: Now, how: Reload, new: &Config, mut said: Vec<String>, out: &mut Outbox) -> NextStep {
        // Somebody may have got a lease meanwhile.
        let moves = match self.may_move(how, new) {
            Ok(moves) => moves,
            Err((moves, why)) => return refuse(moves, &why),
        };
        let heads: Vec<_> = self.config().links.iter().zip(&new.links).map(|(old, new)| (old.head, new.head)).collect();
        if let Err(why) = self.reconfigure(now, new) {
            return refuse(vec![why], STAYS);
        }
        for (link, (from, to)) in (0..).zip(heads).filter(|(_, (from, to))| from != to) {
            self.readdress(now, link, (from, to), out);
        }
        out.task(0, FileTask::Serve, &[]);
        self.judge_links(now, out);
        self.publish_names();
        moves.iter().for_each(|line| log::warn!("{line} (takes effect as each node renews)"));
        said.extend(moves);
        said.push(format!("config: reloaded ({})", if said.is_empty() { "nothing has changed" } else { "now in force" }));
        log::info!("{}", said.last().map_or("", String::as_str));
        NextStep::End(Ok(said))
    }

    /// Tells the programs of the head the plan (libnss_muster(8)), at start and when it may have changed. Boots need no such file.
    pub(super) fn publish_names(&mut self) {
        let config = self.config();
        let text = NamesFile { plan: config.plan, head: config.head(), this: Some(This::Head) }.to_string();
        if text.len() > NamesFile::TOLD_MAX {
            log::warn!("names: not sent to nodes (too many segments for a DHCP message; copy the file, see libnss_muster(8))");
        }
        let path = config.server.state_dir.join("names");
        self.commands.publish(path, text);
        let serial = self.config().server.state_dir.join(Serial::FILE);
        self.commands.publish(serial, self.names_serial().to_string());
        self.remember_links();
    }

    /// Whether a machine has its address by a number.
    fn is_numbered(&self) -> bool {
        self.roll().lots().occupied() > 0
    }

    /// Writes down by what nodes have their addresses, when there is a first node, or none any more.
    pub(super) fn look_at_numbers(&mut self) {
        if self.commands.remembered != self.is_numbered() {
            self.remember_links();
        }
    }

    fn remember_links(&mut self) {
        let numbered = self.is_numbered();
        self.commands.remembered = numbered;
        let path = self.config().server.state_dir.join(LinkMemory::FILE);
        let text = LinkMemory::of(self.config(), numbered).to_string();
        self.commands.publish(path, text);
    }
}
