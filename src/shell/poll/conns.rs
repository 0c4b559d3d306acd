//! Connections as the loop serves them: after those who boot, and a bounded number of messages a turn, so that machines that boot wait
//! for nobody's questions, however many are asked.

use std::path::Path;

use crate::base::machine::{Input, Machine};
use crate::base::time::Now;

use super::super::ShellError;
use super::super::clerk::ClerkReport;
use super::super::conns::News;
use super::super::control::Guard;
use super::super::work::clerk::{Door, open_door};
use super::Shell;

impl Shell {
    /// Opens the operators' socket in a folder. Refuses when another daemon answers on it.
    pub fn open_control(&mut self, folder: &Path) -> Result<(), ShellError> {
        self.listen(folder, open_door(folder, None)?)
    }

    fn listen(&mut self, folder: &Path, door: Door) -> Result<(), ShellError> {
        let (guard, listener) = Guard::new(folder, door);
        let adopted = self.conns.adopt(self.poll.registry(), listener, guard);
        adopted.map_err(|error| ShellError::system("cannot watch the control socket", error, ""))
    }

    /// Listens at the socket that was made again.
    pub(super) fn adopt_control(&mut self, report: ClerkReport) -> Result<(), ShellError> {
        let folder = self.conns.guard().map(|guard| guard.place().0.to_path_buf());
        match (report, folder) {
            (ClerkReport::Bound(door), Some(folder)) => self.listen(&folder, *door),
            (ClerkReport::Failed(why), _) => Err(ShellError::new(why)),
            _ => Ok(()),
        }
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Reads, writes and accepts, and tells the machine what has come of it.
    pub(super) fn serve_conns<M: Machine>(&mut self, machine: &mut M, now: Now, busy: bool) {
        if !self.conns.has_work() && self.conns.deadline().is_none_or(|at| at > now.at) {
            return;
        }
        for _ in 0..self.conns.begin(self.poll.registry(), now.at, busy) {
            let Some(slot) = self.conns.next() else { break };
            let Shell { conns, files, bytes, .. } = self;
            conns.pump(now.at, slot, files.as_mut(), bytes);
            while let Some(news) = self.conns.news(now.at, slot) {
                // The outputs of a call may be as large as a message.
                if !self.outbox.has_room() {
                    self.drain(machine, now);
                }
                let Shell { conns, outbox, .. } = self;
                if let Some(stream) = conns.stream(slot, news) {
                    machine.handle(now, Input::Stream(stream), outbox);
                }
                self.conns.told(now.at, slot, news);
                // What comes of it must be taken before the next one is handed on.
                if matches!(news, News::Message { .. } | News::Drained) {
                    break;
                }
            }
            self.conns.settle(slot);
        }
        self.drain(machine, now);
    }
}
