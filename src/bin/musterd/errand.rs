//! What a signal or an operator asks for, a reload or a checkpoint: one at a time, in steps, each of which waits for a file process and not the
//! loop for it.

use std::time::Duration;

use muster::base::machine::{Command, ConnId, Reload};
use muster::base::time::Instant;
use muster::config::{Config, Resolved};
use muster::shell::clerk::{Report, Task};
use muster::shell::{Asked, facts, syslog};
use muster::wire::control::{self, LINE_MAX, Reply, Sorry};

use super::machine::{Machine, Unresolved, resolve};
use super::{Daemon, write_names};

/// How long one may take, which is less than its asker waits for the answer.
const LONGEST: Duration = Duration::from_secs(8);
const STAYS: &str = "the old config stays in force";

/// What was done, in lines, or why it was not.
type Outcome = Result<Vec<String>, Sorry>;

/// How far the one that is under way has come.
enum Step {
    /// The config is read.
    Reading(Reload),
    /// It is looked up which boot files there are.
    Looking(Reload, Option<String>, Machine),
    /// The root is opened; then this config is taken over, and these lines are said.
    Opening { how: Reload, new: Box<Config>, said: Vec<String> },
    /// The state is written, and the journal; each is done once it has ended somehow.
    Keeping { state: Option<Result<String, String>>, journal: Option<Result<(), String>> },
}

#[derive(Default)]
pub struct Errands {
    doing: Option<(Step, Option<u64>, Instant)>,
    /// The connection that waits for the one that is under way.
    asker: Option<ConnId>,
    /// Signals that wait.
    reload: bool,
    state: bool,
    /// The control socket that is being created again.
    bound: Option<u64>,
}

impl Daemon {
    /// Once a turn: goes on with what is under way, and begins what is asked for.
    pub fn work(&mut self, asked: Option<Asked>) {
        match asked {
            // A connection's comes only when nothing is under way.
            Some(Asked { command, by: Some(conn) }) => {
                self.errands.asker = Some(conn);
                self.begin(command);
            }
            Some(Asked { command: Command::Reload(_), .. }) => self.errands.reload = true,
            Some(Asked { command: Command::Checkpoint, .. }) => self.errands.state = true,
            Some(Asked { command: Command::Leave, .. }) | None => {}
        }
        while let Some((ticket, report)) = self.shell.report() {
            self.reported(ticket, report);
        }
        self.look();
        if self.errands.doing.is_none() && std::mem::take(&mut self.errands.reload) {
            syslog::reopen();
            self.errands.bound = self.shell.reopen_control();
            self.begin(Command::Reload(Reload::Stay));
        }
        if self.errands.doing.is_none() && std::mem::take(&mut self.errands.state) {
            self.begin(Command::Checkpoint);
        }
    }

    fn begin(&mut self, command: Command) {
        match command {
            Command::Reload(how) => {
                let ticket = self.shell.ask(Task::Config(self.options.config_path().into()));
                self.go_on(Step::Reading(how), ticket);
            }
            Command::Checkpoint | Command::Leave => {
                let ticket = self.write_state(true);
                // What was written before this says nothing of now.
                let _ = self.shell.journal().and_then(|journal| journal.outcome());
                self.server.checkpoint();
                self.go_on(Step::Keeping { state: None, journal: None }, ticket);
            }
        }
    }

    fn go_on(&mut self, step: Step, ticket: Option<u64>) {
        let since = self.errands.doing.take().map_or_else(|| self.shell.now().at, |(_, _, since)| since);
        self.errands.doing = Some((step, ticket, since));
        self.shell.occupy(true);
    }

    /// Logs what came of it, and tells the operator who asked, if one did.
    fn end(&mut self, outcome: Outcome) {
        self.errands.doing = None;
        self.shell.occupy(false);
        let Some(asker) = self.errands.asker.take() else { return };
        let reply = match outcome {
            Ok(said) => Reply::Done { said },
            Err(sorry) => Reply::Error(sorry),
        };
        let mut line = vec![0; LINE_MAX];
        let written = control::write(&mut line, &reply).or_else(|| control::write(&mut line, &Reply::Done { said: vec![] }));
        self.shell.write(asker, line.get(..written.unwrap_or(0)).unwrap_or_default());
    }

    fn refuse(&mut self, lines: Vec<String>, why: &str) {
        lines.iter().for_each(|line| log::error!("{line}"));
        log::error!("config: not applied ({why})");
        self.end(Err(Sorry::new(format!("the config was not applied: {}", lines.join("; ")), why)));
    }

    fn reported(&mut self, ticket: u64, report: Report) {
        if self.errands.bound == Some(ticket) {
            self.errands.bound = None;
            let adopted = match report {
                Report::Bound(door) => self.shell.adopt_control(*door).map_err(|error| error.to_string()),
                Report::Failed(why) => Err(why),
                _ => Ok(()),
            };
            return adopted.unwrap_or_else(|why| log::error!("{why}"));
        }
        // One that was given up may be answered after all.
        let Some((step, _, since)) = self.errands.doing.take_if(|(_, awaited, _)| *awaited == Some(ticket)) else { return };
        match (step, report) {
            (Step::Keeping { journal, .. }, report) => {
                let path = self.server.config().server.run_dir.join("state.json");
                let state = match report {
                    Report::Failed(why) => Err(why),
                    _ => Ok(format!("written to {}", path.display())),
                };
                self.errands.doing = Some((Step::Keeping { state: Some(state), journal }, None, since));
            }
            (_, Report::Failed(why)) => self.refuse(why.lines().map(str::to_string).collect(), STAYS),
            (Step::Reading(how), Report::Config(found)) => match (self.options.text(found), facts::links()) {
                (Ok(text), Ok(links)) => self.resolve(how, text, Machine::new(links)),
                (Err(why), _) => self.refuse(vec![why], STAYS),
                (_, Err(error)) => self.refuse(vec![error.to_string()], STAYS),
            },
            (Step::Looking(how, text, mut machine), Report::Exists(found)) => {
                if let Err(Unresolved::Ask(root, names)) = resolve(&self.options, text.as_deref(), &machine) {
                    machine.learn(&root, &names, &found);
                }
                self.resolve(how, text, machine);
            }
            (Step::Opening { how, new, said }, Report::Root(root)) => {
                // Somebody may have got a lease meanwhile.
                let Some(moves) = self.moves(how, &new) else { return };
                if let Err(why) = self.server.reconfigure(self.shell.now(), &new) {
                    return self.refuse(vec![why], STAYS);
                }
                self.shell.set_root(root);
                self.take_over(&new, said, moves);
            }
            _ => self.refuse(vec!["unexpected answer of a file process: restart musterd".into()], STAYS),
        }
    }

    /// Looks at what nobody reports: the journal, and the time.
    fn look(&mut self) {
        let Some((step, _, since)) = self.errands.doing.as_mut() else { return };
        let late = self.shell.now().at.since(*since) >= LONGEST;
        if let Step::Keeping { state, journal } = step {
            if !self.server.rewrites() {
                *journal = journal.take().or_else(|| self.shell.journal().and_then(|journal| journal.outcome()));
            }
            let slow = |what: &str| late.then(|| Err(format!("{what} is not written yet: its disk does not answer")));
            let state = state.clone().or_else(|| slow("the state").map(|slow: Result<(), _>| slow.map(|()| String::new())));
            let journal = journal.clone().or_else(|| slow("the journal"));
            let (Some(state), Some(journal)) = (state, journal) else { return };
            let remedy = "check its disk, then try again";
            let failed = |why: String| {
                log::error!("{why}");
                Sorry::new(why, remedy)
            };
            return self.end(match (state, journal) {
                (Ok(said), Ok(())) => Ok(vec![said, "the journal was rewritten".into()]),
                (Err(why), Ok(())) | (Ok(_), Err(why)) => Err(failed(why)),
                (Err(why), Err(and)) => Err(failed(format!("{why}; {and}"))),
            });
        }
        if late {
            self.refuse(vec![format!("the disk of the config or of the root has not answered for {} s", LONGEST.as_secs())], STAYS);
        }
    }

    /// Makes a config of its text, as far as it is known which boot files there are.
    fn resolve(&mut self, how: Reload, text: Option<String>, machine: Machine) {
        match resolve(&self.options, text.as_deref(), &machine) {
            Ok(Resolved { config, .. }) => self.consider(how, config),
            Err(Unresolved::Wrong(why)) => self.refuse(why.lines().map(str::to_string).collect(), STAYS),
            Err(Unresolved::Ask(root, names)) => {
                let ticket = self.shell.ask(Task::Exists(root, names));
                self.go_on(Step::Looking(how, text, machine), ticket);
            }
        }
    }

    /// Whether a config can be taken over.
    fn consider(&mut self, how: Reload, new: Config) {
        let old = self.server.config();
        let fixed = old.needs_restart(&new);
        let mut said: Vec<String> = old.listing.difference(&new.listing).iter().map(|line| format!("config: {line}")).collect();
        if how == Reload::Preview && fixed.is_empty() {
            said.extend(self.moves(how, &new).into_iter().flatten());
            return self.end(Ok(said));
        }
        said.iter().for_each(|line| log::info!("{line}"));
        if !fixed.is_empty() {
            return self.refuse(fixed, "restart musterd to apply these changes");
        }
        if self.moves(how, &new).is_none() {
            return;
        }
        // Another folder may bear the root's name by now.
        let ticket = self.shell.ask(Task::Root(new.boot.root.clone()));
        self.go_on(Step::Opening { how, new: Box::new(new), said }, ticket);
    }

    /// Which nodes a config would move. None: it may not, and is refused.
    fn moves(&mut self, how: Reload, new: &Config) -> Option<Vec<String>> {
        let moves = self.server.moves(&new.plan);
        let moved: u32 = moves.iter().map(|of| of.last.0 - of.first.0 + 1).sum();
        let moves: Vec<String> = moves.iter().map(|of| format!("renumber: {of}")).collect();
        if how != Reload::Stay || moves.is_empty() {
            return Some(moves);
        }
        self.refuse(moves, &format!("it would move nodes that hold leases, {moved} in all; to move them, run muster reload --renumber"));
        None
    }

    fn take_over(&mut self, new: &Config, mut said: Vec<String>, moves: Vec<String>) {
        write_names(new, &mut self.shell);
        moves.iter().for_each(|line| log::warn!("{line} (takes effect as each node renews)"));
        said.extend(moves);
        said.push(format!("config: reloaded ({})", if said.is_empty() { "nothing has changed" } else { "now in force" }));
        log::info!("{}", said.last().map_or("", String::as_str));
        self.end(Ok(said));
    }

    /// Has the state file written, and logs the state if it was asked for.
    pub fn write_state(&mut self, show: bool) -> Option<u64> {
        let state = self.server.snapshot(self.shell.now(), self.shell.stats().collect(), self.shell.open_files());
        if show {
            state.lines().iter().for_each(|line| log::info!("{line}"));
        }
        let path = self.server.config().server.run_dir.join("state.json");
        self.shell.ask(Task::Write(path, state.json()))
    }
}
