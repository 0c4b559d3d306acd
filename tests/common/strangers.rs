//! Machines that nobody knows, by the hundred on one cable: they ask for an address, pass muster, boot again when they are told to, and
//! everything that they were told is remembered. Every second one is a ROM first, and so a guest for a moment.

use std::collections::VecDeque;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use muster::base::addr::Mac;
use muster::base::facts::LinkFacts;
use muster::base::machine::{Input, Machine};
use muster::base::outbox::Outbox;
use muster::base::time::{Instant as Time, Now};
use muster::shell::Shell;
use muster::wire::dhcp::{Header, MessageBuilder, MessageType, Scratch, code, parse};
use muster::wire::ether::{self, Checksum, Frame};
use muster::wire::report::{self, Report, ReportMacs, ReportVerdict};
use nix::sched::{CloneFlags, setns};

use crate::common::Host;

/// The lots that these machines may get.
pub const NODE0: Ipv4Addr = Ipv4Addr::new(10, 54, 16, 0);
pub const LOTS: u32 = 4096;
/// A config of the head that goes with them: no guest's lease ends while a test runs, and numbers come by
/// 600 at once, so that a round of a test does not take all.
pub const CONFIG: &str = "[cluster]\nnode0 = \"10.54.16.0\"\nnodes = 4096\nguests = \"10.54.224.0-10.54.247.255\"\nnew-numbers = 3000\n[dhcp]\nguest-lease = \"2h\"\n";

/// Silence after which a message is sent again.
const RETRY: Duration = Duration::from_millis(250);
/// A REQUEST that was sent so often begins anew: the head may have forgotten its offer.
const TRIES: u32 = 8;
/// Boots under way at a time, of those that boot again.
const AGAIN: usize = 48;

/// The number whose address this is.
pub fn number(address: Ipv4Addr) -> Option<u32> {
    u32::from(address).checked_sub(u32::from(NODE0)).filter(|&number| number < LOTS)
}

/// The machine of this number among all strangers.
pub fn mac(machine: u32) -> Mac {
    let [a, b, c, d] = machine.to_be_bytes();
    Mac([0x02, 0x57, a, b, c, d])
}

/// An address that a machine heard is its own.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub mac: Mac,
    pub address: Ipv4Addr,
    pub kind: MessageType,
    /// Its first message of this boot, and the head's answer.
    pub asked: Instant,
    pub at: Instant,
    pub stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It shows nothing of itself.
    Rom,
    /// It shows that it has passed its test.
    Passing,
    /// A ROM of a machine that was told its number before.
    Again,
}

/// What is wanted of them, and what came of it.
#[derive(Default)]
struct Desk {
    /// So many new machines are under way.
    crowd: usize,
    /// Who is to boot again.
    again: VecDeque<Mac>,
    told: Vec<Told>,
    busy: usize,
}

/// A thread in the namespace of a host. It ends with this.
pub struct Strangers {
    desk: Arc<Mutex<Desk>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Strangers {
    /// On `eth0` of a host; new machines are counted from `first`.
    pub fn on(host: &Host, first: u32) -> Strangers {
        let namespace = host.open();
        let (desk, end) = (Arc::new(Mutex::new(Desk::default())), Arc::new(AtomicBool::new(false)));
        let (theirs, over) = (Arc::clone(&desk), Arc::clone(&end));
        let thread = std::thread::spawn(move || run(&namespace, first, theirs, &over));
        Strangers { desk, end, thread: Some(thread) }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("the strangers' thread has not failed")
    }

    /// Keeps so many new machines under way from now on.
    pub fn crowd(&self, crowd: usize) {
        self.desk().crowd = crowd;
    }

    /// Lets machines boot again.
    pub fn again(&self, macs: impl IntoIterator<Item = Mac>) {
        let mut desk = self.desk();
        desk.again.extend(macs);
        desk.busy = desk.busy.max(1);
    }

    pub fn told(&self) -> Vec<Told> {
        self.desk().told.clone()
    }

    /// Everything that was told from this one on.
    pub fn told_from(&self, from: usize) -> Vec<Told> {
        self.desk().told.get(from..).unwrap_or_default().to_vec()
    }

    /// Nobody is under way.
    pub fn is_idle(&self) -> bool {
        let desk = self.desk();
        desk.busy == 0 && desk.again.is_empty()
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || std::thread::panicking(), "the strangers' thread has failed");
    }
}

fn run(namespace: &File, first: u32, desk: Arc<Mutex<Desk>>, end: &AtomicBool) {
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("enter a namespace of the lab");
    let mut shell = Shell::frames(&facts()).expect("a packet socket");
    let mut crowd = Crowd { desk, clients: Vec::new(), next: first, xid: first << 8, scratch: Scratch::default() };
    while !end.load(Ordering::Relaxed) {
        crowd.admit(shell.now().at);
        shell.turn(&mut crowd, Duration::from_millis(10)).expect("a turn");
    }
}

/// What a packet socket needs to know of `eth0`.
fn facts() -> LinkFacts {
    LinkFacts::ethernet("eth0", nix::net::if_::if_nametoindex("eth0").expect("the host has eth0"), mac(0))
}

struct Client {
    mac: Mac,
    stage: Stage,
    xid: u32,
    asked: Instant,
    /// When its next message is due, and how often it has been sent.
    next: Time,
    tries: u32,
    /// What it was offered, and by whom.
    offer: Option<(Ipv4Addr, Ipv4Addr)>,
}

impl Client {
    /// Begins a boot, or begins it anew.
    fn begin(&mut self, xid: &mut u32, at: Time) {
        *xid += 1;
        (self.xid, self.next, self.tries, self.offer) = (*xid, at, 0, None);
    }

    fn write(&self, buf: &mut [u8]) -> Option<usize> {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&self.mac.0);
        let header = Header { xid: self.xid, flags: Header::BROADCAST, chaddr, ..Header::default() };
        let mut body = [0; 576];
        let mut builder = MessageBuilder::new(&mut body, &header, 548)?;
        match self.offer {
            None => builder.message_type(MessageType::Discover),
            Some((address, server)) => {
                builder.message_type(MessageType::Request) && builder.ip(code::REQUESTED_IP, address) && builder.ip(code::SERVER_ID, server)
            }
        };
        if self.stage == Stage::Passing {
            let mut macs = ReportMacs::NONE;
            macs.push(self.mac);
            let mut text = [0; report::LEN_MAX];
            let len = Report { macs, verdict: ReportVerdict::Passed, ..Report::EMPTY }.write(&mut text)?;
            builder.option(report::CODE, text.get(..len)?);
        }
        let len = builder.finish(None);
        let (from, to) = (SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68), SocketAddrV4::new(Ipv4Addr::BROADCAST, 67));
        ether::emit_udp(buf, self.mac, Mac::BROADCAST, from, to, 1, body.get(..len)?)
    }
}

struct Crowd {
    desk: Arc<Mutex<Desk>>,
    /// Under way.
    clients: Vec<Client>,
    next: u32,
    xid: u32,
    scratch: Scratch,
}

impl Crowd {
    fn start(&mut self, mac: Mac, stage: Stage, at: Time) {
        let mut client = Client { mac, stage, xid: 0, asked: Instant::now(), next: at, tries: 0, offer: None };
        client.begin(&mut self.xid, at);
        self.clients.push(client);
    }

    /// Begins the boots that are wanted.
    fn admit(&mut self, at: Time) {
        let desk = Arc::clone(&self.desk);
        let mut desk = desk.lock().expect("no test fails with the desk in hand");
        while self.clients.len() < AGAIN {
            let Some(mac) = desk.again.pop_front() else { break };
            self.start(mac, Stage::Again, at);
        }
        while self.clients.len() < desk.crowd {
            let stage = if self.next % 2 == 0 { Stage::Rom } else { Stage::Passing };
            self.start(mac(self.next), stage, at);
            self.next += 1;
        }
        desk.busy = self.clients.len();
    }

    /// Takes in a message of the head.
    fn hear(&mut self, now: Time, payload: &[u8]) {
        let message = parse(payload, &mut self.scratch).expect("what musterd sends is DHCP");
        let header = message.header;
        let Some(at) = self.clients.iter().position(|client| client.xid == header.xid && header.chaddr.starts_with(&client.mac.0)) else {
            return;
        };
        let (kind, server) = (message.message_type().expect("a type"), message.server_id().expect("a server"));
        let client = &mut self.clients[at];
        let (address, waits) = (header.yiaddr, client.offer.is_some());
        let told = Told { mac: client.mac, address, kind, asked: client.asked, at: Instant::now(), stage: client.stage };
        match (kind, waits) {
            (MessageType::Offer, false) => (client.offer, client.next, client.tries) = (Some((address, server)), now, 0),
            (MessageType::Ack, true) => match client.stage {
                Stage::Rom => {
                    (client.stage, client.asked) = (Stage::Passing, Instant::now());
                    client.begin(&mut self.xid, now);
                }
                // It passed, and is none the less a guest: it asks again.
                Stage::Passing if number(address).is_none() => client.begin(&mut self.xid, now + RETRY),
                Stage::Passing | Stage::Again => drop(self.clients.swap_remove(at)),
            },
            (MessageType::Nak, true) => return client.begin(&mut self.xid, now + RETRY),
            _ => return,
        }
        self.desk.lock().expect("no test fails with the desk in hand").told.push(told);
    }
}

impl Machine for Crowd {
    fn handle(&mut self, now: Now, input: Input<'_>, _: &mut Outbox) {
        let Input::Frame { bytes, .. } = input else { return };
        let Ok(Frame::Udp(udp)) = ether::parse(bytes, Checksum::Trusted) else { return };
        if udp.dst.port() == 68 {
            self.hear(now.at, udp.payload);
        }
    }

    fn expire(&mut self, now: Now, out: &mut Outbox) {
        let xid = &mut self.xid;
        for client in self.clients.iter_mut().filter(|client| client.next <= now.at) {
            if !out.has_room() {
                return;
            }
            if client.offer.is_some() && client.tries >= TRIES {
                client.begin(xid, now.at);
            }
            (client.next, client.tries) = (now.at + RETRY, client.tries + 1);
            out.frame(0, |frame| client.write(frame));
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.clients.iter().map(|client| client.next).min()
    }
}
