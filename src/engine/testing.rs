//! A small world for the engines' tests: one Server in virtual time, clients that speak through the wire codecs, outputs as owned values.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Once;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::endpoint::EndpointId;
use crate::base::machine::{ConnId, Datagram, FileId, Input, Link, Machine, RowMark, Seq, Stream, StreamEvent, TaskOutcome};
use crate::base::outbox::{DatagramRun, FileTask, JournalOp, Outbox, Output, SendFile, Target, Via};
use crate::base::time::{Instant, Now};
use crate::config::{self, Boot, Config, Hardware, KnownNode, LinkConfig, Network, Tftp};
use crate::engine::endpoints::{DNS, UPSTREAM};
use crate::engine::server::Server;
use crate::engine::stats::Known;
use crate::roll::client::{Client, Identity};
use crate::roll::kind::Arch;
use crate::roll::plan::{AddressPlan, AddressRange, Number, Subnet};
use crate::roll::stage::Stage;
use crate::wire::dhcp::{self, Header, MessageBuilder, MessageType, Scratch, code};

pub const HEAD: Ipv4Addr = ip(10, 54, 0, 1);
pub const IB_HEAD: Ipv4Addr = ip(10, 56, 0, 1);
/// The relay of 10.55.0.0/16.
pub const RELAY: Ipv4Addr = ip(10, 55, 0, 1);
pub const MACHINE_UUID: [u8; 17] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

pub const fn ip(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, d)
}

/// The guest address `n` of the Ethernet link, from 1 to 8.
pub const fn guest(n: u8) -> Ipv4Addr {
    ip(10, 54, 250, n)
}

pub fn is_guest(address: Ipv4Addr) -> bool {
    (1..=8).any(|n| guest(n) == address)
}

pub const fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn network(subnet: Ipv4Addr, link: Option<Link>, guests: (Ipv4Addr, Ipv4Addr)) -> Network {
    Network {
        guests: AddressRange::new(guests.0, guests.1),
        lease: Duration::from_secs(3600),
        routers: vec![ip(10, subnet.octets()[1], 0, 254)],
        dns: vec![HEAD],
        domain: Some("cluster".into()),
        ..Network::plain(Subnet::of(subnet, 16), link)
    }
}

/// An Ethernet link (10.54/16, 8 guests), an InfiniBand link (10.56/16), a relayed network (10.55/16); nodes 17 (two NICs: MACs 17 and 117) and 23.
pub fn config() -> Config {
    let program = |arch, name: &str| (arch, name.to_string());
    let links = vec![
        LinkConfig::plain("eth1", 2, mac(0xfe), HEAD),
        LinkConfig { hardware: Hardware::Infiniband, mtu: 2044, ..LinkConfig::plain("ib0", 2, mac(0xfe), IB_HEAD) },
    ];
    let networks = vec![
        network(ip(10, 54, 0, 0), Some(0), (guest(1), guest(8))),
        network(ip(10, 56, 0, 0), Some(1), (ip(10, 56, 250, 1), ip(10, 56, 250, 4))),
        network(ip(10, 55, 0, 0), None, (ip(10, 55, 250, 1), ip(10, 55, 250, 4))),
    ];
    Config {
        nodes: vec![KnownNode { number: Number(17), macs: vec![mac(17), mac(117)] }, KnownNode { number: Number(23), macs: vec![mac(23)] }],
        boot: Boot {
            root: "/nowhere".into(),
            allow: Vec::new(),
            program: vec![
                program(Arch::Bios, "undionly.kpxe"),
                program(Arch::EfiX64, "snponly.efi"),
                program(Arch::EfiArm64, "snponly-arm64.efi"),
                program(Arch::HttpX64, "http://10.54.0.1/snponly.efi"),
                program(Arch::RaspberryPi, "bootcode.bin"),
            ],
            script: None,
            kernel: Some("vmlinuz".into()),
            initrd: vec!["initrd.img".into()],
            args: "console=ttyS0 muster.node={node}".into(),
        },
        tftp: Tftp { ports: (20_069, 20_072), windowsize: 16, give_up: Duration::from_secs(60) },
        dns: config::Dns { enabled: true, ..config::Dns::default() },
        server: config::Server {
            capacity: 16,
            run_dir: "/nowhere".into(),
            state_dir: "/nowhere".into(),
            user: "root".into(),
            router_adverts: true,
        },
        ..Config::plain(AddressPlan::new(ip(10, 54, 1, 0), 200), links, networks)
    }
}

/// Counts the lines of the log, for each thread: tests run side by side.
struct Counting;

thread_local! {
    static LINES: Cell<u64> = const { Cell::new(0) };
}

impl log::Log for Counting {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES.set(LINES.get() + 1);
        }
    }

    fn flush(&self) {}
}

/// Lines that this thread has logged, at level info or above, since the first call of anybody.
pub fn log_lines() -> u64 {
    static LOG: Once = Once::new();
    LOG.call_once(|| {
        log::set_logger(&Counting).expect("no test sets another one");
        log::set_max_level(log::LevelFilter::Info);
    });
    LINES.get()
}

/// An output, owned.
#[derive(Clone, Debug, PartialEq)]
pub enum Got {
    Datagram {
        link: Link,
        from: SocketAddrV4,
        to: SocketAddrV4,
        via: Via,
        body: Vec<u8>,
    },
    Blocks(Blocks),
    Open {
        token: u64,
        path: String,
    },
    Close(FileId),
    Read {
        token: u64,
        offset: u64,
        len: u32,
    },
    Neighbour(Ipv4Addr, Option<Mac>),
    Probe(Ipv4Addr),
    /// A record of the journal.
    Record(String),
    /// Of a name server: from which endpoint.
    Dns(EndpointId, SocketAddrV4, Vec<u8>),
    Write(ConnId, Vec<u8>),
    Readdress(Ipv4Addr, Ipv4Addr),
    Address(Ipv4Addr, bool),
    Route(u64, Ipv4Addr),
    Connect(SocketAddrV4, u64),
    Hang(ConnId),
    Other,
}

/// A run of DATA packets.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocks {
    pub token: u64,
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    pub file: FileId,
    pub offset: u64,
    pub bytes: u32,
    pub blksize: u16,
    pub block: u16,
    pub count: u16,
}

impl Blocks {
    fn of(SendFile { token, file, offset, bytes, .. }: SendFile<'_>, run: DatagramRun<'_>) -> Blocks {
        let &[0, 3, high, low, ..] = run.headers else { panic!("{run:?}") };
        let block = u16::from_be_bytes([high, low]);
        let all: Vec<u8> = (0..run.count).flat_map(|n| crate::wire::tftp::data_header(block.wrapping_add(n))).collect();
        assert_eq!(run.headers, all, "blocks count up");
        let DatagramRun { from, to, size: blksize, count, .. } = run;
        Blocks { token, from, to, file, offset, bytes: bytes.try_into().unwrap(), blksize, block, count }
    }
}

/// A connection of a test's.
pub fn conn(n: u64) -> ConnId {
    ConnId::from_u64(n)
}

pub struct World {
    pub server: Server,
    pub now: Now,
    /// The disk syncs at once; else when the test says so.
    pub syncs: bool,
    /// What is wanted of files, and the number of the task.
    pub wanted: Vec<(u64, Wanted)>,
    /// What is kept for the next server.
    pub rows: BTreeMap<u32, (Vec<u8>, RowMark)>,
    /// The pieces of a text.
    text: Vec<u8>,
    put_out: Seq,
    synced: Seq,
    out: Outbox,
}

/// What the world is asked for beside packets, owned.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    Read(String),
    /// The root, and the names.
    Exists(Vec<String>),
    Root(String),
    Serve,
    /// A path, and the whole text.
    Write(String, String),
    Publish(String, String),
    Count,
    Leave,
}

impl World {
    /// A server that has just been started: no guest address is vetted.
    pub fn new(config: &Config) -> World {
        let now = Now { at: Instant::from_millis(50_000), unix: 1_700_000_000 };
        World::of(Server::new(config, 7, now), now)
    }

    /// Any server, a moment before its first step.
    pub fn of(server: Server, now: Now) -> World {
        let (wanted, rows, text, out) = (Vec::new(), BTreeMap::new(), Vec::new(), Outbox::new());
        World { server, now, syncs: true, wanted, rows, text, put_out: Seq::NONE, synced: Seq::NONE, out }
    }

    /// Another server with this config, which finds the rows of this one; gives what came out as it took them up.
    pub fn restart(&mut self, config: &Config) -> Vec<Got> {
        let rows = std::mem::take(&mut self.rows);
        *self = World::of(Server::new(config, 8, self.now), self.now);
        rows.values().flat_map(|(bytes, mark)| self.handle(Input::Row { bytes, mark: *mark })).collect()
    }

    /// One that has run for a while: all guest addresses are vetted.
    pub fn settled(config: &Config) -> World {
        let mut world = World::new(config);
        let unix = world.now.unix;
        world.advance(2_000);
        world.now.unix = unix;
        world
    }

    fn drain(&mut self) -> Vec<Got> {
        let mut put_out = self.put_out;
        for output in self.out.iter() {
            self.wanted.extend(wanted(output, &mut self.text));
            match output {
                Output::Row { place, bytes } => drop(self.rows.insert(place, (bytes.to_vec(), RowMark::default()))),
                Output::MarkRow { place, mark } => self.rows.get_mut(&place).expect("a mark of a row").1 = mark,
                Output::DropRow { place } => drop(self.rows.remove(&place).expect("a row")),
                _ => {}
            }
        }
        let endpoints = self.server.endpoints();
        let rows = |output: &Output<'_>| matches!(output, Output::Row { .. } | Output::MarkRow { .. } | Output::DropRow { .. });
        let files = |output: &Output<'_>| rows(output) || matches!(output, Output::Task { .. } | Output::Count | Output::Leave);
        let got = self.out.iter().filter(|output| !files(output)).map(|output| match output {
            Output::Datagram { endpoint, from, to, via, body } => match endpoints.get(endpoint).unwrap() {
                row if row.service == DNS || row.service == UPSTREAM => Got::Dns(endpoint, to, body.to_vec()),
                row => Got::Datagram { link: row.link.unwrap(), from, to, via, body: body.to_vec() },
            },
            Output::SendFile(sent) => match sent.to {
                Target::Datagrams(run) => Got::Blocks(Blocks::of(sent, run)),
                Target::Conn(_) => Got::Other,
            },
            Output::Open { token, path } => Got::Open { token, path: String::from_utf8_lossy(path).into_owned() },
            Output::CloseFile { file } => Got::Close(file),
            Output::Read { token, offset, len, .. } => Got::Read { token, offset, len },
            Output::Neighbour { ip, mac, .. } => Got::Neighbour(ip, mac),
            Output::Probe { ip, .. } => Got::Probe(ip),
            Output::Record(JournalOp::Append { seq, line }) => {
                assert_eq!(std::mem::replace(&mut put_out, seq).next(), seq, "records are numbered without a gap");
                Got::Record(String::from_utf8_lossy(line).into_owned())
            }
            Output::Write { conn, bytes } => Got::Write(conn, bytes.to_vec()),
            Output::Readdress { from, to } => Got::Readdress(from, to),
            Output::Route { token, to } => Got::Route(token, to),
            Output::Address { address, on, .. } => Got::Address(address, on),
            Output::Connect { to, token, .. } => Got::Connect(to, token),
            Output::Close { conn, .. } => Got::Hang(conn),
            Output::Record(_) | Output::Frame { .. } | Output::Task { .. } | Output::Count | Output::Leave => Got::Other,
            Output::Row { .. } | Output::MarkRow { .. } | Output::DropRow { .. } => Got::Other,
        });
        let mut got: Vec<Got> = got.collect();
        self.out.clear();
        self.put_out = put_out;
        if self.syncs && self.synced < self.put_out {
            got.extend(self.sync());
        }
        got
    }

    /// The disk has everything.
    pub fn sync(&mut self) -> Vec<Got> {
        self.synced = self.put_out;
        self.handle(Input::Synced { seq: self.put_out })
    }

    /// What came of a task.
    pub fn done(&mut self, token: u64, outcome: Result<TaskOutcome<'_>, &str>) -> Vec<Got> {
        self.handle(Input::Done { token, outcome })
    }

    /// A datagram to a port of a link.
    pub fn datagram(&mut self, link: Link, mac: Option<Mac>, (src, dst): (SocketAddrV4, SocketAddrV4), payload: &[u8]) -> Vec<Got> {
        let endpoint = self.server.endpoints().udp(link, dst.port());
        self.handle(Input::Datagram(Datagram { endpoint, mac, src, dst, payload }))
    }

    /// Something that happens on a connection of an endpoint.
    pub fn stream(&mut self, endpoint: EndpointId, conn: ConnId, peer: SocketAddrV4, event: StreamEvent<'_>) -> Vec<Got> {
        self.handle(Input::Stream(Stream { conn, endpoint, peer, event }))
    }

    /// The same on an operator's connection.
    pub fn operator(&mut self, conn: ConnId, event: StreamEvent<'_>) -> Vec<Got> {
        self.stream(self.server.endpoints().operators(), conn, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), event)
    }

    pub fn handle(&mut self, input: Input<'_>) -> Vec<Got> {
        self.server.handle(self.now, input, &mut self.out);
        self.drain()
    }

    /// Lets time pass, as a world does that wakes at each deadline; gives what came out.
    pub fn advance(&mut self, millis: u64) -> Vec<Got> {
        let end = self.now.at + Duration::from_millis(millis);
        let mut got = Vec::new();
        loop {
            self.server.expire(self.now, &mut self.out);
            got.extend(self.drain());
            match self.server.deadline() {
                // A deadline in the past means that the outbox was full: no time passes then.
                Some(at) if at <= end => self.pass_to(self.now.at.max(at).max(self.now.at + Duration::from_micros(1))),
                _ => break,
            }
        }
        self.pass_to(self.now.at.max(end));
        got
    }

    /// Both clocks go on.
    fn pass_to(&mut self, at: Instant) {
        let seconds = |at: Instant| at.since(Instant::ZERO).as_secs();
        self.now.unix += seconds(at) - seconds(self.now.at);
        self.now.at = at;
    }

    pub fn ask(&mut self, ask: &Ask) -> Vec<Got> {
        let mut buf = [0; 1500];
        let len = ask.write(&mut buf);
        self.datagram(ask.link, Some(ask.mac), (ask.src, ask.dst), &buf[..len])
    }

    /// Lets a compaction of the journal run to its end; gives its lines.
    pub fn compacted(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            self.server.expire(self.now, &mut self.out);
            let mut ended = false;
            for output in self.out.iter() {
                match output {
                    Output::Record(JournalOp::CompactBegin) => lines.clear(),
                    Output::Record(JournalOp::CompactLine { line }) => lines.push(String::from_utf8_lossy(line).into_owned()),
                    Output::Record(JournalOp::CompactEnd) => ended = true,
                    _ => {}
                }
            }
            self.drain();
            if ended {
                return lines;
            }
            self.pass_to(self.now.at + Duration::from_millis(1));
        }
    }

    /// Asks, and gives the one reply there must be.
    pub fn reply(&mut self, ask: &Ask) -> Reply {
        let got = self.ask(ask);
        only_reply(&got).unwrap_or_else(|| panic!("no reply: {got:?}"))
    }

    /// Asks, and expects no reply.
    pub fn silence(&mut self, ask: &Ask) -> Vec<Got> {
        let got = self.ask(ask);
        assert!(replies(&got).is_empty(), "{got:?}");
        got
    }

    /// DISCOVER, OFFER, REQUEST, ACK; gives the address.
    pub fn lease(&mut self, ask: &Ask) -> Ipv4Addr {
        let offer = self.reply(&ask.discover());
        assert_eq!(offer.kind, Some(MessageType::Offer));
        let ack = self.reply(&ask.select(offer.yiaddr()));
        assert_eq!((ack.kind, ack.yiaddr()), (Some(MessageType::Ack), offer.yiaddr()));
        ack.yiaddr()
    }

    /// Asks as `muster-in` does: from the beginning, each time that it is denied. Gives the address, and how often it began.
    pub fn muster_in(&mut self, ask: &Ask) -> (Ipv4Addr, u32) {
        for begun in 1..5 {
            let mut ask = ask.clone();
            ask.header.xid += begun;
            let mut got = self.ask(&ask.discover());
            if replies(&got).is_empty() {
                got = self.advance(200);
            }
            let offer = only_reply(&got).unwrap_or_else(|| panic!("no offer: {got:?}"));
            let answer = self.reply(&ask.select(offer.yiaddr()));
            match answer.kind {
                Some(MessageType::Ack) => return (answer.yiaddr(), begun),
                kind => assert_eq!(kind, Some(MessageType::Nak)),
            }
            self.advance(1000);
        }
        panic!("denied again and again");
    }

    pub fn client(&self, mac: Mac) -> Option<&Client> {
        let roll = self.server.roll();
        roll.find(&Identity::Mac(mac)).and_then(|key| roll.get(key))
    }

    pub fn stage(&self, mac: Mac) -> Option<Stage> {
        self.client(mac).map(|client| client.boot.stage())
    }

    pub fn count(&self, counter: impl Known) -> u64 {
        self.server.stats().get(counter)
    }
}

/// A client's message in the making.
#[derive(Clone, Debug)]
pub struct Ask {
    pub mac: Mac,
    pub link: Link,
    pub src: SocketAddrV4,
    pub dst: SocketAddrV4,
    pub header: Header,
    /// In order, as they are written.
    pub options: Vec<(u8, Vec<u8>)>,
}

impl Ask {
    /// An operating system's client, without a message type yet.
    pub fn os(mac: Mac) -> Ask {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&mac.0);
        Ask {
            mac,
            link: 0,
            src: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
            dst: SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
            header: Header { xid: 0x1234_5678, secs: 3, chaddr, ..Header::default() },
            options: vec![],
        }
    }

    /// A PXE ROM or UEFI.
    pub fn firmware(mac: Mac, arch: u16) -> Ask {
        Ask::os(mac)
            .with(code::VENDOR_CLASS, b"PXEClient:Arch:00000:UNDI:002001")
            .with(code::ARCHITECTURE, &arch.to_be_bytes())
            .with(code::MACHINE_UUID, &MACHINE_UUID)
            .with(code::PARAMETER_LIST, &[1, 3, 43, 60, 66, 67])
    }

    pub fn rom(mac: Mac) -> Ask {
        Ask::firmware(mac, 0)
    }

    pub fn ipxe(mac: Mac) -> Ask {
        Ask::firmware(mac, 0).with(code::USER_CLASS, b"iPXE")
    }

    /// IP over InfiniBand: no hardware address.
    pub fn infiniband(id: &[u8]) -> Ask {
        let mut ask = Ask::os(Mac::ZERO).with(code::CLIENT_ID, id);
        ask.link = 1;
        (ask.header.htype, ask.header.hlen, ask.header.flags) = (32, 0, Header::BROADCAST);
        ask
    }

    pub fn with(&self, code: u8, value: &[u8]) -> Ask {
        let mut ask = self.clone();
        ask.options.retain(|(own, _)| *own != code);
        ask.options.push((code, value.to_vec()));
        ask
    }

    fn kind(&self, kind: MessageType) -> Ask {
        self.with(code::MESSAGE_TYPE, &[kind as u8])
    }

    pub fn discover(&self) -> Ask {
        self.kind(MessageType::Discover)
    }

    /// SELECTING.
    pub fn select(&self, address: Ipv4Addr) -> Ask {
        let server = if self.link == 0 { HEAD } else { IB_HEAD };
        self.kind(MessageType::Request).with(code::SERVER_ID, &server.octets()).with(code::REQUESTED_IP, &address.octets())
    }

    /// INIT-REBOOT.
    pub fn reboot(&self, address: Ipv4Addr) -> Ask {
        self.kind(MessageType::Request).with(code::REQUESTED_IP, &address.octets())
    }

    /// RENEWING.
    pub fn renew(&self, address: Ipv4Addr) -> Ask {
        let mut ask = self.rebind(address);
        ask.dst = SocketAddrV4::new(HEAD, 67);
        ask
    }

    /// REBINDING.
    pub fn rebind(&self, address: Ipv4Addr) -> Ask {
        let mut ask = self.kind(MessageType::Request);
        ask.header.ciaddr = address;
        ask.src = SocketAddrV4::new(address, 68);
        ask
    }

    pub fn decline(&self, address: Ipv4Addr) -> Ask {
        self.select(address).kind(MessageType::Decline)
    }

    pub fn release(&self, address: Ipv4Addr) -> Ask {
        self.renew(address).kind(MessageType::Release).with(code::SERVER_ID, &HEAD.octets())
    }

    pub fn inform(&self, address: Ipv4Addr) -> Ask {
        self.rebind(address).kind(MessageType::Inform)
    }

    /// Through a relay agent, which adds its option.
    pub fn relayed(&self, giaddr: Ipv4Addr) -> Ask {
        let mut ask = self.with(code::RELAY_AGENT_INFO, b"\x01\x04eth7");
        ask.header.giaddr = giaddr;
        ask.header.hops = 1;
        (ask.src, ask.dst) = (SocketAddrV4::new(giaddr, 67), SocketAddrV4::new(HEAD, 67));
        ask
    }

    /// In a frame of another machine's.
    pub fn in_frame_of(&self, mac: Mac) -> Ask {
        Ask { mac, ..self.clone() }
    }

    pub fn broadcast(&self) -> Ask {
        let mut ask = self.clone();
        ask.header.flags = Header::BROADCAST;
        ask
    }

    pub fn write(&self, buf: &mut [u8]) -> usize {
        let mut builder = MessageBuilder::new(buf, &self.header, 1400).unwrap();
        for (code, value) in &self.options {
            assert!(builder.option(*code, value));
        }
        builder.finish(None)
    }
}

/// A reply, read by the codec.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    pub via: Via,
    pub header: Header,
    pub kind: Option<MessageType>,
    pub file: String,
    pub options: BTreeMap<u8, Vec<u8>>,
    /// Codes in the order of the options field.
    pub codes: Vec<u8>,
}

impl Reply {
    pub fn yiaddr(&self) -> Ipv4Addr {
        self.header.yiaddr
    }

    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.get(&code).map(Vec::as_slice)
    }

    pub fn seconds(&self, code: u8) -> Option<u32> {
        self.option(code).and_then(|value| value.try_into().ok()).map(u32::from_be_bytes)
    }

    fn read(from: SocketAddrV4, to: SocketAddrV4, via: Via, body: &[u8]) -> Option<Reply> {
        let mut scratch = Scratch::default();
        let message = dhcp::parse(body, &mut scratch).ok().filter(|message| message.header.op == 2)?;
        let codes = dhcp::SubOptions(body.get(240..).unwrap_or(&[])).map(|(code, _)| code).collect();
        Some(Reply {
            from,
            to,
            via,
            header: message.header,
            kind: message.message_type(),
            file: String::from_utf8_lossy(message.file).into_owned(),
            options: (1..=254).filter_map(|code| message.option(code).map(|value| (code, value.to_vec()))).collect(),
            codes,
        })
    }
}

/// What an output wants of files. Pieces are kept in `text`.
fn wanted(output: Output<'_>, text: &mut Vec<u8>) -> Option<(u64, Wanted)> {
    let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (token, task) = match output {
        Output::Task { token, task } => (token, task),
        Output::Count => return Some((0, Wanted::Count)),
        Output::Leave => return Some((0, Wanted::Leave)),
        _ => return None,
    };
    let wanted = match task {
        FileTask::Piece { text: piece } => {
            text.extend_from_slice(piece);
            return None;
        }
        FileTask::Read { path } => Wanted::Read(string(path)),
        FileTask::Exists { names } => Wanted::Exists(string(names).split('\0').map(str::to_string).collect()),
        FileTask::Root { path } => Wanted::Root(string(path)),
        FileTask::Serve => Wanted::Serve,
        FileTask::Write { path } => Wanted::Write(string(path), string(&std::mem::take(text))),
        FileTask::Publish { path } => Wanted::Publish(string(path), string(&std::mem::take(text))),
    };
    Some((token, wanted))
}

pub fn replies(got: &[Got]) -> Vec<Reply> {
    let replies = got.iter().filter_map(|got| match got {
        Got::Datagram { from, to, via, body, .. } if from.port() == 67 => Reply::read(*from, *to, *via, body),
        _ => None,
    });
    replies.collect()
}

/// The one reply; None when there is none.
pub fn only_reply(got: &[Got]) -> Option<Reply> {
    let mut replies = replies(got);
    assert!(replies.len() <= 1, "{replies:?}");
    replies.pop()
}
