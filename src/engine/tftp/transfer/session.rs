//! Who loads, and what it has asked for. All of it is fixed when the request is admitted, but for the options, which are settled when the
//! file is known, and for the MAC of a router that gives its place to another.

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::limits::FILE_NAME_MAX;
use crate::base::machine::{Datagram, Link};
use crate::base::slab::Key;
use crate::base::time::Instant;
use crate::engine::tftp::policy::{self, Policy};
use crate::engine::tftp::rows::KeptTransfer;
use crate::roll::client::Client;
use crate::roll::kind::FirmwareKind;
use crate::wire::tftp::TftpOptions;

/// Bytes of a file name that the story tells: its end.
const TOLD_MAX: usize = 48;

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// The frame came from a MAC that is on record for the address: no other one may speak for it.
    Record,
    /// A machine on record, behind a router.
    Routed,
    /// Anybody else.
    Stranger,
}

/// What a request says.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub name: &'a [u8],
    pub options: TftpOptions,
    pub netascii: bool,
    /// A hash of it whole: a repeated one is answered again, a different one replaces the transfer.
    pub hash: u64,
}

/// The sender of a request, as far as the roll knows it.
#[derive(Clone, Copy)]
pub struct Asker {
    pub client: Option<Key<Client>>,
    pub origin: Requester,
    pub kind: FirmwareKind,
}

pub struct Session {
    link: Link,
    peer: SocketAddrV4,
    /// Where its packets come from: its own MAC, or its router's. None where the link does not show it.
    mac: Option<Mac>,
    /// The server's address and port, as the client knows them.
    server: SocketAddrV4,
    asker: Asker,
    request: u64,
    /// What was asked for; once the file is open, what is acknowledged.
    options: TftpOptions,
    began: Instant,
    name: [u8; FILE_NAME_MAX],
    name_len: u8,
}

fn kept_name(name: &[u8]) -> ([u8; FILE_NAME_MAX], u8) {
    let mut kept = [0; FILE_NAME_MAX];
    kept.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
    (kept, name.len().min(FILE_NAME_MAX) as u8)
}

impl Session {
    pub fn new(now: Instant, link: Link, server: SocketAddrV4, asker: Asker, datagram: &Datagram<'_>, asked: &Asked<'_>) -> Session {
        let (name, name_len) = kept_name(asked.name);
        Session {
            link,
            peer: datagram.src,
            mac: datagram.mac,
            server,
            asker,
            request: asked.hash,
            options: asked.options,
            began: now,
            name,
            name_len,
        }
    }

    /// As an earlier daemon has left it.
    pub fn taken_up(link: Link, client: Option<Key<Client>>, kept: &KeptTransfer<'_>) -> Session {
        let (name, name_len) = kept_name(kept.name);
        Session {
            link,
            peer: kept.peer,
            mac: kept.mac,
            server: kept.head,
            asker: Asker { client, origin: kept.origin, kind: kept.kind },
            request: kept.request,
            options: kept.options,
            began: kept.began,
            name,
            name_len,
        }
    }

    pub fn link(&self) -> Link {
        self.link
    }

    pub fn peer(&self) -> SocketAddrV4 {
        self.peer
    }

    pub fn mac(&self) -> Option<Mac> {
        self.mac
    }

    /// The server's address and port, as the client knows them.
    pub fn server(&self) -> SocketAddrV4 {
        self.server
    }

    /// The server's port.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    pub fn client(&self) -> Option<Key<Client>> {
        self.asker.client
    }

    pub fn origin(&self) -> Requester {
        self.asker.origin
    }

    pub fn is_strangers(&self) -> bool {
        self.asker.origin == Requester::Stranger
    }

    pub fn kind(&self) -> FirmwareKind {
        self.asker.kind
    }

    pub fn policy(&self) -> Policy {
        policy::of(self.asker.kind)
    }

    /// Between two sendings that its client has not asked for.
    pub fn interval(&self) -> Duration {
        self.options.timeout.map_or(self.policy().interval, |seconds| Duration::from_secs(seconds.into()))
    }

    /// Whether a request of this hash is the one that began it.
    pub fn is_of(&self, request: u64) -> bool {
        self.request == request
    }

    pub fn options(&self) -> &TftpOptions {
        &self.options
    }

    pub fn began(&self) -> Instant {
        self.began
    }

    /// The name that was asked for.
    pub fn path(&self) -> &[u8] {
        &self.name[..usize::from(self.name_len)]
    }

    /// Its end, as the log tells it.
    pub fn name(&self) -> &[u8] {
        let path = self.path();
        &path[path.len().saturating_sub(TOLD_MAX)..]
    }

    /// A hash of the request that began it.
    pub fn request(&self) -> u64 {
        self.request
    }

    /// The key of a transfer: client address, client port, server port, in 64 bits.
    pub fn key(peer: SocketAddrV4, port: u16) -> u64 {
        Session::peer_key(peer) << 16 | u64::from(port)
    }

    /// The key of a client's socket.
    pub fn peer_key(peer: SocketAddrV4) -> u64 {
        u64::from(u32::from(*peer.ip())) << 16 | u64::from(peer.port())
    }

    /// A packet that may speak for its client came from this MAC.
    pub(super) fn came_from(&mut self, mac: Option<Mac>) {
        self.mac = mac.or(self.mac);
    }

    /// These options are acknowledged.
    pub(super) fn settled(&mut self, options: TftpOptions) {
        self.options = options;
    }

    /// The window is no larger than this, if it was asked for.
    pub(super) fn narrowed(&mut self, windowsize: u16) {
        self.options.windowsize = self.options.windowsize.map(|_| windowsize);
    }
}
