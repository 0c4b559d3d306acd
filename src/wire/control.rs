//! The control protocol: what `muster` and `musterd` say to each other over a unix stream socket.
//!
//! JSON, one object a line, at most [`LINE_MAX`] bytes with its newline. A client sends a [`Request`] and gets one [`Reply`]; the next
//! request is taken when the reply was. Only [`Request::Watch`] is answered by lines without end, until the client closes.
//! ```text
//! > {"do":"status"}
//! < {"is":"status","version":"0.1.0","cluster":"cluster","node0":"10.54.1.0","nodes":1024,...}
//! > {"do":"states","from":0}
//! < {"is":"states","runs":[{"state":"up","first":0,"last":211},{"state":"booting","first":212,"last":212}],"next":213}
//! > {"do":"node-list","nodes":"n[0-31],@stuck","from":0}
//! < {"is":"nodes","rows":[{"number":0,"state":"up","stage":"up",...}],"next":null}
//! > {"do":"node-show","number":17}
//! > {"do":"guest-list","from":0}
//! > {"do":"watch"}
//! > {"do":"change","dry":true,"change":{"what":"set","number":23,"macs":["52:54:00:12:34:56"]}}
//! < {"is":"changed","dry":true,"count":1,"nodes":"23","lots":[{"number":23,"before":{...},"after":{...}}],"notes":[]}
//! < {"is":"error","why":"n5000 does not exist; nodes are n0 to n1023","hint":"raise `nodes` in [cluster]"}
//! ```
//! Lists come in pages: each reply says in `next` what to give as `from` to get the next one, and null at the end. A page may be
//! empty and yet not be the last. A change is computed without being done when `dry` is true. Keys that are not known are an
//! error in a request, and to be skipped in a reply. Unlike the other wires this one allocates: no machine that boots waits for it.

mod found;

use std::fmt;
use std::net::Ipv4Addr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::base::addr::Mac;
use crate::base::limits;

pub use found::{FoundPage, FoundRow};

/// Bytes of a line, its newline included, each way.
pub const LINE_MAX: usize = 64 * 1024;

/// Connections of operators at once.
pub const CONNECTIONS: usize = 16;

/// What may wait for the reader of a connection: an answer, and the events of a storm's second or two.
pub const OUT_MAX: usize = 128 * 1024;

const _: () = assert!(LINE_MAX <= limits::BYTES_PER_CALL && LINE_MAX <= OUT_MAX);

/// Entries of one [`Change::Import`].
pub const IMPORT_MAX: usize = 256;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The whole in numbers; answered by [`Reply::Status`].
    Status,
    /// The state of every lot from a number on, folded into runs; [`Reply::States`].
    States {
        /// The first number of the page.
        #[serde(default)]
        from: u32,
    },
    /// The nodes of a selection (`roll::ranges`; none: all that are not vacant), from a number on; [`Reply::Nodes`].
    NodeList {
        /// Which nodes, such as `n[0-31],@stuck`; None for all that are not vacant.
        #[serde(default)]
        nodes: Option<String>,
        /// The first number of the page.
        #[serde(default)]
        from: u32,
        /// At most so many rows in one reply; the server's own limit is 64.
        #[serde(default)]
        limit: Option<u32>,
    },
    /// Everything that is known of a node, and what it is given; [`Reply::Node`].
    NodeShow {
        /// Which node.
        number: u32,
    },
    /// The machines without a number, from a place in the table on; [`Reply::Guests`].
    GuestList {
        /// The place in the table where the page begins.
        #[serde(default)]
        from: u32,
        /// At most this many rows in one reply; the server's own limit is 64.
        #[serde(default)]
        limit: Option<u32>,
    },
    /// Whose this is: a MAC or IP address, a name, a number, a UUID, a part of a serial number or of a switch port; [`Reply::Found`].
    Find {
        /// What is looked for.
        text: String,
        /// Where the page begins.
        #[serde(default)]
        from: u32,
    },
    /// Every step of every machine from now on; [`Reply::Watching`], then [`Reply::Event`] and [`Reply::Lost`] without end.
    Watch,
    /// Read the config again, as SIGHUP does; [`Reply::Done`].
    Reload {
        /// Though nodes that have leases get other addresses by it.
        #[serde(default)]
        renumber: bool,
        /// Say what would change, and change nothing.
        #[serde(default)]
        dry: bool,
    },
    /// Write the state to disk, as SIGUSR1 does; [`Reply::Done`].
    Checkpoint,
    /// Change the roll; [`Reply::Changed`].
    Change {
        /// What to change.
        change: Change,
        /// Compute what would change, and change nothing.
        #[serde(default)]
        dry: bool,
    },
}

/// A change of the roll.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// Give a lot these MACs, or reserve it.
    Set {
        /// Which number.
        number: u32,
        /// These and no others.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        macs: Option<Vec<Mac>>,
        /// These as well.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        add: Vec<Mac>,
        /// Not these any more.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        remove: Vec<Mac>,
        /// True: keep an empty lot from being given away by itself; false: give it free again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reserve: Option<bool>,
    },
    /// The node's machine has gone; another takes its number, its own MACs are retired.
    Replace {
        /// The node to be replaced.
        number: u32,
        /// None: the next unknown machine that passes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Replacement>,
    },
    /// These machines have gone for good: their lots become vacant, their MACs are retired. Numbers only, no groups.
    Out {
        /// Numbers, such as `3,17-20`.
        nodes: String,
    },
    /// A guest becomes a node: the one of this number, or the lowest vacant one.
    Enlist {
        /// A guest's `id` or address; `@held` for all that passed and wait.
        guest: String,
        /// The number to give; None for the lowest vacant one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<u32>,
    },
    /// Known machines from elsewhere: at most [`IMPORT_MAX`] of them in one request.
    Import {
        /// The machines, at most [`IMPORT_MAX`].
        entries: Vec<ImportEntry>,
        /// More of them come with the next request of this connection: they are one change, which is worked out and done with the last.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        more: bool,
    },
    /// Take the last change back.
    Undo,
}

impl Change {
    /// The name of its kind, as on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Change::Set { .. } => "set",
            Change::Replace { .. } => "replace",
            Change::Out { .. } => "out",
            Change::Enlist { .. } => "enlist",
            Change::Import { .. } => "import",
            Change::Undo => "undo",
        }
    }
}

/// Who takes a number over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replacement {
    /// The machine with this MAC, when it comes.
    Mac(Mac),
    /// A guest that is here now, by its `id` or its address.
    Guest(String),
}

/// One machine of an import.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportEntry {
    /// The number that it gets.
    pub number: u32,
    /// Its MAC addresses, each of one card.
    pub macs: Vec<Mac>,
    /// What it was called where it comes from; for the record only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Reply {
    /// The answer to [`Request::Status`].
    Status(Box<Status>),
    /// The answer to [`Request::States`].
    States(States),
    /// The answer to [`Request::NodeList`].
    Nodes(NodePage),
    /// The answer to [`Request::NodeShow`].
    Node(Box<NodeDetail>),
    /// The answer to [`Request::GuestList`].
    Guests(Guests),
    /// The answer to [`Request::Find`].
    Found(FoundPage),
    /// Events follow.
    Watching,
    /// A step of a machine, after [`Reply::Watching`].
    Event(WatchEvent<String>),
    /// So many events were left out: the client took them too slowly.
    Lost {
        /// How many were left out.
        count: u64,
    },
    /// The answer to [`Request::Change`].
    Changed(Changed),
    /// It is done; what there is to say about it, a line each.
    Done {
        /// What was done, a line each.
        said: Vec<String>,
    },
    /// It is not done.
    Error(Rejection),
}

/// Why something was not done, and what to do instead.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Rejection {
    /// What is wrong.
    pub why: String,
    /// What to do about it; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

impl Rejection {
    /// An error with a hint, which may be empty.
    pub fn new(why: impl Into<String>, hint: impl Into<String>) -> Rejection {
        Rejection { why: why.into(), hint: hint.into() }
    }
}

/// `why: hint`
impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sep = if self.hint.is_empty() { "" } else { ": " };
        write!(f, "{}{sep}{}", self.why, self.hint)
    }
}

/// The whole cluster in numbers, as in `muster status` and state.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of musterd.
    pub version: String,
    /// The cluster's name.
    pub cluster: String,
    /// The address of number 0.
    pub node0: Ipv4Addr,
    /// How many lots the lot table has.
    pub nodes: u32,
    /// The runs of lots that lie side by side in addresses too, in order of their numbers.
    pub segments: Vec<SegmentRow>,
    /// Nodes are called by this and their number, of so many digits at least.
    pub prefix: String,
    /// Digits of a name at least, filled with leading zeros.
    pub digits: u8,
    /// The head's own address on node 0's network.
    pub head: Option<Ipv4Addr>,
    /// Patterns of MACs that never get a number by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// How machines get a number: automatic, ordered, locked.
    pub numbering: String,
    /// How many numbers are given in a minute, at most.
    #[serde(default)]
    pub new_numbers: u32,
    /// Guests that took an offer, and whose number is held back by that.
    #[serde(default)]
    pub delayed: u32,
    /// Numbers that were given to machines that asked, and whose machine was not heard under its address since.
    #[serde(default)]
    pub never: u32,
    /// Seconds since 1970-01-01 UTC.
    pub time: u64,
    /// Seconds since the daemon's start.
    pub uptime: u64,
    /// Client records in use, and how many there are.
    pub clients: u32,
    /// How many records there can be, by `server.capacity`.
    pub capacity: u32,
    /// Running TFTP transfers.
    pub transfers: u32,
    /// Machines without a number that have a record.
    pub guests: u32,
    /// How many machines are in each stage, by its name.
    pub stages: Vec<(String, u32)>,
    /// The guest pools.
    pub networks: Vec<PoolStatus>,
    /// The load of each boot interface.
    pub lanes: Vec<LaneStatus>,
    /// None: no names are served.
    pub dns: Option<DnsStatus>,
    /// What has happened so far, by name; zeros left out.
    pub counters: Vec<(String, u64)>,
}

/// A run of lots: number `first + n` has the address `address + n`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentRow {
    /// The first number of the run.
    pub first: u32,
    /// The last number of the run.
    pub last: u32,
    /// The address of `first`.
    pub address: Ipv4Addr,
}

/// A guest pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// The network, such as `10.54.0.0/16`.
    pub subnet: String,
    /// Addresses that guests have.
    pub guests_held: usize,
    /// Addresses that can be given.
    pub guests_free: usize,
    /// Left by their machines, whose leases have not ended.
    pub guests_left: usize,
    /// Another machine was found there.
    pub guests_quarantined: usize,
}

/// How a boot interface is fed (`engine::pace`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaneStatus {
    /// The boot interface.
    pub interface: String,
    /// The head's addresses there, the first one first.
    #[serde(default)]
    pub addresses: Vec<Ipv4Addr>,
    /// Why it is not served; None: it is.
    #[serde(default)]
    pub trouble: Option<String>,
    /// How it serves: `bandwidth`, `round robin` or `deferral`.
    pub regime: String,
    /// Bytes per second that may leave now.
    pub budget: u64,
    /// Bytes per second that the way was measured to carry.
    pub bottleneck: Option<u64>,
    /// Milliseconds of queue on the way, by the rise of round trips.
    pub queue_ms: f64,
    /// Milliseconds that one turn for each running transfer takes.
    pub lap_ms: f64,
    /// Transfers that wait for a turn.
    pub waiting: usize,
    /// New transfers and DISCOVERs that were held for a while.
    pub deferred: u64,
    /// Turns given first because a packet was lost.
    pub rescued: u64,
}

/// The names that are served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DnsStatus {
    /// Empty when there is none.
    pub zone: String,
    /// How many zones map addresses to names.
    pub reverse_zones: u64,
    /// The serial number of all zones (RFC 1035, 3.3.13).
    pub serial: u32,
    /// Questions that wait for other servers.
    pub waiting: usize,
    /// Zone transfers that are under way.
    pub transfers: usize,
}

/// The state of a lot, as states are folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// Its operating system has its lease.
    Up,
    /// On its way there.
    Booting,
    /// Longer in a stage than that takes.
    Stuck,
    /// Its operating system has its lease, and its last test failed.
    Failed,
    /// Occupied, and not heard of.
    Down,
    /// Waiting for its machine.
    Reserved,
    /// No machine has the number.
    Vacant,
}

impl NodeState {
    /// All states, in the order in which an overview shows them.
    pub const ALL: [NodeState; 7] =
        [NodeState::Up, NodeState::Booting, NodeState::Stuck, NodeState::Failed, NodeState::Down, NodeState::Reserved, NodeState::Vacant];

    /// The word for it, on the wire and for people.
    pub fn name(self) -> &'static str {
        match self {
            NodeState::Up => "up",
            NodeState::Booting => "booting",
            NodeState::Stuck => "stuck",
            NodeState::Failed => "failed",
            NodeState::Down => "down",
            NodeState::Reserved => "reserved",
            NodeState::Vacant => "vacant",
        }
    }
}

/// A page of states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct States {
    /// Runs of numbers in one state, in order.
    pub runs: Vec<StateRun>,
    /// Where the next page begins; None at the end.
    pub next: Option<u32>,
}

/// Lots side by side in one state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateRun {
    /// The state of all its numbers.
    pub state: NodeState,
    /// The first number of the run.
    pub first: u32,
    /// The last number of the run.
    pub last: u32,
}

/// A page of nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodePage {
    /// A node each, in order of their numbers.
    pub rows: Vec<NodeRow>,
    /// Where the next page begins; None at the end.
    pub next: Option<u32>,
}

/// A line of `muster node list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its number.
    pub number: u32,
    /// Its name, without the domain.
    pub name: String,
    /// Its state.
    pub state: NodeState,
    /// By arithmetic on the number.
    pub address: Option<Ipv4Addr>,
    /// The MAC that it booted with last, else its first one.
    pub mac: Option<Mac>,
    /// How many MACs it has.
    pub macs: u32,
    /// `discover`, `offered`, `leased`, `loading vmlinuz 42 %`, `loaded`, `up`; where it is stuck; empty when nothing is known.
    pub stage: String,
    /// Milliseconds in this stage.
    pub since_ms: Option<u64>,
    /// Firmware and architecture, as it sent them last.
    pub firmware: String,
}

/// A page of machines without a number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guests {
    /// A machine each.
    pub rows: Vec<MachineRow>,
    /// Where the next page begins; None at the end.
    pub next: Option<u32>,
}

/// A machine that has a record: a line of `muster guest list`, a network card of a node, an entry of state.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineRow {
    /// What names it: its MAC, or its client-id where there is none.
    pub id: String,
    /// None: it is a guest.
    pub number: Option<u32>,
    /// The address that it was given, if it has one.
    pub address: Option<Ipv4Addr>,
    /// The boot interface where it was heard last; empty when that is gone.
    pub interface: String,
    /// Firmware and architecture, as it reported last.
    pub firmware: String,
    /// As in [`NodeRow`].
    pub stage: String,
    /// Milliseconds in this stage.
    pub since_ms: u64,
    /// Seconds until its lease ends.
    pub lease: u64,
    /// Running TFTP transfers.
    pub transfers: u16,
    /// What its test said, once it has: `passed`, or the name of what failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// When it reached each stage of this boot, in that order.
    pub steps: Vec<StageTime>,
    /// The boot so far in words; empty once the log has it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub story: String,
}

/// Everything about one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeDetail {
    /// Its number.
    pub number: u32,
    /// Its name, without the domain.
    pub name: String,
    /// The address of its number.
    pub address: Option<Ipv4Addr>,
    /// Its state.
    pub state: NodeState,
    /// What is known of its machine.
    pub lot: LotDetail,
    /// One a MAC that has been seen.
    pub boots: Vec<MachineRow>,
    /// What it boots, and what DHCP sends it: each value, and the section that says so.
    pub given: Vec<Given>,
}

/// When a stage was reached first in this boot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// The stage, by its name.
    pub stage: String,
    /// Milliseconds ago.
    pub ago_ms: u64,
}

/// A value that holds for a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Given {
    /// The setting, by its name in the config.
    pub key: String,
    /// Its value, as the config would have it.
    pub value: String,
    /// The section that gives it: `[boot]`, `[[for]] nodes = "0-31"`, `[[network]] eth1`.
    pub from: String,
}

/// A step of a machine. Generic, so that the daemon writes one without allocating.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchEvent<S> {
    /// Seconds since 1970-01-01 UTC.
    pub time: u64,
    /// None: it is a guest.
    pub number: Option<u32>,
    /// MAC or client-id.
    pub id: S,
    /// The address that it was given, if it has one.
    pub address: Option<Ipv4Addr>,
    /// The stage that it is in.
    pub stage: S,
    /// The step in words.
    pub text: S,
    /// It went wrong.
    pub trouble: bool,
}

/// What a change does, or would do.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Changed {
    /// Nothing was changed: this is what would.
    pub dry: bool,
    /// How many lots change.
    pub count: u32,
    /// Their numbers, folded.
    pub nodes: String,
    /// The first of them, at most 64, with what they were and become.
    pub lots: Vec<LotChange>,
    /// What else there is to know, a line each.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What becomes of one number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LotChange {
    /// The number.
    pub number: u32,
    /// What it was.
    pub before: LotDetail,
    /// What it becomes.
    pub after: LotDetail,
}

/// A number's place.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct LotDetail {
    /// Whether a machine has it.
    pub kind: LotKind,
    /// The MAC addresses of its machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<Mac>,
    /// Evidence and circumstances, by name: uuid, serial, switch port, what it is reserved for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<(String, String)>,
}

/// What a number can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LotKind {
    /// No machine has it.
    #[default]
    Vacant,
    /// It waits for a certain machine, or for the next one that passes.
    Reserved,
    /// A machine has it.
    Occupied,
}

impl LotKind {
    /// The word for it, on the wire and for people.
    pub fn name(self) -> &'static str {
        match self {
            LotKind::Vacant => "vacant",
            LotKind::Reserved => "reserved",
            LotKind::Occupied => "occupied",
        }
    }
}

/// As the rest of the house writes them: `52:54:00:12:34:56`.
impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mac, D::Error> {
        struct TextVisitor;
        impl Visitor<'_> for TextVisitor {
            type Value = Mac;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a MAC address as in \"52:54:00:12:34:56\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Mac, E> {
                text.parse().map_err(|wrong| E::custom(format_args!("{text:?} is {wrong}")))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Reads a request; the sentence says what is wrong with it.
pub fn read(line: &[u8]) -> Result<Request, Rejection> {
    serde_json::from_slice(line).map_err(|error| Rejection::new(format!("not a request: {error}"), "see muster(1), PROTOCOL"))
}

/// Writes a line with its newline; None when it does not fit into `buf` or into [`LINE_MAX`].
pub fn write<T: Serialize>(buf: &mut [u8], value: &T) -> Option<usize> {
    let room = buf.len().min(LINE_MAX);
    let mut rest = buf.get_mut(..room)?;
    serde_json::to_writer(&mut rest, value).ok()?;
    let left = rest.len();
    *rest.first_mut()? = b'\n';
    Some(room - left + 1)
}

#[cfg(test)]
mod tests;
