//! What a client asks for: everything that one message says of its sender, worked out once. Pure.

use crate::base::addr::Mac;
use crate::base::machine::{Datagram, Link};
use crate::config::Config;
use crate::engine::dhcp::Counter;
use crate::roll::client::{Arrival, ClientId, Identity};
use crate::roll::kind::{Arch, FirmwareKind};
use crate::wire::dhcp::{Message, MessageType, code, user_class_is};

use super::suspect;

/// A message of a client, and where it came from.
pub struct ClientRequest<'a> {
    pub message: &'a Message<'a>,
    /// As it came: a message that has to wait is kept whole.
    link: Link,
    pub datagram: Datagram<'a>,
    pub identity: Identity,
    pub arch: Option<Arch>,
    pub kind: FirmwareKind,
    /// The place of the client's network in the config.
    pub network: usize,
    /// By which way it came.
    pub way: Arrival,
    /// The client itself sent it to this server alone.
    pub unicast: bool,
    /// It has waited already.
    pub held: bool,
}

impl<'a> ClientRequest<'a> {
    /// The error is the reason for which the message is dropped.
    pub fn read(
        config: &Config,
        message: &'a Message<'a>,
        (link, datagram): (Link, Datagram<'a>),
        held: bool,
    ) -> Result<ClientRequest<'a>, Counter> {
        if message.header.op != 1 {
            return Err(Counter::DhcpNotARequest);
        }
        let identity = identity(message).ok_or(Counter::DhcpNoIdentity)?;
        if config.links.iter().any(|link| identity == Identity::Mac(link.mac)) {
            return Err(Counter::DhcpOwn);
        }
        let network = network_of(config, link, message).ok_or(Counter::DhcpNoNetwork)?;
        let (arch, kind) = firmware(message);
        let on_link = config.networks.get(network).is_some_and(|network| network.link.is_some());
        let way = suspect::way(message, &identity, datagram.mac, on_link);
        // What a relay sends comes to us alone, whatever its client did.
        let unicast = message.header.giaddr.is_unspecified() && config.is_own(*datagram.dst.ip());
        Ok(ClientRequest { message, link, datagram, identity, arch, kind, network, way, unicast, held })
    }

    pub fn link(&self) -> Link {
        self.link
    }

    /// Whether it takes an offer, and says nothing of who does: the one who was offered it.
    pub fn is_brief_choice(&self) -> bool {
        let message = self.message;
        self.message_type() == Some(MessageType::Request)
            && message.server_id().is_some()
            && message.vendor_class().is_none()
            && message.user_class().is_none()
    }

    /// None: BOOTP.
    pub fn message_type(&self) -> Option<MessageType> {
        self.message.message_type()
    }
}

/// The network that a message speaks of: its relay's, its sender's own after a routed renewal, its link's.
fn network_of(config: &Config, link: Link, message: &Message<'_>) -> Option<usize> {
    let header = &message.header;
    if !header.giaddr.is_unspecified() {
        return config.network_of(header.giaddr);
    }
    let routed = config.networks.iter().position(|n| n.link.is_none() && n.subnet.contains(header.ciaddr));
    let own = || config.networks.iter().position(|network| network.link == Some(link));
    routed.filter(|_| !header.ciaddr.is_unspecified()).or_else(own)
}

/// IP over InfiniBand (RFC 4390): no hardware address in the message.
const HTYPE_INFINIBAND: u8 = 32;
/// Ethernet, and IEEE 802 networks, whose addresses are the same (RFC 1700).
const HTYPES_MAC: [u8; 2] = [1, 6];

/// The MAC names a machine, whatever client-id its firmware and its systems send; on IPoIB the client-id does.
fn identity(message: &Message<'_>) -> Option<Identity> {
    let header = &message.header;
    if header.hlen == 0 || header.htype == HTYPE_INFINIBAND {
        return message.client_id().filter(|id| id.len() >= 2).map(|id| Identity::ClientId(ClientId::new(id)));
    }
    let &[a, b, c, d, e, f, ..] = &header.chaddr;
    let mac = Mac([a, b, c, d, e, f]);
    (HTYPES_MAC.contains(&header.htype) && header.hlen == 6 && mac.is_individual()).then_some(Identity::Mac(mac))
}

/// MAC prefixes of Raspberry Pi boards: a Pi 3 says that it is a BIOS.
const RASPBERRY_PI: [[u8; 3]; 7] = [
    [0xb8, 0x27, 0xeb],
    [0xdc, 0xa6, 0x32],
    [0xe4, 0x5f, 0x01],
    [0xd8, 0x3a, 0xdd],
    [0x2c, 0xcf, 0x67],
    [0x28, 0xcd, 0xc1],
    [0x88, 0xa2, 0x9e],
];
/// iPXE, what it was before, and what xCAT calls it: they run a script.
const SCRIPTED: [&[u8]; 3] = [b"iPXE", b"gPXE", b"xNBA"];

/// The architecture and the kind of a client. Firmware of an architecture that is not known here has none, and gets no program: that of another
/// one would hang it.
fn firmware(message: &Message<'_>) -> (Option<Arch>, FirmwareKind) {
    let class = message.vendor_class().unwrap_or(&[]);
    let (listed, classed) = (message.architectures(), class_architecture(class));
    let names_one = listed.is_some() || classed.is_some();
    let arch = listed.map_or_else(|| classed.and_then(Arch::from_code), |mut codes| codes.find_map(Arch::from_code));
    // Only who names none is a PC of the old kind.
    let or_bios = || arch.or((!names_one).then_some(Arch::Bios));
    if message.user_class().is_some_and(|raw| SCRIPTED.iter().any(|name| user_class_is(raw, name))) {
        return (or_bios(), FirmwareKind::Ipxe);
    }
    if message.message_type().is_none() {
        return (or_bios(), FirmwareKind::Rom);
    }
    if class.starts_with(b"U-Boot") {
        return (arch, FirmwareKind::UBoot);
    }
    if !is_firmware(message, class, arch) {
        return (arch, FirmwareKind::Other);
    }
    match or_bios() {
        Some(Arch::RaspberryPi) => (arch, FirmwareKind::RaspberryPi),
        Some(Arch::Bios) if is_raspberry_pi(message) => (Some(Arch::RaspberryPi), FirmwareKind::RaspberryPi),
        Some(Arch::Bios) => (Some(Arch::Bios), FirmwareKind::Rom),
        arch => (arch, FirmwareKind::Edk2),
    }
}

/// Whether firmware asks: it says so, or it tells its architecture and asks for a program.
fn is_firmware(message: &Message<'_>, class: &[u8], arch: Option<Arch>) -> bool {
    let asks =
        message.parameter_request_list().is_some_and(|list| [code::BOOTFILE, code::TFTP_SERVER].iter().any(|code| list.contains(code)));
    [&b"PXE"[..], b"HTTPClient"].iter().any(|name| class.starts_with(name)) || (arch.is_some() && asks)
}

/// By its MAC, or by the text that it has for a UUID.
fn is_raspberry_pi(message: &Message<'_>) -> bool {
    let prefix = [message.header.chaddr[0], message.header.chaddr[1], message.header.chaddr[2]];
    RASPBERRY_PI.contains(&prefix) || message.machine_uuid().is_some_and(|uuid| uuid.get(1..).unwrap_or(&[]).starts_with(b"RPi"))
}

/// The architecture in `PXEClient:Arch:00007:UNDI:003016`, for firmware that leaves option 93 out.
fn class_architecture(class: &[u8]) -> Option<u16> {
    let digits = class.strip_prefix(b"PXEClient:Arch:").or_else(|| class.strip_prefix(b"HTTPClient:Arch:"))?.get(..5)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
