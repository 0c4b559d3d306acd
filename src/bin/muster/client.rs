//! The connection to the daemon: a request, a reply, and what it means when there is none.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use muster::shell::control::{GROUP, connect};
use muster::wire::control::{self, LINE_MAX, NodeState, Reply, Request};

use muster::roll::ranges::{self, Group, Ranges, Selection};

use super::Failure;

/// A daemon that is alive answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct ControlClient {
    reader: BufReader<UnixStream>,
    path: PathBuf,
    line: Vec<u8>,
    /// What was asked for last is a change, whose answer waits for the daemon's disk.
    changes: bool,
}

impl ControlClient {
    pub fn connect(path: &Path) -> Result<ControlClient, Failure> {
        let shown = path.display();
        let stream = connect(path).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => Failure::Failed(format!("you may not use {shown}: become root, or join the group {GROUP}")),
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                Failure::NoDaemon(format!("no daemon answers on {shown}: start musterd, or name its socket with --socket"))
            }
            _ => Failure::NoDaemon(format!("cannot connect to {shown}: {error}")),
        })?;
        let settled = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        settled.map_err(|error| Failure::Failed(format!("cannot set a time-out: {error}")))?;
        Ok(ControlClient { reader: BufReader::new(stream), path: path.into(), line: Vec::new(), changes: false })
    }

    /// From now on replies may take their time.
    pub fn be_patient(&mut self) -> Result<(), Failure> {
        let set = self.reader.get_ref().set_read_timeout(None);
        set.map_err(|error| Failure::Failed(format!("cannot set a time-out: {error}")))
    }

    /// Asks, and gives the reply; an error of the daemon's is a failure.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, Failure> {
        let mut line = vec![0; LINE_MAX];
        let len = control::write(&mut line, request).ok_or_else(|| Failure::Failed("the request is too long for one line".into()))?;
        self.changes = matches!(request, Request::Change { dry: false, .. });
        // Who was turned away cannot write, but has been told why.
        let sent = self.reader.get_mut().write_all(line.get(..len).unwrap_or_default());
        match (self.next(), sent) {
            (Ok(Some(reply)), _) => Ok(reply),
            (Ok(None), Err(error)) => {
                Err(Failure::Failed(format!("the daemon at {} does not accept requests: {error}", self.path.display())))
            }
            (Ok(None), Ok(())) => Err(Failure::Failed(format!("the daemon at {} closed the connection", self.path.display()))),
            (Err(failure), _) => Err(failure),
        }
    }

    /// The next line, however long that takes, for somebody who reads it from `output`: a pipe whose reader has gone is a failure.
    pub fn next_for(&mut self, output: &impl AsFd) -> Result<Option<Reply>, Failure> {
        while self.reader.buffer().is_empty() {
            // Of what is written to, an error or a hang-up is told without being asked for.
            let mut watched =
                [PollFd::new(self.reader.get_ref().as_fd(), PollFlags::POLLIN), PollFd::new(output.as_fd(), PollFlags::empty())];
            match poll(&mut watched, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Failure::Failed(format!("cannot wait for {}: {errno}", self.path.display()))),
            }
            let [socket, output] = watched.map(|it| it.revents().unwrap_or(PollFlags::empty()));
            if output.intersects(PollFlags::POLLERR | PollFlags::POLLHUP) {
                return Err(Failure::Seen);
            }
            if !socket.is_empty() {
                break;
            }
        }
        self.next()
    }

    /// The next line; None when the daemon has closed the connection.
    pub fn next(&mut self) -> Result<Option<Reply>, Failure> {
        self.line.clear();
        match self.reader.read_until(b'\n', &mut self.line) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let (path, seconds) = (self.path.display(), PATIENCE.as_secs());
                let why = if self.changes {
                    ": it confirms a change when that is on disk, and its disk may be slow or full; see its log"
                } else {
                    ""
                };
                return Err(Failure::Failed(format!("the daemon at {path} has not answered in {seconds} s{why}")));
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(Failure::Failed(format!("cannot read from {}: {error}", self.path.display()))),
        }
        match serde_json::from_slice(&self.line) {
            Ok(Reply::Error(rejection)) => Err(rejection.into()),
            Ok(reply) => Ok(Some(reply)),
            Err(error) => {
                Err(Failure::Failed(format!("cannot understand the daemon's answer ({error}): use the same version of muster and musterd")))
            }
        }
    }

    /// The daemon answered something that was not asked for.
    pub fn unexpected<T>(reply: &Reply) -> Result<T, Failure> {
        Err(Failure::Failed(format!("unexpected answer of the daemon ({reply:?}): use the same version of muster and musterd")))
    }

    /// Refuses a name that does not begin as this cluster's nodes do.
    pub fn check_prefix(&mut self, prefix: &str) -> Result<(), Failure> {
        let reply = self.ask(&Request::Status)?;
        let Reply::Status(status) = &reply else { return ControlClient::unexpected(&reply) };
        let strange = Selection { prefix: Some(prefix.into()), ..Selection::default() };
        strange.named(&status.prefix).map(|_| ()).map_err(|wrong| Failure::Usage(wrong.to_string()))
    }

    /// The numbers in each state, in the order of `NodeState::ALL`.
    pub fn states(&mut self) -> Result<[Ranges; NodeState::ALL.len()], Failure> {
        let mut states: [Ranges; NodeState::ALL.len()] = Default::default();
        let mut from = Some(0);
        while let Some(at) = from {
            let reply = self.ask(&Request::States { from: at })?;
            let Reply::States(page) = reply else { return ControlClient::unexpected(&reply) };
            for run in &page.runs {
                if let Some(ranges) = states.get_mut(run.state as usize) {
                    ranges.add(run.first, run.last);
                }
            }
            from = page.next;
        }
        Ok(states)
    }

    /// The numbers whose machine never came up.
    fn never(&mut self) -> Result<Ranges, Failure> {
        let mut numbers = Ranges::default();
        let mut from = Some(0);
        while let Some(at) = from {
            let reply = self.ask(&Request::NodeList { nodes: Some("@never".into()), from: at, limit: None })?;
            let Reply::Nodes(page) = reply else { return ControlClient::unexpected(&reply) };
            page.rows.iter().for_each(|row| numbers.add(row.number, row.number));
            from = page.next;
        }
        Ok(numbers)
    }

    /// A selection as numbers: groups are resolved as things are now.
    pub fn numbers(&mut self, text: &str) -> Result<Ranges, Failure> {
        let selection = ranges::parse(text).map_err(|wrong| Failure::Usage(wrong.to_string()))?;
        let mut numbers = selection.numbers.clone();
        if selection.groups.is_empty() {
            return Ok(numbers);
        }
        if selection.has(Group::Never) {
            numbers.union(&self.never()?);
        }
        let states = self.states()?;
        for (state, ranges) in NodeState::ALL.iter().zip(&states) {
            let own = match state {
                NodeState::Vacant => continue,
                NodeState::Up => Group::Up,
                NodeState::Stuck => Group::Stuck,
                NodeState::Booting => Group::Booting,
                NodeState::Failed => Group::Failed,
                NodeState::Down => Group::Down,
                NodeState::Reserved => Group::Reserved,
            };
            if selection.has(Group::All) || selection.has(own) {
                numbers.union(ranges);
            }
        }
        Ok(numbers)
    }
}
