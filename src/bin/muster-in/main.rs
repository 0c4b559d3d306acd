//! muster-in: what a node runs once it has booted Linux. It tests the node, tells `musterd` what the node is and how the test went, and
//! puts the address that it is given into the kernel (see `muster-in(8)`).
//!
//! Exit codes. 0: configured, with a number, or without one where nothing was tested. 1: wrong usage, or the machine does not let us.
//! 2: nobody gave a lease in time. 3: configured, but the test has failed. 4: configured, the test has passed, and still a guest.

mod apply;
mod attachment;
mod machine;
mod names;
mod options;
mod tell;
mod verdict;

use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use log::LevelFilter;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use muster::base::facts::LinkFacts;
use muster::base::machine::{Command, Machine};
use muster::base::time::Instant;
use muster::fleet::passing::{PassingCounts, PassingEvent, PassingMachine, PassingSetup, PassingState};
use muster::shell::interface::{Interface, Interfaces};
use muster::shell::signals::Signals;
use muster::shell::{Shell, ShellError, stdio};
use muster::wire::report::ReportVerdict;

use apply::Applied;
use attachment::{Attachment, InterfaceHints};
use machine::Sysfs;
use options::MusterInOptions;

const NO_ANSWER: u8 = 2;
const TEST_FAILED: u8 = 3;
const STILL_A_GUEST: u8 = 4;
/// How long a number is waited for that the server holds back because many machines have passed just now.
const NUMBER_PATIENCE: Duration = Duration::from_secs(120);
/// The loop wakes at least this often.
const LONGEST_TURN: Duration = Duration::from_secs(1);
/// A renewal that is further away than this is waited for without a socket, so that no packet wakes us.
const NAP_MIN: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let options = match options::read() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => {
            stdio::complain(&format!("muster-in: {why}; muster-in --help lists the flags"));
            return ExitCode::FAILURE;
        }
    };
    let level = if options.verbose { LevelFilter::Debug } else { LevelFilter::Info };
    env_logger::Builder::new().filter_level(level).format(|to, record| writeln!(to, "muster-in: {}", record.args())).init();
    match MusterIn::prepare(options).and_then(MusterIn::run) {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            log::error!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// A node on its way to its lease.
struct MusterIn {
    options: MusterInOptions,
    interface: Interface,
    verdict: ReportVerdict,
    client: PassingMachine,
    applied: Applied,
    signals: Signals,
    /// What was printed last.
    told: String,
    /// When a number that is held back is waited for no longer; None until one is.
    hope: Option<Instant>,
}

impl MusterIn {
    /// The test, and everything else that comes before the first packet.
    fn prepare(options: MusterInOptions) -> Result<MusterIn, ShellError> {
        let sysfs = Sysfs("/sys".into());
        let mut links = Interfaces::open()?;
        let boot = machine::boot_mac(&machine::command_line());
        let place =
            attachment::find(&mut links, &sysfs, &InterfaceHints { interface: options.interface.as_deref(), boot, cards: &options.nics })?;
        let verdict = match &options.tests {
            Some(folder) => verdict::run(folder, options.test_limit).map_err(ShellError::new)?,
            None => ReportVerdict::Untested,
        };
        let interface = match place {
            Attachment::Here(interface) => interface,
            Attachment::Somewhere(cables) => cables.choose(&mut links)?,
        };
        let cards = sysfs.cards(&links.list()?, &options.nics).map_err(ShellError::new)?;
        let report = sysfs.report(&cards, &interface, verdict);
        log::info!("{}: {}, reports {} of {} cards", interface.name, tell::verdict(&verdict), report.macs.as_slice().len(), cards.len());
        log::debug!("report: {report:?}");
        let setup = PassingSetup { mac: interface.mac, report, option: options.option, probe: options.probe };
        let (client, applied) = (PassingMachine::new(setup, seed()), Applied::new(links, interface.clone()));
        Ok(MusterIn { options, interface, verdict, client, applied, signals: Signals::open()?, told: String::new(), hope: None })
    }

    fn run(mut self) -> Result<u8, ShellError> {
        let facts = facts(&self.interface);
        let mut shell = Shell::client(&PassingMachine::endpoints(), &facts)?;
        let mut begin = shell.now().at;
        let mut code = None;
        loop {
            let patience = self.options.patience.filter(|_| code.is_none()).map(|patience| begin + patience);
            let longest = patience.map_or(LONGEST_TURN, |end| end.since(shell.now().at).min(LONGEST_TURN));
            if shell.turn(&mut self.client, longest)? == Some(Command::Leave) {
                return self.left(code);
            }
            let now = shell.now().at;
            if let Some(event) = self.client.take_event() {
                let over = matches!(event, PassingEvent::Denied | PassingEvent::Expired);
                code = self.happened(event, now)?.or(code.filter(|_| self.options.renew || !over));
                begin = if over { now } else { begin };
            }
            if let Some(code) = code.filter(|_| !self.options.renew && !self.hopes(now)) {
                self.tell();
                return Ok(code);
            }
            if code.is_none() && patience.is_some_and(|end| now >= end) {
                log::error!(
                    "{}: no lease within {} s: {}",
                    self.interface.name,
                    now.since(begin).as_secs(),
                    why(self.client.client().counts())
                );
                return Ok(NO_ANSWER);
            }
            let nap = self.nap(now);
            if nap >= NAP_MIN {
                drop(shell);
                if self.sleep(nap) {
                    return self.left(code);
                }
                shell = Shell::client(&PassingMachine::endpoints(), &facts)?;
            }
        }
    }

    /// The operator wants us to leave.
    fn left(&mut self, code: Option<u8>) -> Result<u8, ShellError> {
        match code {
            Some(_) if self.options.renew => Ok(0),
            // While it waited for its number.
            Some(code) => {
                self.tell();
                Ok(code)
            }
            None => Err(ShellError::new(format!("{}: stopped before there was a lease", self.interface.name))),
        }
    }

    /// How long nothing is to be done or heard.
    fn nap(&self, now: Instant) -> Duration {
        match self.client.client().state() {
            PassingState::Bound => self.client.deadline().map_or(Duration::MAX, |deadline| deadline.since(now)),
            _ => Duration::ZERO,
        }
    }

    /// Sleeps for this time. True: a signal came that ends us.
    fn sleep(&mut self, nap: Duration) -> bool {
        let longest = PollTimeout::try_from(nap).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut [PollFd::new(self.signals.0.as_fd(), PollFlags::POLLIN)], longest);
        self.signals.take() == Some(Command::Leave)
    }

    /// Does what an event asks for; gives the exit code once there is a lease.
    fn happened(&mut self, event: PassingEvent, now: Instant) -> Result<Option<u8>, ShellError> {
        let name = &self.interface.name;
        match event {
            PassingEvent::Bound { renewed } => {
                log::debug!("{name}: {}", if renewed { "renewed" } else { "bound" });
                return self.bound(now).map(Some);
            }
            PassingEvent::Denied => {
                log::warn!("{name}: the server denied the address (requests one again)");
                self.applied.refused();
            }
            PassingEvent::InUse { address, by } => log::warn!("{name}: declined {address} (in use by {by}; requests another)"),
            PassingEvent::Expired => log::warn!("{name}: the lease expired, as no server renewed it (requests one again)"),
        }
        Ok(None)
    }

    fn bound(&mut self, now: Instant) -> Result<u8, ShellError> {
        let Some(lease) = self.client.client().lease() else { return Err(ShellError::new("bound without a lease")) };
        self.applied.apply(lease)?;
        apply::set_host_name(lease);
        if let Some(file) = &self.options.names {
            names::install(lease, file);
        }
        let code = match (self.verdict, tell::number(lease)) {
            (ReportVerdict::Failed(_), _) => TEST_FAILED,
            (ReportVerdict::Passed, None) => STILL_A_GUEST,
            _ => 0,
        };
        if code == STILL_A_GUEST && lease.is_for_now() && self.hope.is_none() {
            log::info!("{}: waits for a number (the head is numbering many machines)", self.interface.name);
            self.hope = Some(now + NUMBER_PATIENCE);
        }
        if !self.hopes(now) {
            self.tell();
        }
        Ok(code)
    }

    /// Whether a number is waited for: the lease is a guest's, and the server wants to be asked again within seconds.
    fn hopes(&self, now: Instant) -> bool {
        let guest = self.client.client().lease().is_some_and(|lease| tell::number(lease).is_none() && lease.is_for_now());
        let passed = self.verdict == ReportVerdict::Passed && !self.options.renew;
        passed && guest && self.hope.is_some_and(|hope| now < hope)
    }

    /// Prints the lease, if that was not done already.
    fn tell(&mut self) {
        let Some(lease) = self.client.client().lease() else { return };
        let told = tell::lines(&self.interface.name, lease, &self.verdict);
        if told != self.told {
            let who = tell::number(lease).map_or("a guest".into(), |number| format!("node {number}"));
            log::info!("{}: {}/{} from {}: {who}", self.interface.name, lease.address, lease.prefix, lease.server);
            tell::tell(&told);
            self.told = told;
        }
    }
}

/// Why there is no lease, as far as the client can tell, and what to look at.
fn why(counts: PassingCounts) -> String {
    let PassingCounts { discovers, requests, offers, naks, declines, ignored, malformed } = counts;
    let noise = match ignored + malformed {
        0 => String::new(),
        count => format!(" ({count} other messages ignored)"),
    };
    match (offers, naks, declines) {
        (0, ..) => format!("{discovers} DISCOVERs, no offer{noise}: check the cable, the switch, and that musterd runs"),
        (_, _, 1..) => format!("{declines} addresses were in use: look for machines with fixed addresses"),
        (_, 1.., _) => format!("{naks} of {requests} REQUESTs were denied{noise}: see musterd's log"),
        _ => format!("{offers} offers, but no answer to {requests} REQUESTs{noise}: see musterd's log"),
    }
}

fn facts(interface: &Interface) -> LinkFacts {
    LinkFacts { mtu: interface.mtu, ..LinkFacts::ethernet(&interface.name, interface.index, interface.mac) }
}

/// An unpredictable number, for transaction ids.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
