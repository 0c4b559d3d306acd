//! Frames of the boot interfaces: UDP over IPv4, ARP, and the IPv6 router solicitation. Headers and checksums by `etherparse`.
//!
//! Parsing law: a frame is parsed as far as its own lengths say; Ethernet padding behind them is ignored. Fragments are refused: nobody
//! who boots sends any.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacketSlice, EtherType, Ethernet2Header, Ethernet2Slice, Icmpv6Slice, IpNumber, Ipv4Header, Ipv4Slice,
    Ipv6FlowLabel, Ipv6Header, Ipv6Slice, UdpHeader, UdpSlice, checksum::Sum16BitWords, ether_type, ip_number,
};

use crate::base::addr::Mac;

/// Bytes of an Ethernet frame without its check sequence.
const FRAME_MIN: usize = 60;
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
const IPV6: usize = 40;
/// All routers on the link, all nodes on the link (RFC 4291, 2.7.1).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What a frame can be that somebody here wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// An IPv4 UDP datagram.
    Udp(UdpFrame<'a>),
    /// An ARP packet for IPv4.
    Arp(Arp),
    /// An IPv6 router solicitation.
    RouterSolicit(RouterSolicit),
}

/// A UDP datagram and the addresses of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpFrame<'a> {
    /// The frame's source.
    pub src_mac: Mac,
    /// The frame's destination.
    pub dst_mac: Mac,
    /// The sender's address and port.
    pub src: SocketAddrV4,
    /// The address and port that it was sent to.
    pub dst: SocketAddrV4,
    /// What UDP carries.
    pub payload: &'a [u8],
}

/// What an ARP packet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpOp {
    /// It asks who has the target address.
    Request,
    /// It answers, or announces.
    Reply,
}

/// ARP for IPv4 over Ethernet (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Question or answer.
    pub operation: ArpOp,
    /// The sender's hardware address.
    pub sender_mac: Mac,
    /// The sender's IP address; unspecified in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// The target's hardware address; zero in a question.
    pub target_mac: Mac,
    /// The IP address in question.
    pub target_ip: Ipv4Addr,
}

/// RFC 4861, 4.1. The source may be unspecified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterSolicit {
    /// The frame's source.
    pub src_mac: Mac,
    /// The sender's link-local address, or unspecified.
    pub src: Ipv6Addr,
}

/// What to make of UDP checksums: frames of a local virtual peer carry none that is filled in, and the kernel vouches for them
/// (TP_STATUS_CSUMNOTREADY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Compute the UDP checksum and compare it.
    Verify,
    /// Believe the kernel, which checked it or has not filled it in yet.
    Trusted,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a frame is not taken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FrameError { $(#[doc = $text] $(#[$doc])* $name,)* }

        impl FrameError {
            /// All reasons.
            pub const ALL: &'static [FrameError] = &[$(FrameError::$name,)*];

            /// The name of the reason's counter.
            pub const fn name(self) -> &'static str {
                match self { $(FrameError::$name => $text,)* }
            }
        }
    };
}

reasons! {
    Ethernet = "frame dropped: too short",
    /// A group address cannot send.
    Source = "frame dropped: group address as its source",
    Ipv4 = "frame dropped: IPv4 header",
    Ipv4Checksum = "frame dropped: IPv4 checksum",
    Fragment = "frame dropped: fragment",
    Udp = "frame dropped: UDP length",
    UdpChecksum = "frame dropped: UDP checksum",
    Arp = "frame dropped: ARP",
    /// Its sender is not the frame's.
    ArpSender = "frame dropped: ARP in another's name",
    Ipv6 = "frame dropped: IPv6",
    /// Another protocol.
    Other = "frame dropped: not for us",
}

/// Reads an Ethernet frame.
pub fn parse(frame: &[u8], checksum: Checksum) -> Result<Frame<'_>, FrameError> {
    let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).map_err(|_| FrameError::Ethernet)?;
    let (src_mac, dst_mac) = (Mac(ethernet.source()), Mac(ethernet.destination()));
    if src_mac.is_group() {
        return Err(FrameError::Source);
    }
    let payload = ethernet.payload_slice();
    match ethernet.ether_type() {
        ether_type::IPV4 => parse_ipv4(payload, src_mac, dst_mac, checksum),
        ether_type::ARP => parse_arp(payload, src_mac),
        ether_type::IPV6 => parse_ipv6(payload, src_mac),
        _ => Err(FrameError::Other),
    }
}

/// Reads what a cooked socket gives (IPoIB): a packet from its IPv4 header on.
pub fn parse_ip(packet: &[u8], src_mac: Mac, checksum: Checksum) -> Result<Frame<'_>, FrameError> {
    parse_ipv4(packet, src_mac, Mac::ZERO, checksum)
}

fn parse_ipv4(packet: &[u8], src_mac: Mac, dst_mac: Mac, checksum: Checksum) -> Result<Frame<'_>, FrameError> {
    let ip = Ipv4Slice::from_slice(packet).map_err(|_| FrameError::Ipv4)?;
    if ip.is_payload_fragmented() {
        return Err(FrameError::Fragment);
    }
    if ip.payload_ip_number() != ip_number::UDP {
        return Err(FrameError::Other);
    }
    let header = ip.header();
    if Sum16BitWords::new().add_slice(header.slice()).ones_complement() != 0 {
        return Err(FrameError::Ipv4Checksum);
    }
    let udp = UdpSlice::from_slice(ip.payload().payload).map_err(|_| FrameError::Udp)?;
    if checksum == Checksum::Verify && udp.checksum() != 0 {
        let computed = udp.to_header().calc_checksum_ipv4_raw(header.source(), header.destination(), udp.payload());
        if computed != Ok(udp.checksum()) {
            return Err(FrameError::UdpChecksum);
        }
    }
    Ok(Frame::Udp(UdpFrame {
        src_mac,
        dst_mac,
        src: SocketAddrV4::new(header.source_addr(), udp.source_port()),
        dst: SocketAddrV4::new(header.destination_addr(), udp.destination_port()),
        payload: udp.payload(),
    }))
}

/// What a packet says of a MAC counts only in a frame of that MAC.
fn parse_arp(payload: &[u8], src_mac: Mac) -> Result<Frame<'static>, FrameError> {
    let slice = ArpPacketSlice::from_slice(payload).map_err(|_| FrameError::Arp)?;
    let sizes = slice.hw_addr_type() == ArpHardwareId::ETHERNET && slice.hw_addr_size() == 6 && slice.proto_addr_size() == 4;
    let operation = match slice.operation() {
        ArpOperation::REQUEST => ArpOp::Request,
        ArpOperation::REPLY => ArpOp::Reply,
        _ => return Err(FrameError::Arp),
    };
    let mac = |bytes: &[u8]| bytes.try_into().map(Mac).map_err(|_| FrameError::Arp);
    let ip = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map(Ipv4Addr::from).map_err(|_| FrameError::Arp);
    if !sizes || slice.proto_addr_type() != EtherType::IPV4 {
        return Err(FrameError::Arp);
    }
    let arp = Arp {
        operation,
        sender_mac: mac(slice.sender_hw_addr())?,
        sender_ip: ip(slice.sender_protocol_addr())?,
        target_mac: mac(slice.target_hw_addr())?,
        target_ip: ip(slice.target_protocol_addr())?,
    };
    if arp.sender_mac == src_mac { Ok(Frame::Arp(arp)) } else { Err(FrameError::ArpSender) }
}

/// A router solicitation: hop limit 255 proves that it came from this link (RFC 4861, 6.1.1).
fn parse_ipv6(packet: &[u8], src_mac: Mac) -> Result<Frame<'static>, FrameError> {
    let ip = Ipv6Slice::from_slice(packet).map_err(|_| FrameError::Ipv6)?;
    let header = ip.header();
    if ip.payload().ip_number != ip_number::IPV6_ICMP {
        return Err(FrameError::Other);
    }
    let icmp = Icmpv6Slice::from_slice(ip.payload().payload).map_err(|_| FrameError::Ipv6)?;
    if icmp.type_u8() != ROUTER_SOLICITATION {
        return Err(FrameError::Other);
    }
    let sound = header.hop_limit() == 255 && icmp.code_u8() == 0 && icmp.is_checksum_valid(header.source(), header.destination());
    if sound { Ok(Frame::RouterSolicit(RouterSolicit { src_mac, src: header.source_addr() })) } else { Err(FrameError::Ipv6) }
}

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;

fn put(buf: &mut [u8], at: usize, bytes: &[u8]) -> Option<usize> {
    buf.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
    Some(at + bytes.len())
}

fn put_ethernet(buf: &mut [u8], source: Mac, destination: Mac, ether_type: EtherType) -> Option<usize> {
    put(buf, 0, &Ethernet2Header { source: source.0, destination: destination.0, ether_type }.to_bytes())
}

/// Ethernet pads short frames with zeros.
fn pad(buf: &mut [u8], len: usize) -> Option<usize> {
    if len < FRAME_MIN {
        buf.get_mut(len..FRAME_MIN)?.fill(0);
    }
    Some(len.max(FRAME_MIN))
}

/// Writes a whole frame around a payload; gives its length, None when it does not fit.
pub fn emit_udp(
    buf: &mut [u8],
    src_mac: Mac,
    dst_mac: Mac,
    src: SocketAddrV4,
    dst: SocketAddrV4,
    ident: u16,
    payload: &[u8],
) -> Option<usize> {
    let at = put_ethernet(buf, src_mac, dst_mac, EtherType::IPV4)?;
    let len = emit_ip_udp(buf.get_mut(at..)?, src, dst, ident, payload)?;
    pad(buf, at + len)
}

/// The same without the Ethernet header. TTL 64, may be fragmented by nobody because it is never larger than the MTU.
pub fn emit_ip_udp(buf: &mut [u8], src: SocketAddrV4, dst: SocketAddrV4, ident: u16, payload: &[u8]) -> Option<usize> {
    let len = u16::try_from(UDP + payload.len()).ok()?;
    let mut ip = Ipv4Header::new(len, 64, IpNumber::UDP, src.ip().octets(), dst.ip().octets()).ok()?;
    ip.identification = ident;
    ip.dont_fragment = false;
    ip.header_checksum = ip.calc_header_checksum();
    let udp = UdpHeader::with_ipv4_checksum(src.port(), dst.port(), &ip, payload).ok()?;
    let at = put(buf, 0, &ip.to_bytes())?;
    debug_assert_eq!(at, IPV4);
    let at = put(buf, at, &udp.to_bytes())?;
    put(buf, at, payload)
}

/// Writes an ARP packet: a request to everybody, a reply to its target.
pub fn emit_arp(buf: &mut [u8], arp: &Arp) -> Option<usize> {
    let (operation, destination) = match arp.operation {
        ArpOp::Request => (1, Mac::BROADCAST),
        ArpOp::Reply => (2, arp.target_mac),
    };
    let mut at = put_ethernet(buf, arp.sender_mac, destination, EtherType::ARP)?;
    at = put(buf, at, &[0, 1, 8, 0, 6, 4, 0, operation])?;
    at = put(buf, at, &arp.sender_mac.0)?;
    at = put(buf, at, &arp.sender_ip.octets())?;
    at = put(buf, at, &arp.target_mac.0)?;
    at = put(buf, at, &arp.target_ip.octets())?;
    pad(buf, at)
}

/// Writes an advertisement that there is no router (lifetime 0, no prefix) in a frame to the asker alone. Its IPv6 destination is the
/// asker's address, or all nodes when it has none yet (RFC 4861, 6.2.6).
pub fn emit_router_advert(buf: &mut [u8], src_mac: Mac, source: Ipv6Addr, to: &RouterSolicit) -> Option<usize> {
    let destination = if to.src.is_unspecified() { ALL_NODES } else { to.src };
    // Hop limit 0 (unspecified), no flags, lifetime 0, timers unspecified; source link-layer address option.
    let mut body = [ROUTER_ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0];
    body[18..].copy_from_slice(&src_mac.0);
    emit_icmpv6(buf, src_mac, to.src_mac, source, destination, &mut body)
}

/// Writes a router solicitation, as firmware sends it.
pub fn emit_router_solicit(buf: &mut [u8], src_mac: Mac, source: Ipv6Addr) -> Option<usize> {
    let all_routers = Mac([0x33, 0x33, 0, 0, 0, 2]);
    emit_icmpv6(buf, src_mac, all_routers, source, ALL_ROUTERS, &mut [ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0])
}

fn emit_icmpv6(buf: &mut [u8], src_mac: Mac, dst_mac: Mac, source: Ipv6Addr, destination: Ipv6Addr, body: &mut [u8]) -> Option<usize> {
    let len = u16::try_from(body.len()).ok()?;
    let pseudo = Sum16BitWords::new().add_slice(&source.octets()).add_slice(&destination.octets());
    let sum = pseudo.add_slice(&[0, 0, (len >> 8) as u8, len as u8, 0, 0, 0, 58]).add_slice(body).ones_complement();
    body.get_mut(2..4)?.copy_from_slice(&sum.to_ne_bytes());
    let header = Ipv6Header {
        traffic_class: 0,
        flow_label: Ipv6FlowLabel::ZERO,
        payload_length: len,
        next_header: IpNumber::IPV6_ICMP,
        hop_limit: 255,
        source: source.octets(),
        destination: destination.octets(),
    };
    let at = put_ethernet(buf, src_mac, dst_mac, EtherType::IPV6)?;
    let at = put(buf, at, &header.to_bytes())?;
    debug_assert_eq!(at, ETHERNET + IPV6);
    put(buf, at, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const SRC: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 67);
    const DST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 68);

    fn udp(payload: &[u8]) -> Vec<u8> {
        let mut buf = [0; 1514];
        let len = emit_udp(&mut buf, A, B, SRC, DST, 7, payload).unwrap();
        buf[..len].to_vec()
    }

    #[test]
    fn golden_udp_frame() {
        let frame = udp(b"hello");
        let expected = [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
            0x45, 0, 0, 33, 0, 7, 0, 0, 64, 17, 0x66, 0xc3, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
            0, 67, 0, 68, 0, 13, 0xa7, 0x78, b'h', b'e', b'l', b'l', b'o',
        ];
        assert_eq!(frame[..47], expected);
        assert_eq!(frame.len(), FRAME_MIN);
        let parsed = UdpFrame { src_mac: A, dst_mac: B, src: SRC, dst: DST, payload: b"hello" };
        assert_eq!(parse(&frame, Checksum::Verify), Ok(Frame::Udp(parsed)));
        assert!(parse_ip(&frame[14..], Mac::ZERO, Checksum::Verify).is_ok());
    }

    #[test]
    fn bad_frames_have_reasons() {
        let why = |at: usize, value: u8, checksum| {
            let mut frame = udp(b"hello");
            frame[at] = value;
            parse(&frame, checksum).err()
        };
        assert_eq!(why(6, 1, Checksum::Verify), Some(FrameError::Source));
        assert_eq!(why(12, 9, Checksum::Verify), Some(FrameError::Other));
        assert_eq!(why(14, 0x55, Checksum::Verify), Some(FrameError::Ipv4));
        assert_eq!(why(19, 8, Checksum::Verify), Some(FrameError::Ipv4Checksum));
        assert_eq!(why(20, 0x20, Checksum::Verify), Some(FrameError::Fragment));
        assert_eq!(why(46, b'x', Checksum::Verify), Some(FrameError::UdpChecksum));
        assert_eq!(why(46, b'x', Checksum::Trusted), None);
        assert_eq!(why(39, 200, Checksum::Trusted), Some(FrameError::Udp));
        assert_eq!(parse(&[0; 13], Checksum::Verify), Err(FrameError::Ethernet));
    }

    #[test]
    fn arp_both_ways() {
        let mut buf = [9; 64];
        let arp = Arp { operation: ArpOp::Request, sender_mac: A, sender_ip: *SRC.ip(), target_mac: Mac::ZERO, target_ip: *DST.ip() };
        for (arp, to) in [(arp, Mac::BROADCAST), (Arp { operation: ArpOp::Reply, target_mac: B, ..arp }, B)] {
            let len = emit_arp(&mut buf, &arp).unwrap();
            assert_eq!((len, &buf[..6]), (FRAME_MIN, &to.0[..]));
            assert_eq!(parse(&buf[..len], Checksum::Verify), Ok(Frame::Arp(arp)));
        }
        assert_eq!(emit_arp(&mut buf[..50], &arp), None);
    }

    #[test]
    fn router_solicitations_and_their_answer() {
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        for src in [link_local, Ipv6Addr::UNSPECIFIED] {
            let mut buf = [0; 100];
            let len = emit_router_solicit(&mut buf, B, src).unwrap();
            let solicit = RouterSolicit { src_mac: B, src };
            assert_eq!(parse(&buf[..len], Checksum::Verify), Ok(Frame::RouterSolicit(solicit)));
            buf[21] = 64;
            assert_eq!(parse(&buf[..len], Checksum::Verify), Err(FrameError::Ipv6), "hop limit");

            let len = emit_router_advert(&mut buf, A, link_local, &solicit).unwrap();
            let ip = Ipv6Slice::from_slice(&buf[14..len]).unwrap();
            let icmp = Icmpv6Slice::from_slice(ip.payload().payload).unwrap();
            assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
            assert_eq!((icmp.type_u8(), &icmp.slice()[6..8], ip.header().hop_limit()), (134, &[0, 0][..], 255));
            assert_eq!(ip.header().destination_addr(), if src.is_unspecified() { ALL_NODES } else { src });
            assert_eq!(buf[..6], B.0);
        }
    }

    proptest! {
        #[test]
        fn any_frame_is_survived(mut frame in proptest::collection::vec(any::<u8>(), 0..200), kind in 0usize..4, trusted in any::<bool>()) {
            if frame.len() > 60 {
                frame[12..14].copy_from_slice(&[[8, 0], [8, 6], [0x86, 0xdd], [1, 1]][kind]);
                frame[14] = [0x45, 0, 0x60, 0][kind];
            }
            let checksum = if trusted { Checksum::Trusted } else { Checksum::Verify };
            let _ = (parse(&frame, checksum), parse_ip(&frame, A, checksum));
        }

        #[test]
        fn payloads_survive(payload in proptest::collection::vec(any::<u8>(), 0..1472), cut in 0usize..40) {
            let frame = udp(&payload);
            match parse(&frame, Checksum::Verify) {
                Ok(Frame::Udp(udp)) => prop_assert_eq!(udp.payload, &payload[..]),
                other => prop_assert!(false, "{:?}", other),
            }
            prop_assert!(parse(&frame[..cut.min(frame.len())], Checksum::Verify).is_err());
        }
    }
}
