//! Replies: which options a client is given, and where the datagram goes (RFC 2131, 4.1 and 4.3.1; RFC 4578; RFC 6842; RFC 3046).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::base::limits;
use crate::base::outbox::Via;
use crate::base::slab::Key;
use crate::config::{Config, LinkConfig, Network};
use crate::engine::dhcp::Counter;
use crate::engine::{Ctx, boot};
use crate::roll::client::{Client, Identity};
use crate::roll::kind::FirmwareKind;
use crate::roll::plan::{NamesFile, Number};
use crate::wire::dhcp::{Header, MessageBuilder, MessageType, SubOptions, code};

use super::addresses::number_for;
use super::request::ClientRequest;

/// Ports of RFC 2131.
pub const SERVER_PORT: u16 = 67;
/// The port of clients, on which servers send (RFC 2131, 4.1).
pub const CLIENT_PORT: u16 = 68;

/// Ethernet, IPv4 and UDP headers: what a reply may not use of a frame.
const HEADERS: usize = 14 + 20 + 8;
/// RFC 2132, 9.10: every client takes this much, IP and UDP headers included.
const MESSAGE_MIN: u16 = 576;

/// T1 and T2 of a machine whose number is held back, in seconds: T1 is up to twice as long.
const EARLY_RENEWAL: u32 = 5;
const EARLY_REBINDING: u32 = 30;

/// A set of option codes.
#[derive(Clone, Copy, Default)]
struct Codes([u128; 2]);

impl Codes {
    fn has(self, code: u8) -> bool {
        let [low, high] = self.0;
        (if code < 128 { low } else { high }) >> (code % 128) & 1 == 1
    }

    /// False when it was there already.
    fn add(&mut self, code: u8) -> bool {
        let new = !self.has(code);
        let [low, high] = &mut self.0;
        *(if code < 128 { low } else { high }) |= 1 << (code % 128);
        new
    }
}

impl FromIterator<u8> for Codes {
    fn from_iter<T: IntoIterator<Item = u8>>(codes: T) -> Codes {
        let mut all = Codes::default();
        for code in codes {
            all.add(code);
        }
        all
    }
}

/// Everything a reply is made from.
pub struct DhcpReply<'a> {
    pub config: &'a Config,
    pub asked: &'a ClientRequest<'a>,
    /// None where there is no record: INFORM and NAK.
    pub client: Option<&'a Client>,
    /// Its number, or the one that it is offered.
    pub number: Option<Number>,
    /// None answers a BOOTP request.
    pub kind: Option<MessageType>,
    /// The address that the client gets.
    pub yiaddr: Option<Ipv4Addr>,
    pub lease: Option<Duration>,
}

impl DhcpReply<'_> {
    fn link(&self) -> Option<&LinkConfig> {
        self.config.links.get(usize::from(self.asked.link()))
    }

    /// The address that the client knows this server by: the one that it named or asked, if it is ours, else the link's.
    fn head(&self) -> Option<Ipv4Addr> {
        let named = self.asked.message.server_id().filter(|server| self.config.is_own(*server));
        let asked = *self.asked.datagram.dst.ip();
        named.or_else(|| self.link().map(|link| if link.has(asked) { asked } else { link.head }))
    }

    fn network(&self) -> Option<&Network> {
        self.config.networks.get(self.asked.network)
    }

    /// From where, to where, how.
    pub fn route(&self) -> (SocketAddrV4, SocketAddrV4, Via) {
        let header = &self.asked.message.header;
        let asked = *self.asked.datagram.dst.ip();
        let head = self.link().map_or(Ipv4Addr::UNSPECIFIED, |link| if link.has(asked) { asked } else { link.head });
        let nak = self.kind == Some(MessageType::Nak);
        let client = |ip| SocketAddrV4::new(ip, CLIENT_PORT);
        let everybody = (client(Ipv4Addr::BROADCAST), Via::Broadcast);
        let mac = match self.asked.identity {
            Identity::Mac(mac) => Some(mac),
            Identity::ClientId(_) => None,
        };
        // A client that is not on the link itself is reached as the kernel routes it.
        let on_link = |ip| self.network().is_some_and(|network| network.link.is_some() && network.subnet.contains(ip));
        let unicast = |ip| match mac {
            Some(mac) if on_link(ip) => (client(ip), Via::Mac(mac)),
            None if on_link(ip) => everybody,
            _ => (client(ip), Via::Kernel),
        };
        let (to, via) = match (header.giaddr.is_unspecified(), nak, header.ciaddr.is_unspecified(), self.yiaddr) {
            (false, ..) => (SocketAddrV4::new(header.giaddr, SERVER_PORT), Via::Kernel),
            (true, true, ..) => everybody,
            (true, false, false, _) => unicast(header.ciaddr),
            (true, false, true, Some(yiaddr)) if !header.broadcast() => unicast(yiaddr),
            (true, false, true, None) if !self.asked.datagram.src.ip().is_unspecified() => unicast(*self.asked.datagram.src.ip()),
            _ => everybody,
        };
        (SocketAddrV4::new(head, SERVER_PORT), to, via)
    }

    /// Writes the message; gives its length. None when it does not fit, which no message of ours should cause.
    pub fn write(&self, buf: &mut [u8]) -> Option<usize> {
        let asked = &self.asked.message.header;
        let nak = self.kind == Some(MessageType::Nak);
        let file = if nak { None } else { self.client.and_then(|client| boot::file(self.config, client)) };
        let http = self.http();
        let head = self.head()?;
        let header = Header {
            op: 2,
            hops: 0,
            secs: 0,
            // A NAK through a relay has to be broadcast there: the client's address is wrong (RFC 2131, 4.3.2).
            flags: if nak && !asked.giaddr.is_unspecified() { asked.flags | Header::BROADCAST } else { asked.flags },
            ciaddr: if self.kind == Some(MessageType::Offer) || nak { Ipv4Addr::UNSPECIFIED } else { asked.ciaddr },
            yiaddr: self.yiaddr.unwrap_or(Ipv4Addr::UNSPECIFIED),
            // Installers, and kernels with their root on NFS, take it for their server. Firmware takes it for a promise of a program.
            siaddr: match (nak || http, file.is_some() || self.asked.kind == FirmwareKind::Other) {
                (false, true) => head,
                _ => Ipv4Addr::UNSPECIFIED,
            },
            ..*asked
        };
        let told = self.asked.message.max_message_size().unwrap_or(MESSAGE_MIN).max(MESSAGE_MIN);
        let relayed = self.asked.message.relay_agent_info().map_or(0, |info| info.len() + 2 * (info.len() / 255 + 1));
        let limit = (usize::from(told) - 28).min((limits::WRITE_MAX - HEADERS).saturating_sub(relayed));
        let mut builder = MessageBuilder::new(buf, &header, limit)?;
        if let Some(file) = file.filter(|_| !http) {
            builder.file(file.as_bytes());
        }
        if let Some(kind) = self.kind {
            builder.message_type(kind);
            builder.ip(code::SERVER_ID, head);
        }
        if nak {
            builder.option(code::MESSAGE, b"this address is not yours here: ask for another");
        } else {
            self.write_options(&mut builder, head, file);
        }
        if let Some(id) = self.asked.message.client_id() {
            builder.option(code::CLIENT_ID, id);
        }
        if !nak && self.wants_names() {
            self.write_names(&mut builder);
        }
        Some(builder.finish(self.asked.message.relay_agent_info()))
    }

    fn http(&self) -> bool {
        self.client.and_then(|client| client.evidence.arch()).is_some_and(|arch| arch.is_http())
    }

    fn write_options(&self, builder: &mut MessageBuilder<'_>, head: Ipv4Addr, file: Option<&str>) {
        let Some(network) = self.network() else { return };
        let number = self.number;
        if let Some(lease) = self.lease {
            builder.u32(code::LEASE_TIME, lease.as_secs().try_into().unwrap_or(u32::MAX));
        }
        // The operator's own option takes the place of what we would say; what was said is not said again.
        let own: Codes = boot::options(self.config, network, number).map(|(code, _)| code).collect();
        self.write_firmware_options(builder, file, own);
        let firmware = self.asked.kind != FirmwareKind::Other;
        let asked = self.asked.message.parameter_request_list();
        let always: &[u8] = match asked {
            None => &[code::SUBNET_MASK, code::ROUTER, code::DNS, code::HOST_NAME, code::DOMAIN, code::BROADCAST, code::NTP],
            Some(_) if firmware => &[code::SUBNET_MASK, code::ROUTER],
            Some(_) => &[code::SUBNET_MASK],
        };
        let mut done = own;
        self.write_early_renewal(builder, &mut done);
        for &option in always.iter().chain(asked.unwrap_or(&[])) {
            if done.add(option) {
                self.write_option(builder, option, network, head, file);
            }
        }
        for (option, bytes) in boot::options(self.config, network, number) {
            if option == code::VENDOR_SPECIFIC && self.is_pxe() && file.is_some() {
                self.write_own_vendor_specific(builder, bytes);
            } else {
                builder.option(option, bytes);
            }
        }
    }

    /// The operator's option 43, for access points perhaps: UEFI takes no offer whose option 43 does not tell it how to find a server.
    fn write_own_vendor_specific(&self, builder: &mut MessageBuilder<'_>, own: &[u8]) {
        let [tag, ..] = DISCOVERY_OFF;
        let mut joined = [0; DISCOVERY_LEN + u8::MAX as usize];
        let (before, behind) = joined.split_at_mut(DISCOVERY_LEN);
        before.copy_from_slice(&DISCOVERY_OFF[..DISCOVERY_LEN]);
        match behind.get_mut(..own.len()).filter(|_| !SubOptions(own).any(|(code, _)| code == tag)) {
            Some(room) => {
                room.copy_from_slice(own);
                builder.option(code::VENDOR_SPECIFIC, joined.get(..DISCOVERY_LEN + own.len()).unwrap_or(own));
            }
            None => drop(builder.option(code::VENDOR_SPECIFIC, own)),
        }
    }

    /// Whether firmware asks that waits for PXE's options.
    fn is_pxe(&self) -> bool {
        let firmware = matches!(self.asked.kind, FirmwareKind::Rom | FirmwareKind::Edk2 | FirmwareKind::RaspberryPi);
        match self.asked.message.vendor_class() {
            Some(class) => class.starts_with(b"PXEClient"),
            None => firmware && self.asked.message_type().is_some(),
        }
    }

    /// A machine whose number is held back asks again soon: each in another second.
    fn write_early_renewal(&self, builder: &mut MessageBuilder<'_>, done: &mut Codes) {
        let Some(client) =
            self.client.filter(|client| client.prospect.is_delayed() && self.kind == Some(MessageType::Ack) && self.lease.is_some())
        else {
            return;
        };
        let mut tell = |option, seconds| {
            if done.add(option) {
                builder.u32(option, seconds);
            }
        };
        tell(code::RENEWAL_TIME, EARLY_RENEWAL + client.mac().to_u64() as u32 % EARLY_RENEWAL);
        tell(code::REBINDING_TIME, EARLY_REBINDING);
    }

    fn write_option(&self, builder: &mut MessageBuilder<'_>, option: u8, network: &Network, head: Ipv4Addr, file: Option<&str>) {
        let seconds = |part: Duration| u32::try_from(part.as_secs()).unwrap_or(u32::MAX);
        match option {
            code::SUBNET_MASK => drop(builder.ip(option, network.subnet.mask())),
            code::BROADCAST => drop(builder.ip(option, network.subnet.broadcast())),
            code::ROUTER => drop(builder.ips(option, &network.routers)),
            code::DNS => drop(builder.ips(option, &network.dns)),
            code::NTP => drop(builder.ips(option, &network.ntp)),
            code::DOMAIN => drop(network.domain.as_ref().map(|domain| builder.option(option, domain.as_bytes()))),
            code::HOST_NAME => self.write_host_name(builder),
            code::MTU => drop(self.link().filter(|_| network.link.is_some()).map(|link| {
                let mtu = u16::try_from(network.mtu(link.mtu)).unwrap_or(u16::MAX);
                builder.option(option, &mtu.to_be_bytes())
            })),
            code::RENEWAL_TIME => drop(self.lease.map(|lease| builder.u32(option, seconds(lease / 2)))),
            code::REBINDING_TIME => drop(self.lease.map(|lease| builder.u32(option, seconds(lease * 7 / 8)))),
            code::TFTP_SERVER => drop(file.filter(|_| !self.http()).map(|_| write_text(builder, option, format_args!("{head}")))),
            code::BOOTFILE if !self.http() => drop(file.map(|file| write_text(builder, option, format_args!("{file}\0")))),
            _ => {}
        }
    }

    /// Only a machine that reports gets the plan: others ask for site-specific options that mean something else (252 to a PC is a proxy's URL).
    fn wants_names(&self) -> bool {
        let (message, report) = (self.asked.message, self.config.dhcp.report_option);
        let asks = message.parameter_request_list().is_some_and(|codes| codes.contains(&(report + 1)));
        let number = self.number;
        let own = |network| boot::options(self.config, network, number).any(|(code, _)| code == report + 1);
        asks && message.option(report).is_some() && !self.network().is_some_and(own)
    }

    /// The plan, last of all: where it does not fit it is left out, and nothing else is (`musterd` says so at start).
    fn write_names(&self, builder: &mut MessageBuilder<'_>) {
        let file = NamesFile { plan: self.config.plan, head: self.link().map(|link| link.head), this: None };
        let mut text = [0; NamesFile::TOLD_MAX];
        let mut rest = &mut text[..];
        let wrote = std::io::Write::write_fmt(&mut rest, format_args!("{file}"));
        let left = rest.len();
        if let (Ok(()), Some(text)) = (wrote, text.get(..NamesFile::TOLD_MAX - left)) {
            builder.option(self.config.dhcp.report_option + 1, text);
        }
    }

    fn write_host_name(&self, builder: &mut MessageBuilder<'_>) {
        if let Some(number) = self.number {
            write_text(builder, code::HOST_NAME, format_args!("{}", self.config.plan.names().of(number)));
        }
    }

    /// What PXE and its descendants need so that they wait for nobody else (RFC 4578; doc/firmware.md, "What each client needs in DHCP").
    fn write_firmware_options(&self, builder: &mut MessageBuilder<'_>, file: Option<&str>, own: Codes) {
        if self.http() {
            if let Some(uri) = file {
                builder.option(code::VENDOR_CLASS, b"HTTPClient");
                builder.option(code::BOOTFILE, uri.as_bytes());
            }
            return;
        }
        if self.asked.kind == FirmwareKind::Ipxe && !own.has(code::ETHERBOOT) {
            builder.option(code::ETHERBOOT, &NO_PXEDHCP);
        }
        if !self.is_pxe() || file.is_none() {
            return;
        }
        if !own.has(code::VENDOR_CLASS) {
            builder.option(code::VENDOR_CLASS, b"PXEClient");
        }
        if !own.has(code::VENDOR_SPECIFIC) {
            builder.option(code::VENDOR_SPECIFIC, if self.asked.kind == FirmwareKind::RaspberryPi { RASPBERRY_PI } else { &DISCOVERY_OFF });
        }
        if let Some(uuid) = self.asked.message.machine_uuid() {
            builder.option(code::MACHINE_UUID, uuid);
        }
    }
}

/// PXE_DISCOVERY_CONTROL 8: no discovery, no menu, load the file that is named (PXE 2.1, table 2-1).
const DISCOVERY_OFF: [u8; 4] = [6, 1, 8, 255];
/// Without the end of option 43.
const DISCOVERY_LEN: usize = 3;
/// iPXE's no-pxedhcp (175.176) = 1.
const NO_PXEDHCP: [u8; 3] = [176, 1, 1];
/// The menu that a Raspberry Pi looks for: discovery control, prompt, and the item "Raspberry Pi Boot".
const RASPBERRY_PI: &[u8] = b"\x06\x01\x03\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff";

/// Writes a short text as an option.
fn write_text(builder: &mut MessageBuilder<'_>, option: u8, text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let mut buf = [0u8; 255];
    let mut rest = &mut buf[..];
    if write!(rest, "{text}").is_ok() {
        let len = 255 - rest.len();
        builder.option(option, &buf[..len]);
    }
}
/// What a reply is reckoned at, in bytes on the wire.
const REPLY_BYTES: u64 = 400;

/// Sends a reply of `kind` (None: BOOTP).
pub(super) fn send(
    ctx: &mut Ctx<'_>,
    asked: &ClientRequest<'_>,
    key: Option<Key<Client>>,
    kind: Option<MessageType>,
    yiaddr: Option<Ipv4Addr>,
    lease: Option<Duration>,
) {
    let client = key.and_then(|key| ctx.roll.get(key));
    let number = key.and_then(|key| number_for(ctx, key, yiaddr));
    let reply = DhcpReply { config: ctx.config, asked, client, number, kind, yiaddr, lease };
    let (from, to, via) = reply.route();
    if !to.ip().is_broadcast() && !ctx.config.networks.iter().any(|network| network.subnet.contains(*to.ip())) {
        return ctx.stats.count(Counter::DhcpOutside);
    }
    ctx.pace.lane(asked.link()).bottleneck.sent(ctx.now, REPLY_BYTES, 1, false);
    if !ctx.out.datagram(ctx.endpoints.udp(asked.link(), SERVER_PORT), from, to, via, |buf| reply.write(buf)) {
        ctx.stats.count(Counter::DhcpTooLong);
    }
}
