//! The TFTP side of the [checks](super::checks): one transfer at a time for each client socket.

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::base::time::Instant;
use crate::wire::ether::UdpFrame;

use super::checks::Findings;
use super::disk::{Contents, Version};
use super::table::Table;

/// Later than this no copy of a packet arrives.
const COPY: Duration = Duration::from_millis(10);

/// A transfer, as an onlooker sees it. What every packet needs comes first.
struct SeenTransfer {
    /// The server's port, once it has answered.
    port: Option<u16>,
    blksize: u16,
    windowsize: u16,
    /// An OACK was sent and its ACK has not arrived.
    unsettled: bool,
    /// A request arrived to which nothing has been sent.
    fresh: bool,
    octet: bool,
    acked: u64,
    sent: u64,
    /// The number of the last block, once it was sent.
    last: Option<u64>,
    /// When the client asked for what has not come.
    waits: Option<Instant>,
    /// When the client was heard last.
    heard: Instant,
    versions: Versions,
    request: Box<SeenRequest>,
}

/// Which versions of the file it may be, by the time of the request and of the first answer, and by what was sent.
enum Versions {
    /// The disk does not have the file: the server makes it.
    Unknown,
    One(Version),
    Several(Vec<Version>),
}

impl Versions {
    fn add(&mut self, version: Version) {
        match self {
            Versions::Unknown => *self = Versions::One(version),
            Versions::One(one) if *one != version => *self = Versions::Several(vec![*one, version]),
            Versions::One(_) => {}
            Versions::Several(all) if !all.contains(&version) => all.push(version),
            Versions::Several(_) => {}
        }
    }

    /// Whether one is left for which `fits` holds; the others are forgotten. A file that is unknown fits.
    fn narrow(&mut self, mut fits: impl FnMut(Version) -> bool) -> bool {
        match self {
            Versions::Unknown => true,
            Versions::One(one) => fits(*one),
            Versions::Several(all) => {
                all.retain(|&version| fits(version));
                let left = all.len();
                if let [one] = all[..] {
                    *self = Versions::One(one);
                }
                left > 0
            }
        }
    }
}

/// What was asked for.
struct SeenRequest {
    payload: Vec<u8>,
    name: Vec<u8>,
    /// Options as they were asked for: lower-case name and value.
    asked: Vec<(Vec<u8>, u64)>,
}

/// A block that leaves the server in a frame of its own, by the place in its file: its bytes are laid in where it arrives.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    /// As it is numbered on the wire.
    pub block: u16,
    pub version: Version,
    /// Bytes.
    pub offset: u64,
    pub len: usize,
}

pub struct Transfers {
    running: Running,
    contents: Contents,
}

struct Running {
    ports: (u16, u16),
    by_client: Table<SeenTransfer>,
}

fn key(client: SocketAddrV4) -> u64 {
    u64::from(client.ip().to_bits()) << 16 | u64::from(client.port())
}

/// A request's strings; None when it is no read request that can be read.
fn strings(payload: &[u8]) -> Option<Vec<&[u8]>> {
    let body = payload.strip_suffix(&[0])?;
    Some(body.split(|&byte| byte == 0).collect())
}

fn options(strings: &[&[u8]]) -> Option<Vec<(Vec<u8>, u64)>> {
    let value = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    strings.chunks_exact(2).map(|pair| Some((pair[0].to_ascii_lowercase(), value(pair[1])?))).collect()
}

impl SeenTransfer {
    fn new(now: Instant, payload: &[u8]) -> Option<SeenTransfer> {
        let strings = strings(payload.strip_prefix(&[0, 1])?)?;
        let (&[name, mode], rest) = strings.split_first_chunk()?;
        Some(SeenTransfer {
            request: Box::new(SeenRequest { payload: payload.into(), name: trimmed(name).into(), asked: options(rest)? }),
            octet: mode.eq_ignore_ascii_case(b"octet"),
            port: None,
            versions: Versions::Unknown,
            blksize: 512,
            windowsize: 1,
            unsettled: false,
            acked: 0,
            sent: 0,
            last: None,
            waits: Some(now),
            heard: now,
            fresh: true,
        })
    }

    fn know(&mut self, version: Option<Version>) {
        if let Some(version) = version {
            self.versions.add(version);
        }
    }
}

/// Firmware puts slashes before names and 0xff behind them.
fn trimmed(mut name: &[u8]) -> &[u8] {
    while let Some(rest) = name.strip_prefix(b"/").or_else(|| name.strip_suffix(&[0xff])) {
        name = rest;
    }
    name
}

impl Transfers {
    pub fn new(ports: (u16, u16)) -> Transfers {
        Transfers { running: Running { ports, by_client: Table::default() }, contents: Contents::default() }
    }

    pub fn arrives(&mut self, findings: &mut Findings, now: Instant, frame: &UdpFrame<'_>, file: impl Fn(&[u8]) -> Option<Version>) {
        if frame.dst.port() == 69 {
            return self.request(now, frame, file);
        }
        let client = frame.src;
        let Some(transfer) = self.running.by_client.get_mut(key(client)).filter(|transfer| transfer.port == Some(frame.dst.port())) else {
            return;
        };
        match *frame.payload {
            // A request that is under way begins anew; the transfer before it has ended.
            [0, 5, ..] if !transfer.fresh => drop(self.running.by_client.remove(key(client))),
            [0, 4, high, low] => {
                let block = u16::from_be_bytes([high, low]);
                let ahead = u64::from(block.wrapping_sub(transfer.acked as u16));
                let settles = transfer.unsettled && block == 0;
                transfer.unsettled &= !settles;
                if transfer.acked + ahead > transfer.sent || (ahead == 0 && !settles) {
                    return;
                }
                (transfer.heard, transfer.acked) = (now, transfer.acked + ahead);
                transfer.waits = Some(now);
                if transfer.last == Some(transfer.acked) {
                    findings.transfers += 1;
                    self.running.by_client.remove(key(client));
                }
            }
            _ => {}
        }
    }

    fn request(&mut self, now: Instant, frame: &UdpFrame<'_>, file: impl Fn(&[u8]) -> Option<Version>) {
        let Some(mut transfer) = SeenTransfer::new(now, frame.payload) else { return };
        transfer.know(file(&transfer.request.name));
        match self.running.by_client.get_mut(key(frame.src)) {
            // Repeated before it got anywhere, or a copy that the network kept back: the same transfer, unless the server has ended it and
            // takes another port.
            Some(old) if old.request.payload == transfer.request.payload && (old.acked == 0 || now.since(old.heard) < COPY) => {
                // No copy: a client that begins anew from the same port, as one does whose power was gone.
                if old.acked == 0 && now.since(old.heard) >= COPY {
                    (old.sent, old.last, old.unsettled) = (0, None, false);
                }
                old.fresh = true;
                old.waits.get_or_insert(now);
                old.know(file(&transfer.request.name));
            }
            _ => self.running.by_client.insert(key(frame.src), transfer),
        }
    }

    /// `given`: whether the address that the packet goes to was ever given.
    pub fn leaves(
        &mut self,
        findings: &mut Findings,
        now: Instant,
        frame: &UdpFrame<'_>,
        given: impl Fn() -> bool,
        file: impl Fn(&[u8]) -> Option<Version>,
    ) {
        let (client, opcode) = (frame.dst, frame.payload.get(..2));
        if opcode == Some(&[0, 5]) {
            return self.running.error(findings, now, frame, given);
        }
        let Some(transfer) = self.running.of(findings, now, (frame.src, client), given, file) else { return };
        let said = match (opcode, frame.payload.get(2..)) {
            (Some(&[0, 6]), Some(body)) => transfer.oack(body),
            (Some(&[0, 3]), Some([high, low, data @ ..])) => {
                let contents = &mut self.contents;
                let holds = |version: Version, offset| contents.matches(version, offset, data);
                transfer.data(u16::from_be_bytes([*high, *low]), data.len() as u64, holds)
            }
            _ => Err("a TFTP packet that a server does not send".into()),
        };
        transfer.tell(findings, now, client, said);
    }

    /// Likewise, of a block whose bytes follow from its place.
    pub fn block_leaves(
        &mut self,
        findings: &mut Findings,
        now: Instant,
        block: &Block,
        given: impl Fn() -> bool,
        file: impl Fn(&[u8]) -> Option<Version>,
    ) {
        let Some(transfer) = self.running.of(findings, now, (block.from, block.to), given, file) else { return };
        let holds = |version: Version, offset: u64| version == block.version && offset == block.offset;
        let said = transfer.data(block.block, block.len as u64, holds);
        transfer.tell(findings, now, block.to, said);
    }
}

impl Running {
    fn error(&mut self, findings: &mut Findings, now: Instant, frame: &UdpFrame<'_>, given: impl Fn() -> bool) {
        let (client, port) = (frame.dst, frame.src.port());
        if !given() {
            findings.violate(now, format_args!("a TFTP packet to {}, which was never given", client.ip()));
        }
        let text = frame.payload.get(4..).unwrap_or(&[]);
        if text.last() != Some(&0) || text.iter().filter(|&&byte| byte == 0).count() != 1 {
            findings.violate(now, format_args!("an ERROR without its NUL to {client}"));
        }
        if self.by_client.get(key(client)).is_some_and(|transfer| transfer.port == Some(port) || transfer.fresh) {
            self.by_client.remove(key(client));
        }
    }

    /// The transfer that a packet from the server is of.
    fn of(
        &mut self,
        findings: &mut Findings,
        now: Instant,
        (from, client): (SocketAddrV4, SocketAddrV4),
        given: impl Fn() -> bool,
        file: impl Fn(&[u8]) -> Option<Version>,
    ) -> Option<&mut SeenTransfer> {
        let port = from.port();
        let inside = (self.ports.0..=self.ports.1).contains(&port);
        let transfer = self.by_client.get_mut(key(client));
        // Once is enough for a transfer that runs.
        if transfer.as_ref().is_none_or(|transfer| transfer.fresh) && !given() {
            findings.violate(now, format_args!("a TFTP packet to {}, which was never given", client.ip()));
        }
        let wrong = match &transfer {
            _ if !inside => Some(format!("a TFTP packet from port {port} to {client}")),
            None => Some(format!("a TFTP packet to {client}, which has no transfer")),
            Some(transfer) if transfer.port != Some(port) && !transfer.fresh => {
                Some(format!("a transfer to {client} moved to port {port}"))
            }
            Some(_) => None,
        };
        if let Some(what) = wrong {
            findings.violate(now, format_args!("{what}"));
            return None;
        }
        let transfer = transfer?;
        if transfer.port != Some(port) {
            let version = file(&transfer.request.name);
            transfer.know(version);
            (transfer.port, transfer.acked, transfer.sent, transfer.last, transfer.unsettled) = (Some(port), 0, 0, None, false);
        }
        transfer.fresh = false;
        if let Some(waits) = transfer.waits.take() {
            let silence = now.since(waits);
            if silence > findings.silence {
                (findings.silence, findings.silent_to) = (silence, Some((client, now)));
            }
        }
        Some(transfer)
    }
}

impl SeenTransfer {
    fn tell(&self, findings: &mut Findings, now: Instant, client: SocketAddrV4, said: Result<(), String>) {
        if let Err(what) = said {
            let name = String::from_utf8_lossy(&self.request.name).into_owned();
            findings.violate(now, format_args!("{what}, to {client} ({name})"));
        }
    }

    fn oack(&mut self, body: &[u8]) -> Result<(), String> {
        if self.acked > 0 || self.sent > 0 {
            return Err("an OACK after DATA".into());
        }
        let granted = strings(body).filter(|strings| strings.len() % 2 == 0).and_then(|strings| options(&strings));
        let granted = granted.ok_or("an OACK that cannot be read")?;
        if granted.is_empty() {
            return Err("an OACK of nothing".into());
        }
        for (name, value) in &granted {
            let shown = String::from_utf8_lossy(name);
            let Some((_, asked)) = self.request.asked.iter().find(|(asked, _)| asked == name) else {
                return Err(format!("an OACK of {shown}, which was not asked for"));
            };
            match name.as_slice() {
                b"blksize" if (8..=*asked).contains(value) => self.blksize = *value as u16,
                b"windowsize" if (1..=*asked).contains(value) => self.windowsize = *value as u16,
                b"timeout" if value == asked => {}
                b"tsize" if self.versions.narrow(|version| version.size == *value) => {}
                b"tsize" => return Err(format!("an OACK of tsize {value}, which the file is not")),
                _ => return Err(format!("an OACK of {shown} {value} where {asked} was asked")),
            }
        }
        self.unsettled = true;
        Ok(())
    }

    /// A block of `len` bytes; `holds`: whether its bytes are what stands at an offset of a version.
    fn data(&mut self, block: u16, len: u64, mut holds: impl FnMut(Version, u64) -> bool) -> Result<(), String> {
        if self.unsettled {
            return Err("DATA before the OACK was acknowledged".into());
        }
        let ahead = block.wrapping_sub(self.acked as u16);
        if !(1..=self.windowsize).contains(&ahead) {
            return Err(format!("DATA {block} where {} was acknowledged and the window is {}", self.acked, self.windowsize));
        }
        let (number, blksize) = (self.acked + u64::from(ahead), u64::from(self.blksize));
        self.sent = self.sent.max(number);
        if len > blksize || self.last.is_some_and(|last| number > last || (number == last) != (len < blksize)) {
            return Err(format!("DATA {number} of {len} bytes, blksize {blksize}, last block {:?}", self.last));
        }
        if len < blksize {
            self.last = Some(number);
        }
        if !self.octet {
            return Ok(());
        }
        let offset = (number - 1) * blksize;
        let right = |version: Version| len == version.size.saturating_sub(offset).min(blksize) && holds(version, offset);
        if self.versions.narrow(right) { Ok(()) } else { Err(format!("DATA {number} is not what the file holds at {offset}")) }
    }
}
