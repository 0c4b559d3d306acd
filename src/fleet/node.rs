//! The record of one simulated machine.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::cause::Cause;
use super::dhcp::DhcpClient;
use super::firmware::Firmware;
use super::life::StormPlan;
use super::tftp::{Download, FIRST_PORT};
use crate::base::addr::Mac;
use crate::base::time::Instant;

/// Where a machine is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineStatus {
    /// Waits for power.
    Off,
    /// It goes through its steps.
    Booting,
    /// It is through with all steps.
    Up,
    /// It gave up, and why.
    Lost(Cause),
    /// Its power went, and does not come back.
    Cut,
}

/// Where a timer stands that is not armed.
pub(super) const NEVER: Instant = Instant::from_nanos(u64::MAX);

/// How far the way to the file server is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    Known(Mac),
    /// ARP requests sent so far.
    Asked(u8),
}

/// A file that was loaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetched {
    /// Its place in the fleet's table of names.
    pub name: u32,
    pub len: u64,
    pub hash: u64,
}

/// What a packet of a transfer needs stands together here; what only DHCP needs is elsewhere.
pub(super) struct FleetNode {
    pub mac: Mac,
    pub life: u16,
    /// The place in the life's steps.
    pub step: u8,
    /// Files loaded so far.
    pub fetched: u8,
    pub status: MachineStatus,
    pub deaf: bool,
    /// Frames that are still to be lost on their way out.
    pub asleep: u32,
    /// Frames in both directions since it woke: counted where some are lost at random.
    pub frames: u32,
    /// When its timer is to go off.
    pub wake: Option<Instant>,
    /// When the wheel will look at it: not after `wake`. A timer that is put off with every packet stays where it is until then.
    pub armed: Instant,
    /// How many transactions it has begun.
    pub round: u16,
    pub dhcp: Box<DhcpClient>,
    pub transfer: Download,
    /// The address that is in use.
    pub address: Option<Ipv4Addr>,
    /// The address that was in use before.
    pub had: Option<Ipv4Addr>,
    /// Where files come from, and the next machine on the way there.
    pub server: Ipv4Addr,
    pub gateway: Ipv4Addr,
    pub hop: Hop,
    pub powered: Instant,
    pub ended: Instant,
    /// From the first DISCOVER of its life to the ACK.
    pub first_lease: Option<Duration>,
    /// A later stage got another address, or a later life.
    pub moved: bool,
    pub gap: Duration,
    pub retries: u32,
    pub duplicates: u32,
    pub bytes: u64,
}

impl FleetNode {
    pub fn new(mac: Mac, life: u16, deaf: bool, plan: &StormPlan) -> FleetNode {
        // Replaced when a step begins.
        let profile = Firmware::Rom.profile();
        FleetNode {
            mac,
            life,
            step: 0,
            fetched: 0,
            status: MachineStatus::Off,
            deaf,
            asleep: plan.wake,
            frames: 0,
            round: 0,
            dhcp: Box::new(DhcpClient::new(&profile.dhcp)),
            wake: None,
            armed: NEVER,
            transfer: Download::default(),
            address: None,
            had: None,
            server: Ipv4Addr::UNSPECIFIED,
            gateway: Ipv4Addr::UNSPECIFIED,
            hop: Hop::Asked(0),
            powered: Instant::ZERO,
            ended: Instant::ZERO,
            first_lease: None,
            moved: false,
            gap: Duration::ZERO,
            retries: 0,
            duplicates: 0,
            bytes: 0,
        }
    }

    /// A machine that was lost stands there with its message, and hears what comes.
    pub fn has_power(&self) -> bool {
        !matches!(self.status, MachineStatus::Off | MachineStatus::Cut)
    }

    /// The port of the next transfer.
    pub fn next_port(&self) -> u16 {
        match self.transfer.port() {
            0 => FIRST_PORT,
            port => super::tftp::next_port(port),
        }
    }
}
