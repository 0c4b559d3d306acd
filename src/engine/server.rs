//! The Server: one machine made of the engines, the roll and the running config.

use crate::base::machine::{Datagram, Input, Machine, Stream};
use crate::base::outbox::Outbox;
use crate::base::time::{Instant, Now};
use crate::config::{Config, Network};
use crate::roll::guests::GuestPool;
use crate::roll::plan::AddressPlan;
use crate::roll::registry::Registry;
use crate::wire::dhcp::Scratch;

use super::Ctx;
use super::changes::Changes;
use super::command::Commands;
pub use super::command::ReloadState;
use super::commit::{Commit, CommitWaiter};
use super::control::Control;
use super::dhcp::{self, Dhcp};
use super::dns::Dns;
use super::endpoints::{self, Endpoints};
use super::journal::compact::Compaction;
use super::journal::replay;
use super::links::Links;
use super::moves::{self, Move};
use super::pace::{Pace, Taker, Turn};
use super::router_adverts::Adverts;
use super::stats::{Counter, Stats};
use super::tftp::{self, Tftp};
use super::turns::{self, Takers};
use super::view::{Moment, Sight, Snapshot};

mod links;

/// The Server: one value that has the state of all services. See [`Machine`] for how a world drives it.
pub struct Server {
    config: Config,
    endpoints: Endpoints,
    links: Links,
    roll: Registry,
    commit: Commit,
    stats: Stats,
    dhcp: Dhcp,
    tftp: Tftp,
    pace: Pace,
    control: Control,
    dns: Dns,
    adverts: Adverts,
    scratch: Box<Scratch>,
    changes: Changes,
    compaction: Compaction,
    pub(super) commands: Commands,
    started: Option<Instant>,
    born: Now,
    /// Seconds since 1970 at the zero of the monotonic clock, as of the last look.
    epoch: i64,
}

/// A clock that is set by more than this, in seconds, makes what the journal says of leases wrong.
const CLOCK_STEP: u64 = 30;

fn epoch(now: Now) -> i64 {
    now.unix as i64 - now.at.since(Instant::ZERO).as_secs() as i64
}

/// The engines, beside the context that they work with.
struct Engines<'a> {
    dhcp: &'a mut Dhcp,
    tftp: &'a mut Tftp,
    dns: &'a mut Dns,
    control: &'a mut Control,
    scratch: &'a mut Scratch,
    adverts: &'a mut Adverts,
    changes: &'a mut Changes,
}

/// Who takes turns: the same services as in [`Server::restored`], where their records are counted.
impl Takers for Engines<'_> {
    fn turn(&mut self, ctx: &mut Ctx<'_>, turn: Turn) {
        const TFTP: u8 = endpoints::TFTP.id;
        match turn.who.service {
            TFTP => self.tftp.turn(ctx, turn),
            other => unreachable!("service {other} takes no turns"),
        }
    }
}

impl Server {
    /// A server without a past: see [`Server::restored`].
    pub fn new(config: &Config, seed: u64, now: Now) -> Server {
        match Server::restored(config, seed, now, std::iter::empty()) {
            Ok(server) => server,
            Err(contradiction) => unreachable!("a checked config contradicts nothing where nothing was: {contradiction}"),
        }
    }

    /// Allocates everything that this server will ever use, and takes up the journal. `seed` makes index order unpredictable from outside. The
    /// error says in one sentence what in the journal, or between it and the config, cannot be.
    pub fn restored<'a>(config: &Config, seed: u64, now: Now, journal: impl Iterator<Item = &'a str>) -> Result<Server, String> {
        let tftp = Tftp::new(config.server.capacity, seed, now.at);
        let takers = [Taker { service: endpoints::TFTP.id, records: tftp.capacity() }];
        let mut server = Server {
            roll: Registry::new(config.server.capacity, config.plan, seed, now.at),
            commit: Commit::new(config.server.capacity),
            config: config.clone(),
            endpoints: Endpoints::new(config),
            links: Links::new(crate::base::limits::NETWORKS_MAX),
            stats: Stats::default(),
            dhcp: Dhcp::new(config.server.capacity, seed),
            tftp,
            pace: Pace::new(config, &takers, now.at),
            control: Control::new(config.plan.nodes()),
            dns: Dns::new(config, seed, now),
            adverts: Adverts::default(),
            scratch: Box::default(),
            changes: Changes::default(),
            compaction: Compaction::default(),
            commands: Commands::default(),
            started: None,
            born: now,
            epoch: epoch(now),
        };
        server.roll.pools = config.networks.iter().map(|network| pool(config, network, now.at)).collect();
        let past = replay::read(&mut server.roll, journal)?;
        configure(&mut server.roll, config, now)?;
        past.restore(&mut server.roll, config, now);
        Ok(server)
    }

    /// The same, with the zones' serial as an earlier daemon has kept it; None: there is none.
    pub fn with_serial(mut self, kept: Option<&str>) -> Server {
        if let Some(kept) = kept.and_then(super::dns::Serial::read) {
            self.dns.resume(&self.config, kept);
        }
        self
    }

    /// The zones' serial, for the next daemon.
    pub(super) fn names_serial(&self) -> super::dns::Serial {
        self.dns.serial()
    }

    /// The config in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What its world is to open.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// All that is known of machines.
    pub fn roll(&self) -> &Registry {
        &self.roll
    }

    #[cfg(test)]
    pub(super) fn commit(&self) -> &Commit {
        &self.commit
    }

    #[cfg(test)]
    pub(super) fn roll_mut(&mut self) -> &mut Registry {
        &mut self.roll
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> crate::wire::control::DnsStatus {
        self.dns.status()
    }

    /// The counters of all services.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// How each boot interface is fed.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Everything as an operator sees it, and what the world has counted. O(capacity): see [`Snapshot`].
    pub fn snapshot(&self, now: Now, kernel: Vec<(String, u64)>, open_files: usize) -> Snapshot {
        let Server { config, links, roll, stats, pace, tftp, dns, born, .. } = self;
        let moment = Moment { now, config, links, roll, stats, pace, query: Sight { born: *born, tftp, dns } };
        Snapshot::of(&moment, kernel, open_files)
    }

    /// How many rows are kept at most for the daemon after this one, and the number of their layout.
    pub fn rows(&self) -> (usize, u32) {
        (self.tftp.capacity(), tftp::FORMAT)
    }

    /// Running transfers.
    pub fn transfers(&self) -> usize {
        self.tftp.len()
    }

    /// Takes over a new config. Running transfers go on; machines whose address has changed learn it when they ask next (NAK). What
    /// was sized at start (links, capacity, ports) stays as it was: the caller has refused a config that changes it. The error says in one
    /// sentence why it is not taken over; nothing was changed then.
    pub fn reconfigure(&mut self, now: Now, config: &Config) -> Result<(), String> {
        if let Some(number) = self.roll.beyond(config.plan.nodes()) {
            return Err(format!(
                "cluster.nodes is {}, but {number} is not vacant (take it out first: muster node out {number})",
                config.plan.nodes()
            ));
        }
        let old_plan = self.roll.plan;
        self.roll.resize(config.plan);
        if let Err(contradiction) = configure(&mut self.roll, config, now) {
            self.roll.resize(old_plan);
            return Err(contradiction);
        }
        let old = std::mem::replace(&mut self.config, config.clone());
        for (link, was) in self.config.links.iter_mut().zip(&old.links) {
            link.others.clone_from(&was.others);
        }
        self.pace.reconfigure(config);
        self.control.resize(config.plan.nodes());
        self.dns.reconfigure(config, now);
        let mut pools = std::mem::take(&mut self.roll.pools);
        for network in &config.networks {
            let same = old.networks.iter().position(|o| o.subnet == network.subnet && o.guests == network.guests && o.link == network.link);
            let kept = same.and_then(|at| pools.get_mut(at)).and_then(Option::take);
            self.roll.pools.push(kept.or_else(|| pool(config, network, now.at)));
        }
        self.roll.reclaim(now.at, &pools);
        Ok(())
    }

    /// The nodes with leases that a config with this plan would move, in order of their numbers.
    pub fn moves(&self, plan: &AddressPlan) -> Vec<Move> {
        moves::moves(&self.roll, plan)
    }

    /// Whether a change of many lots is still being put out.
    pub fn is_changing(&self) -> bool {
        self.commit.is_changing()
    }

    /// Begins to rewrite the journal, with the stages as they are now (SIGUSR1, `muster checkpoint`, before the end).
    pub fn checkpoint(&mut self) {
        self.compaction.begin();
    }

    /// Records that are not on disk yet.
    pub(super) fn pending(&self) -> u64 {
        self.commit.pending()
    }

    /// Whether the journal is being rewritten.
    pub fn is_compacting(&self) -> bool {
        self.compaction.is_under_way()
    }

    /// The clock of the machine was set (a head without a battery starts in 1970): the journal is rewritten, with leases that end by the new
    /// one, or a restart would forget them too soon or keep them too long.
    fn look_at_clock(&mut self, now: Now) {
        let step = epoch(now) - self.epoch;
        if step.unsigned_abs() > CLOCK_STEP {
            self.epoch += step;
            log::info!("clock: moved by {step} s (the journal is rewritten, because leases end by the new time)");
            self.roll.clock_was_set(step);
            self.checkpoint();
        }
    }

    fn ctx<'a>(&'a mut self, now: Now, out: &'a mut Outbox) -> (Ctx<'a>, Engines<'a>) {
        let Server { config, endpoints, links, roll, commit, stats, pace, dhcp, tftp, dns, control, scratch, adverts, changes, .. } = self;
        let ctx = Ctx { now: now.at, unix: now.unix, config, endpoints, links, roll, commit, stats, pace, out };
        (ctx, Engines { dhcp, tftp, dns, control, scratch, adverts, changes })
    }

    /// What has come to one of the endpoints, for the service behind it.
    fn datagram(&mut self, now: Now, datagram: Datagram<'_>, out: &mut Outbox) {
        let (mut ctx, mut engines) = self.ctx(now, out);
        let Some(row) = ctx.endpoints.get(datagram.endpoint) else { return };
        let ctx = &mut ctx;
        if row.link.is_some_and(|link| !ctx.links.serves(link)) {
            return ctx.stats.count(Counter::LinkOutOfService);
        }
        match row.service {
            endpoints::DHCP => engines.dhcp.datagram(ctx, engines.scratch, datagram),
            endpoints::TFTP => engines.tftp.datagram(ctx, datagram),
            endpoints::DNS => engines.dns.datagram(ctx, &datagram),
            _ => {}
        }
        turns::give_wanted(ctx, &mut engines);
    }

    /// Answers those whose records are committed. Stops early when the outbox is full.
    fn release(&mut self, now: Now, out: &mut Outbox) {
        let (mut ctx, Engines { dhcp, control, scratch, .. }) = self.ctx(now, out);
        while let Some(waiter) = ctx.commit.release(ctx.out) {
            match waiter {
                CommitWaiter::Client(key) => dhcp.committed(&mut ctx, scratch, key),
                CommitWaiter::Operator(conn) => control.committed(&mut ctx, conn),
            }
        }
    }

    fn stream(&mut self, now: Now, stream: Stream<'_>, out: &mut Outbox) {
        let born = self.born;
        let (mut ctx, mut engines) = self.ctx(now, out);
        let Some(row) = ctx.endpoints.get(stream.endpoint) else { return };
        let ctx = &mut ctx;
        match row.service {
            endpoints::DNS => engines.dns.stream(ctx, &stream),
            endpoints::UPSTREAM => engines.dns.called(ctx, &stream),
            endpoints::CONTROL => {
                engines.control.stream(ctx, Sight { born, tftp: engines.tftp, dns: engines.dns }, &stream);
            }
            _ => {}
        }
        turns::give_wanted(ctx, &mut engines);
        if let Some(command) = engines.control.command() {
            self.command(now, command, Some(stream.conn), out);
        }
    }
}

/// Brings the lot table in line with the `[[node]]` sections, which are in the order of their numbers.
fn configure(roll: &mut Registry, config: &Config, now: Now) -> Result<(), String> {
    let sections = config.nodes.iter().map(|node| (node.number, node.macs.as_slice()));
    let find = |number| config.nodes.binary_search_by_key(&number, |node| node.number).ok();
    let section = |number| find(number).and_then(|at| config.nodes.get(at)).map(|node| node.macs.as_slice());
    roll.configure(sections, section, now.unix)
        .map_err(|(number, clash)| format!("[[node]] number = {} contradicts the journal: {clash}", number.0))
}

/// The guest pool of a network: the head's, its links' and its routers' addresses are never given.
fn pool(config: &Config, network: &Network, now: Instant) -> Option<GuestPool> {
    let excluded = |ip| !network.subnet.is_host(ip) || network.routers.contains(&ip) || config.is_own(ip);
    network.guests.map(|range| GuestPool::new(range, excluded, dhcp::probes(config, network.link), now))
}

impl Machine for Server {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Datagram(datagram) => return self.datagram(now, datagram, out),
            Input::Stream(stream) => return self.stream(now, stream, out),
            Input::Link { link, facts } => return self.link(now, link, facts, out),
            Input::Frame { link, .. } | Input::Arp { link, .. } if !self.links.serves(link) => return,
            Input::Route { token, mtu } => return self.links.learn_route(token, mtu),
            Input::Synced { seq } => {
                self.commit.synced(seq);
                self.release(now, out);
                return self.kept(out);
            }
            Input::Compacted => {
                self.compaction.placed();
                return self.compacted(Ok(()), out);
            }
            Input::NotCompacted { why } => {
                self.compaction.placed();
                return self.compacted(Err(why), out);
            }
            Input::Command(command) => return self.command(now, command, None, out),
            Input::Done { token, outcome } => return self.done(now, token, outcome, out),
            Input::Counted { lost, open_files } => return self.counted(now, lost, open_files),
            Input::JournalGone => return self.compaction.begin(),
            _ => {}
        }
        let (mut ctx, mut engines) = self.ctx(now, out);
        let (ctx, Engines { dhcp, tftp, scratch, adverts, .. }) = (&mut ctx, &mut engines);
        match input {
            Input::Frame { link, bytes } => adverts.frame(ctx, link, bytes),
            Input::Arp { link, mac, sender } => dhcp.arp(ctx, scratch, link, mac, sender),
            Input::Opened { token, answer } => tftp.opened(ctx, token, answer),
            Input::Cold { token } => tftp.cold(ctx, token),
            Input::Warm { token } => tftp.warm(ctx, token),
            Input::Changed { token } => tftp.changed(ctx, token),
            Input::Bytes { token, bytes } => tftp.bytes(ctx, token, bytes),
            Input::Row { bytes, mark } => tftp.take_up(ctx, bytes, mark),
            Input::Missed { link, refused, overrun } => ctx.pace.lane(link).bottleneck.missed(now.at, refused + overrun),
            // Taken up above.
            Input::Datagram(_) | Input::Stream(_) | Input::Link { .. } | Input::Route { .. } | Input::Synced { .. } | Input::Compacted => {}
            Input::NotCompacted { .. } | Input::JournalGone | Input::Command(_) | Input::Done { .. } | Input::Counted { .. } => {}
        }
        turns::give_wanted(ctx, &mut engines);
    }

    fn expire(&mut self, now: Now, out: &mut Outbox) {
        let first = self.started.is_none();
        self.started.get_or_insert(now.at);
        self.look_at_clock(now);
        self.release(now, out);
        let (mut ctx, mut engines) = self.ctx(now, out);
        if first {
            engines.dhcp.start(&mut ctx);
        }
        engines.dhcp.expire(&mut ctx, engines.scratch);
        turns::give_due(&mut ctx, &mut engines);
        while ctx.out.has_room() && engines.tftp.expire(&mut ctx) {
            turns::give_wanted(&mut ctx, &mut engines);
        }
        ctx.pace.expire(now.at);
        engines.control.expire(&mut ctx, now);
        engines.changes.expire(&mut ctx);
        engines.dns.expire(&mut ctx);
        self.compaction.expire((&self.roll, &self.commit), now, out);
        if first {
            self.publish_names();
        }
        self.look_at_numbers();
        self.expire_commands(now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        let start = self.started.is_none().then_some(self.born.at);
        let engines = [self.dhcp.deadline(&self.roll), self.tftp.deadline(), self.dns.deadline(), self.control.deadline(&self.roll.recent)];
        let journal = [self.commit.deadline(), self.changes.deadline(&self.commit), self.compaction.deadline(&self.roll, &self.commit)];
        engines.into_iter().chain(journal).chain([start, self.pace.deadline(), self.commands.deadline()]).flatten().min()
    }
}
