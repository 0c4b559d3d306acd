//! A checkpoint: the [`Snapshot`](super::view::Snapshot) of everything is logged and written to `state.json` in the run folder, and the journal is written
//! again, with the stages as they are. The two have disks of their own and go on side by side; it has ended when both have, somehow.
//!
//! The end of the daemon is a checkpoint as well, without lines in the log, and it waits for all other records besides.

use crate::base::machine::TaskOutcome;
use crate::base::outbox::{Outbox, Output};
use crate::base::time::Now;
use crate::wire::control::Rejection;

use super::command::{self, NextStep};
use super::server::Server;

const REMEDY: &str = "check its disk, then try again";

/// How far a checkpoint has come: each is done once it has ended somehow.
#[derive(Default)]
pub(super) struct CheckpointStep {
    leaves: bool,
    /// Where the state is, or why it is not.
    state: Option<Result<String, String>>,
    journal: Option<Result<(), String>>,
}

impl CheckpointStep {
    /// The machine ends with it.
    pub(super) fn leaves(&self) -> bool {
        self.leaves
    }

    /// What is not there yet does not come.
    pub(super) fn late(mut self) -> NextStep {
        if self.leaves {
            log::error!("musterd: stopping, but a disk does not answer (all promises are in the journal, the latest stages are not)");
            return NextStep::Leave;
        }
        let slow = |what| format!("{what} is not written yet: its disk does not answer");
        self.state.get_or_insert_with(|| Err(slow("the state")));
        self.journal.get_or_insert_with(|| Err(slow("the journal")));
        self.settle(true)
    }

    /// Ends when both are done. `kept`: nothing else is on its way to the disk.
    fn settle(self, kept: bool) -> NextStep {
        let (true, Some(state), Some(journal)) = (kept || !self.leaves, &self.state, &self.journal) else {
            return NextStep::Wait(command::CommandStep::Checkpoint(self));
        };
        let why = match (state, journal) {
            (Ok(_), Ok(())) => String::new(),
            (Err(why), Ok(())) | (Ok(_), Err(why)) => why.clone(),
            (Err(why), Err(and)) => format!("{why}; {and}"),
        };
        if !why.is_empty() {
            log::error!("{why}");
        }
        match state {
            _ if self.leaves => NextStep::Leave,
            Ok(said) if why.is_empty() => NextStep::End(Ok(vec![said.clone(), "the journal was rewritten".into()])),
            _ => NextStep::End(Err(Rejection::new(why, REMEDY))),
        }
    }
}

impl Server {
    pub(super) fn begin_checkpoint(&mut self, leaves: bool, out: &mut Outbox) -> NextStep {
        out.put(Output::Count);
        self.checkpoint();
        NextStep::Wait(command::CommandStep::Checkpoint(CheckpointStep { leaves, ..CheckpointStep::default() }))
    }

    /// The world has counted what the kernel has lost: the rest of the state is known.
    pub(super) fn counted(&mut self, now: Now, lost: &[(String, u64)], open_files: usize) {
        let Some(leaves) = self.commands.checkpoints() else { return };
        let snapshot = self.snapshot(now, lost.to_vec(), open_files);
        if !leaves {
            snapshot.lines().iter().for_each(|line| log::info!("{line}"));
        }
        let path = self.config().server.run_dir.join("state.json");
        self.commands.write(path, snapshot.json());
    }

    /// The state is on its disk, or cannot be.
    pub(super) fn written(&mut self, mut step: CheckpointStep, outcome: Result<TaskOutcome<'_>, &str>) -> NextStep {
        let path = self.config().server.run_dir.join("state.json");
        step.state = Some(match outcome {
            Ok(_) => Ok(format!("written to {}", path.display())),
            Err(why) => Err(why.to_string()),
        });
        step.settle(self.has_kept())
    }

    /// The journal was written again, or could not be. Where that was begun once more meanwhile, this one says nothing of now.
    pub(super) fn compacted(&mut self, outcome: Result<(), &str>, out: &mut Outbox) {
        if !self.is_compacting() {
            self.hear(out, |step| step.journal = Some(outcome.map_err(str::to_string)));
        }
    }

    /// A record is on disk.
    pub(super) fn kept(&mut self, out: &mut Outbox) {
        if self.commands.checkpoints() == Some(true) {
            self.hear(out, |_| {});
        }
    }

    fn hear(&mut self, out: &mut Outbox, what: impl FnOnce(&mut CheckpointStep)) {
        self.go_on(out, |server, step, _| match step {
            command::CommandStep::Checkpoint(mut step) => {
                what(&mut step);
                step.settle(server.has_kept())
            }
            other => NextStep::Wait(other),
        });
    }

    /// Whether everything that was put out is on disk.
    fn has_kept(&self) -> bool {
        self.pending() == 0 && !self.is_changing()
    }
}
