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
//! < {"is":"error","why":"n5000 is no lot of this street, which ends at n1023","hint":"raise nodes in [cluster]"}
//! ```
//! Lists come in pages: each reply says in `next` what to give as `from` to get the next one, and null at the end. A page may be
//! empty and yet not be the last. A change is computed without being done when `dry` is true. Keys that are not known are an
//! error in a request, and to be skipped in a reply. Unlike the other wires this one allocates: no machine that boots waits for it.

use std::fmt;
use std::net::Ipv4Addr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::base::addr::Mac;
use crate::base::limits;

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
        #[serde(default)]
        from: u32,
    },
    /// The nodes of a selection (`roll::ranges`; none: all that are not vacant), from a number on; [`Reply::Nodes`].
    NodeList {
        #[serde(default)]
        nodes: Option<String>,
        #[serde(default)]
        from: u32,
        /// At most so many rows in one reply; the server's own limit is 64.
        #[serde(default)]
        limit: Option<u32>,
    },
    /// Everything that is known of a node, and what it is given; [`Reply::Node`].
    NodeShow { number: u32 },
    /// The machines without a number, from a place in the table on; [`Reply::Guests`].
    GuestList {
        #[serde(default)]
        from: u32,
        #[serde(default)]
        limit: Option<u32>,
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
        number: u32,
        /// None: the next unknown machine that passes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
    },
    /// These machines have gone for good: their lots become vacant, their MACs are retired. Numbers only, no groups.
    Out { nodes: String },
    /// A guest becomes a node: the one of this number, or the lowest vacant one.
    Enlist {
        guest: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<u32>,
    },
    /// Known machines from elsewhere: at most [`IMPORT_MAX`] of them in one request.
    Import {
        entries: Vec<Entry>,
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
pub enum By {
    /// The machine with this MAC, when it comes.
    Mac(Mac),
    /// A guest that is here now, by its `id` or its address.
    Guest(String),
}

/// One machine of an import.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub number: u32,
    pub macs: Vec<Mac>,
    /// What it was called where it comes from; for the record only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Reply {
    Status(Box<Status>),
    States(States),
    Nodes(Nodes),
    Node(Box<Node>),
    Guests(Guests),
    /// Events follow.
    Watching,
    Event(Event<String>),
    /// So many events were left out: the client took them too slowly.
    Lost {
        count: u64,
    },
    Changed(Changed),
    /// It is done; what there is to say about it, a line each.
    Done {
        said: Vec<String>,
    },
    /// It is not done.
    Error(Sorry),
}

/// Why something was not done, and what to do instead.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Sorry {
    pub why: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

impl Sorry {
    pub fn new(why: impl Into<String>, hint: impl Into<String>) -> Sorry {
        Sorry { why: why.into(), hint: hint.into() }
    }
}

/// `why: hint`
impl fmt::Display for Sorry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sep = if self.hint.is_empty() { "" } else { ": " };
        write!(f, "{}{sep}{}", self.why, self.hint)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    /// The cluster's name.
    pub cluster: String,
    pub node0: Ipv4Addr,
    /// How many lots the street has.
    pub nodes: u32,
    /// The runs of lots that lie side by side in addresses too, in order of their numbers.
    pub segments: Vec<Segment>,
    /// Nodes are called by this and their number, of so many digits at least.
    pub prefix: String,
    pub digits: u8,
    /// The head's own address on node 0's network.
    pub head: Option<Ipv4Addr>,
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
    pub capacity: u32,
    /// Running TFTP transfers.
    pub transfers: u32,
    /// Machines without a number that have a record.
    pub guests: u32,
    /// How many machines are in each stage, by its name.
    pub stages: Vec<(String, u32)>,
    pub networks: Vec<Network>,
    pub lanes: Vec<Lane>,
    /// None: no names are served.
    pub dns: Option<DnsStatus>,
    /// What has happened so far, by name; zeros left out.
    pub counters: Vec<(String, u64)>,
}

/// A run of lots: number `first + n` has the address `address + n`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    pub first: u32,
    pub last: u32,
    pub address: Ipv4Addr,
}

/// A guest pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    pub subnet: String,
    pub guests_held: usize,
    pub guests_free: usize,
    /// Left by their machines, whose leases have not ended.
    pub guests_left: usize,
    /// Another machine was found there.
    pub guests_quarantined: usize,
}

/// How a boot interface is fed (`engine::pace`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    pub interface: String,
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
    pub reverse_zones: u64,
    pub serial: u32,
    /// Questions that wait for other servers.
    pub waiting: usize,
    pub transfers: usize,
}

/// The state of a lot, as states are folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its operating system has its lease.
    Up,
    /// On its way there.
    Booting,
    /// Longer in a stage than that takes.
    Stuck,
    /// Occupied, and not heard of.
    Down,
    /// Waiting for its machine.
    Reserved,
    Vacant,
}

impl State {
    pub const ALL: [State; 6] = [State::Up, State::Booting, State::Stuck, State::Down, State::Reserved, State::Vacant];

    pub fn name(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Booting => "booting",
            State::Stuck => "stuck",
            State::Down => "down",
            State::Reserved => "reserved",
            State::Vacant => "vacant",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct States {
    pub runs: Vec<Run>,
    pub next: Option<u32>,
}

/// Lots side by side in one state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub state: State,
    pub first: u32,
    pub last: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nodes {
    pub rows: Vec<NodeRow>,
    pub next: Option<u32>,
}

/// A line of `muster node list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    pub number: u32,
    pub name: String,
    pub state: State,
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guests {
    pub rows: Vec<MachineRow>,
    pub next: Option<u32>,
}

/// A machine that has a record: a line of `muster guest list`, a network card of a node, an entry of state.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineRow {
    /// What names it: its MAC, or its client-id where there is none.
    pub id: String,
    /// None: it is a guest.
    pub number: Option<u32>,
    pub address: Option<Ipv4Addr>,
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
    pub steps: Vec<Step>,
    /// The boot so far in words; empty once the log has it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub story: String,
}

/// Everything about one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub number: u32,
    pub name: String,
    pub address: Option<Ipv4Addr>,
    pub state: State,
    pub lot: Lot,
    /// One a MAC that has been seen.
    pub boots: Vec<MachineRow>,
    /// What it boots, and what DHCP sends it: each value, and the section that says so.
    pub given: Vec<Given>,
}

/// When a stage was reached first in this boot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub stage: String,
    /// Milliseconds ago.
    pub ago_ms: u64,
}

/// A value that holds for a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Given {
    pub key: String,
    pub value: String,
    /// The section that gives it: `[boot]`, `[[for]] nodes = "0-31"`, `[[network]] eth1`.
    pub from: String,
}

/// A step of a machine. Generic, so that the daemon writes one without allocating.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event<S> {
    /// Seconds since 1970-01-01 UTC.
    pub time: u64,
    pub number: Option<u32>,
    /// MAC or client-id.
    pub id: S,
    pub address: Option<Ipv4Addr>,
    /// The stage that it is in.
    pub stage: S,
    pub text: S,
    /// It went wrong.
    pub trouble: bool,
}

/// What a change does, or would do.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Changed {
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LotChange {
    pub number: u32,
    pub before: Lot,
    pub after: Lot,
}

/// A number's place.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Lot {
    pub kind: LotKind,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<Mac>,
    /// Evidence and circumstances, by name: uuid, serial, switch port, what it is reserved for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LotKind {
    #[default]
    Vacant,
    Reserved,
    Occupied,
}

impl LotKind {
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
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Mac;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a MAC address as in \"52:54:00:12:34:56\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Mac, E> {
                text.parse().map_err(|wrong| E::custom(format_args!("{text:?} is {wrong}")))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Reads a request; the sentence says what is wrong with it.
pub fn read(line: &[u8]) -> Result<Request, Sorry> {
    serde_json::from_slice(line).map_err(|error| Sorry::new(format!("not a request: {error}"), "see muster(1), PROTOCOL"))
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
mod tests {
    use super::*;

    fn request(text: &str) -> Result<Request, String> {
        read(text.as_bytes()).map_err(|sorry| sorry.to_string())
    }

    #[test]
    fn requests_as_people_type_them() {
        let mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        for (text, expected) in [
            (r#"{"do":"status"}"#, Request::Status),
            (r#" {"do": "states"} "#, Request::States { from: 0 }),
            (r#"{"do":"node-list","nodes":"@up","limit":3}"#, Request::NodeList { nodes: Some("@up".into()), from: 0, limit: Some(3) }),
            (r#"{"do":"node-show","number":17}"#, Request::NodeShow { number: 17 }),
            (r#"{"do":"guest-list","from":9}"#, Request::GuestList { from: 9, limit: None }),
            (
                r#"{"do":"change","dry":true,"change":{"what":"replace","number":23,"by":{"mac":"52:54:00:12:34:56"}}}"#,
                Request::Change { change: Change::Replace { number: 23, by: Some(By::Mac(mac)) }, dry: true },
            ),
            (r#"{"do":"change","change":{"what":"undo"}}"#, Request::Change { change: Change::Undo, dry: false }),
            (
                r#"{"do":"change","change":{"what":"set","number":1,"add":["52:54:00:12:34:56"]}}"#,
                Request::Change {
                    change: Change::Set { number: 1, macs: None, add: vec![mac], remove: vec![], reserve: None },
                    dry: false,
                },
            ),
        ] {
            assert_eq!(request(text).as_ref(), Ok(&expected), "{text}");
            let mut buf = [0; 400];
            let len = write(&mut buf, &expected).unwrap();
            assert_eq!(read(&buf[..len]), Ok(expected), "{text}");
        }
    }

    #[test]
    fn wrong_requests_are_told() {
        for (text, words) in [
            ("", "EOF"),
            ("status", "not a request"),
            (r#"{"do":"dance"}"#, "dance"),
            (r#"{"do":"node-show"}"#, "number"),
            (r#"{"do":"states","form":1}"#, "form"),
            (r#"{"do":"change","change":{"what":"set","number":1,"macs":["12"]}}"#, "not a MAC"),
            ("{\"do\":\"status\"}{", "trailing"),
            ("\u{ff}", "not a request"),
        ] {
            let why = request(text).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
    }

    #[test]
    fn replies_and_back() {
        let lot = Lot { kind: LotKind::Occupied, macs: vec![Mac([2, 0, 0, 0, 0, 1])], facts: vec![("uuid".into(), "0".into())] };
        let change = LotChange { number: 3, before: Lot::default(), after: lot };
        let event =
            Event { time: 1, number: None, id: "x".to_string(), address: None, stage: "up".into(), text: "\"".into(), trouble: false };
        for reply in [
            Reply::Watching,
            Reply::Lost { count: 7 },
            Reply::Event(event),
            Reply::Changed(Changed { dry: true, count: 1, nodes: "3".into(), lots: vec![change], notes: vec![] }),
            Reply::Error(Sorry::new("no", "")),
            Reply::States(States { runs: vec![Run { state: State::Up, first: 0, last: 3 }], next: Some(4) }),
        ] {
            let mut buf = [0; 400];
            let len = write(&mut buf, &reply).unwrap();
            assert_eq!(buf[..len].iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(serde_json::from_slice::<Reply>(&buf[..len]).unwrap(), reply);
            assert_eq!(write(&mut buf[..len - 1], &reply), None, "the newline does not fit");
        }
    }

    #[test]
    fn states_are_told_by_their_names() {
        for state in State::ALL {
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{}\"", state.name()));
        }
    }
}
