//! The operators' connections as the loop serves them: once a turn, one line at most.

use std::path::Path;

use crate::base::machine::{Input, Machine};
use crate::base::time::Now;

use super::super::Error;
use super::super::clerk::Task;
use super::super::control::{Control, News};
use super::super::work::clerk::Door;
use super::{CONTROL, Shell};

impl Shell {
    /// Opens the operators' socket in a folder.
    pub fn open_control(&mut self, folder: &Path) -> Result<(), Error> {
        self.control = Some(Control::open(folder, self.poll.registry(), CONTROL)?);
        Ok(())
    }

    /// Has the socket made anew, if there is to be one; the number is that of the report.
    pub fn reopen_control(&mut self) -> Option<u64> {
        let task = self.control.as_ref().map(Task::bind)?;
        self.ask(task)
    }

    /// Listens at the socket that was made anew.
    pub fn adopt_control(&mut self, door: Door) -> Result<(), Error> {
        let registry = self.poll.registry();
        self.control.as_mut().map_or(Ok(()), |control| control.adopt(registry, door))
    }

    /// Answers the operator whose errand the last turn gave; nobody, if that was a signal.
    pub fn answer_errand(&mut self, line: &[u8]) {
        let now = self.now();
        self.control.iter_mut().for_each(|control| control.answer(now.at, line));
    }

    /// Whether the last turn gave an errand, and somebody waits for the answer.
    pub fn is_asked(&self) -> bool {
        self.control.as_ref().is_some_and(Control::is_asked)
    }

    /// Tells the machine who has come and gone, and hands it one line: however much is asked, boots come first.
    pub(super) fn serve_control<M: Machine>(&mut self, machine: &mut M, now: Now) {
        if !self.control.as_ref().is_some_and(Control::has_work) {
            return;
        }
        // The outputs of a call may be as large as a line.
        self.drain(machine, now);
        let Shell { control: Some(control), poll, outbox, .. } = self else { return };
        control.serve(poll.registry(), now.at);
        while let Some(news) = control.news() {
            let input = match news {
                News::Opened(conn) => Input::StreamOpened { conn },
                News::Closed(conn) => Input::StreamClosed { conn },
            };
            machine.handle(now, input, outbox);
        }
        if let Some((conn, len)) = control.line() {
            machine.handle(now, Input::Stream { conn, bytes: control.bytes(conn, len) }, outbox);
            control.consume(conn, len);
        }
        self.drain(machine, now);
        self.control.iter_mut().for_each(Control::settle);
    }
}
