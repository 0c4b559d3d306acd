//! Connections as the loop serves them: after those who boot, and a bounded number of messages a turn, so that machines that boot wait
//! for nobody's questions, however many are asked.

use std::path::Path;

use crate::base::machine::{ConnId, Input, Machine};
use crate::base::time::Now;

use super::super::Error;
use super::super::clerk::Task;
use super::super::conns::News;
use super::super::control::Guard;
use super::super::work::clerk::{Door, open_door};
use super::Shell;

impl Shell {
    /// Opens the operators' socket in a folder. Refuses when another daemon answers on it.
    pub fn open_control(&mut self, folder: &Path) -> Result<(), Error> {
        self.listen(folder, open_door(folder, None)?)
    }

    fn listen(&mut self, folder: &Path, door: Door) -> Result<(), Error> {
        let (guard, listener) = Guard::new(folder, door);
        let adopted = self.conns.adopt(self.poll.registry(), listener, guard);
        adopted.map_err(|error| Error::system("cannot watch the control socket", error, ""))
    }

    /// Has the socket created again, if there is to be one. Gives the number of the report.
    pub fn reopen_control(&mut self) -> Option<u64> {
        let task = self.conns.guard().map(Task::bind)?;
        self.ask(task)
    }

    /// Listens at the socket that was created again. Open connections stay.
    pub fn adopt_control(&mut self, door: Door) -> Result<(), Error> {
        let Some(folder) = self.conns.guard().map(|guard| guard.place().0.to_path_buf()) else { return Ok(()) };
        self.listen(&folder, door)
    }

    /// Answers a connection that has asked for something; nobody, if it has gone.
    pub fn write(&mut self, conn: ConnId, bytes: &[u8]) {
        let now = self.now();
        self.conns.write(now.at, conn, bytes);
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
