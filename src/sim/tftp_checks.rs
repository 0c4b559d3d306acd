//! The TFTP side of the [checks](super::checks): one transfer at a time for each client socket.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use crate::base::time::Instant;
use crate::wire::ether::UdpFrame;

use super::checks::Findings;
use super::disk::Version;

/// A transfer, as an onlooker sees it.
struct Transfer {
    request: Vec<u8>,
    name: Vec<u8>,
    octet: bool,
    /// Options as they were asked for: lower-case name and value.
    asked: Vec<(Vec<u8>, u64)>,
    /// The server's port, once it has answered.
    port: Option<u16>,
    /// Versions of the file that it may be, by the time of the request and of the first answer. None: a file that the disk does not have.
    versions: Option<Vec<Version>>,
    blksize: u64,
    windowsize: u64,
    /// An OACK was sent and its ACK has not arrived.
    unsettled: bool,
    acked: u64,
    sent: u64,
    /// The number of the last block, once it was sent.
    last: Option<u64>,
    /// When the client asked for what has not come.
    waits: Option<Instant>,
    /// A request arrived to which nothing has been sent.
    fresh: bool,
}

pub struct Transfers {
    ports: (u16, u16),
    by_client: BTreeMap<SocketAddrV4, Transfer>,
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

impl Transfer {
    fn new(now: Instant, payload: &[u8]) -> Option<Transfer> {
        let strings = strings(payload.strip_prefix(&[0, 1])?)?;
        let (&[name, mode], rest) = strings.split_first_chunk()?;
        Some(Transfer {
            request: payload.into(),
            name: trimmed(name).into(),
            octet: mode.eq_ignore_ascii_case(b"octet"),
            asked: options(rest)?,
            port: None,
            versions: None,
            blksize: 512,
            windowsize: 1,
            unsettled: false,
            acked: 0,
            sent: 0,
            last: None,
            waits: Some(now),
            fresh: true,
        })
    }

    fn know(&mut self, version: Option<Version>) {
        let Some(version) = version else { return };
        let versions = self.versions.get_or_insert_default();
        if !versions.contains(&version) {
            versions.push(version);
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
        Transfers { ports, by_client: BTreeMap::new() }
    }

    pub fn arrives(&mut self, findings: &mut Findings, now: Instant, frame: &UdpFrame<'_>, file: impl Fn(&[u8]) -> Option<Version>) {
        if frame.dst.port() == 69 {
            return self.request(now, frame, file);
        }
        let client = frame.src;
        let Some(transfer) = self.by_client.get_mut(&client).filter(|transfer| transfer.port == Some(frame.dst.port())) else { return };
        match *frame.payload {
            // A request that is under way begins anew; the transfer before it has ended.
            [0, 5, ..] if !transfer.fresh => drop(self.by_client.remove(&client)),
            [0, 4, high, low] => {
                let block = u16::from_be_bytes([high, low]);
                let ahead = u64::from(block.wrapping_sub(transfer.acked as u16));
                let settles = transfer.unsettled && block == 0;
                transfer.unsettled &= !settles;
                if transfer.acked + ahead > transfer.sent || (ahead == 0 && !settles) {
                    return;
                }
                transfer.acked += ahead;
                transfer.waits = Some(now);
                if transfer.last == Some(transfer.acked) {
                    findings.transfers += 1;
                    self.by_client.remove(&client);
                }
            }
            _ => {}
        }
    }

    fn request(&mut self, now: Instant, frame: &UdpFrame<'_>, file: impl Fn(&[u8]) -> Option<Version>) {
        let Some(mut transfer) = Transfer::new(now, frame.payload) else { return };
        transfer.know(file(&transfer.name));
        match self.by_client.get_mut(&frame.src) {
            // Repeated before it got anywhere: the same transfer, unless the server has ended it and takes another port.
            Some(old) if old.request == transfer.request && old.acked == 0 => {
                old.fresh = true;
                old.waits.get_or_insert(now);
                old.know(file(&transfer.name));
            }
            _ => drop(self.by_client.insert(frame.src, transfer)),
        }
    }

    pub fn leaves(&mut self, findings: &mut Findings, now: Instant, frame: &UdpFrame<'_>, file: impl Fn(&[u8]) -> Option<Version>) {
        let (client, port) = (frame.dst, frame.src.port());
        let opcode = frame.payload.get(..2);
        if opcode == Some(&[0, 5]) {
            let text = frame.payload.get(4..).unwrap_or(&[]);
            if text.last() != Some(&0) || text.iter().filter(|&&byte| byte == 0).count() != 1 {
                findings.violate(now, format_args!("an ERROR without its NUL to {client}"));
            }
            let ends = |transfer: &&Transfer| transfer.port == Some(port) || transfer.fresh;
            if self.by_client.get(&client).filter(ends).is_some() {
                self.by_client.remove(&client);
            }
            return;
        }
        if !(self.ports.0..=self.ports.1).contains(&port) {
            return findings.violate(now, format_args!("a TFTP packet from port {port} to {client}"));
        }
        let Some(transfer) = self.by_client.get_mut(&client) else {
            return findings.violate(now, format_args!("a TFTP packet to {client}, which has no transfer"));
        };
        if transfer.port != Some(port) {
            if !transfer.fresh {
                return findings.violate(now, format_args!("a transfer to {client} moved to port {port}"));
            }
            transfer.know(file(&transfer.name));
            (transfer.port, transfer.acked, transfer.sent, transfer.last, transfer.unsettled) = (Some(port), 0, 0, None, false);
        }
        transfer.fresh = false;
        if let Some(waits) = transfer.waits.take() {
            let silence = now.since(waits);
            if silence > findings.silence {
                (findings.silence, findings.silent_to) = (silence, Some((client, now)));
            }
        }
        let found = match (opcode, frame.payload.get(2..)) {
            (Some(&[0, 6]), Some(body)) => transfer.oack(body),
            (Some(&[0, 3]), Some([high, low, data @ ..])) => transfer.data(u16::from_be_bytes([*high, *low]), data),
            _ => Err("a TFTP packet that a server does not send".into()),
        };
        if let Err(what) = found {
            let name = String::from_utf8_lossy(&transfer.name).into_owned();
            findings.violate(now, format_args!("{what}, to {client} ({name})"));
        }
    }
}

impl Transfer {
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
            let Some((_, asked)) = self.asked.iter().find(|(asked, _)| asked == name) else {
                return Err(format!("an OACK of {shown}, which was not asked for"));
            };
            match name.as_slice() {
                b"blksize" if (8..=*asked).contains(value) => self.blksize = *value,
                b"windowsize" if (1..=*asked).contains(value) => self.windowsize = *value,
                b"timeout" if value == asked => {}
                b"tsize" => {
                    if let Some(versions) = &mut self.versions {
                        versions.retain(|version| version.size == *value);
                        if versions.is_empty() {
                            return Err(format!("an OACK of tsize {value}, which the file is not"));
                        }
                    }
                }
                _ => return Err(format!("an OACK of {shown} {value} where {asked} was asked")),
            }
        }
        self.unsettled = true;
        Ok(())
    }

    fn data(&mut self, block: u16, data: &[u8]) -> Result<(), String> {
        if self.unsettled {
            return Err("DATA before the OACK was acknowledged".into());
        }
        let ahead = u64::from(block.wrapping_sub(self.acked as u16));
        if !(1..=self.windowsize).contains(&ahead) {
            return Err(format!("DATA {block} where {} was acknowledged and the window is {}", self.acked, self.windowsize));
        }
        let (number, len) = (self.acked + ahead, data.len() as u64);
        self.sent = self.sent.max(number);
        if len > self.blksize || self.last.is_some_and(|last| number > last || (number == last) != (len < self.blksize)) {
            return Err(format!("DATA {number} of {len} bytes, blksize {}, last block {:?}", self.blksize, self.last));
        }
        if len < self.blksize {
            self.last = Some(number);
        }
        let Some(versions) = self.versions.as_mut().filter(|_| self.octet) else { return Ok(()) };
        let (offset, blksize) = ((number - 1) * self.blksize, self.blksize);
        versions.retain(|version| version.matches(offset, data) && len == version.size.saturating_sub(offset).min(blksize));
        if versions.is_empty() { Err(format!("DATA {number} is not what the file holds at {offset}")) } else { Ok(()) }
    }
}
