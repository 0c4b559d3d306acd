//! The checkers find what they are for: each law is broken once.

use super::*;
use crate::sim::config::{HEAD, HEAD_MAC, config};
use crate::wire::dhcp::{Header, MessageBuilder, code};
use crate::wire::tftp::{self, Mode, TftpOptions};

const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 54, 240, 7);
const CLIENT: SocketAddrV4 = SocketAddrV4::new(ADDRESS, 2070);

fn checks() -> Checks {
    Checks::new(&config([]))
}

fn to(mac: Mac, ip: Ipv4Addr, port: u16, payload: &[u8]) -> UdpFrame<'_> {
    let src = SocketAddrV4::new(HEAD, if port == 68 { 67 } else { 20_070 });
    UdpFrame { src_mac: HEAD_MAC, dst_mac: mac, src, dst: SocketAddrV4::new(ip, port), payload }
}

fn from(port: u16, payload: &[u8]) -> UdpFrame<'_> {
    UdpFrame { src_mac: A, dst_mac: HEAD_MAC, src: CLIENT, dst: SocketAddrV4::new(HEAD, port), payload }
}

fn message(mac: Mac, kind: MessageType, yiaddr: Ipv4Addr, server: Ipv4Addr, lease: u32) -> Vec<u8> {
    let mut buf = [0; 600];
    let mut chaddr = [0; 16];
    chaddr[..6].copy_from_slice(&mac.0);
    let op = if matches!(kind, MessageType::Discover | MessageType::Release) { 1 } else { 2 };
    let ciaddr = if op == 1 { ADDRESS } else { Ipv4Addr::UNSPECIFIED };
    let mut builder = MessageBuilder::new(&mut buf, &Header { op, xid: 5, yiaddr, ciaddr, chaddr, ..Header::default() }, 548).unwrap();
    builder.message_type(kind);
    builder.ip(code::SERVER_ID, server);
    if lease > 0 {
        builder.u32(code::LEASE_TIME, lease);
    }
    let len = builder.finish(None);
    buf[..len].to_vec()
}

/// What is said of a reply to `frame_mac` that gives `yiaddr` to machine B, while A has 10.54.240.7 for ten seconds.
fn said(kind: MessageType, yiaddr: Ipv4Addr, server: Ipv4Addr, frame_mac: Mac, ip: Ipv4Addr, seconds: u64) -> String {
    let mut checks = checks();
    for mac in [A, B] {
        checks.arrives(Instant::ZERO, &from(67, &message(mac, MessageType::Discover, Ipv4Addr::UNSPECIFIED, HEAD, 0)), |_| None);
    }
    checks.leaves(Instant::ZERO, &to(A, ADDRESS, 68, &message(A, MessageType::Ack, ADDRESS, HEAD, 10)), |_| None);
    assert_eq!(checks.findings.violations, []);
    let lease = if kind == MessageType::Nak { 0 } else { 10 };
    let reply = message(B, kind, yiaddr, server, lease);
    checks.leaves(Instant::from_millis(seconds * 1000), &to(frame_mac, ip, 68, &reply), |_| None);
    checks.findings.violations.iter().map(|violation| violation.text.as_str()).collect::<Vec<_>>().join("; ")
}

#[test]
fn leases() {
    use MessageType::*;
    let other = Ipv4Addr::new(10, 54, 240, 8);
    let everybody = (Mac::BROADCAST, Ipv4Addr::BROADCAST);
    assert_eq!(said(Ack, other, HEAD, B, other, 1), "");
    assert!(said(Ack, ADDRESS, HEAD, B, ADDRESS, 9).contains("02:00:00:00:00:01 has it until 10.000 s"));
    assert!(said(Offer, ADDRESS, HEAD, B, ADDRESS, 9).contains("has it until"));
    assert_eq!(said(Ack, ADDRESS, HEAD, B, ADDRESS, 10), "", "the lease has ended");
    assert!(said(Ack, other, other, B, other, 1).contains("server identifier"));
    assert!(said(Ack, other, HEAD, A, other, 1).contains("in a frame to"));
    assert!(said(Ack, other, HEAD, B, Ipv4Addr::BROADCAST, 1).contains("in a frame to"));
    assert!(said(Ack, HEAD, HEAD, everybody.0, everybody.1, 1).contains("not to be given"));
    assert!(said(Offer, [10, 55, 0, 1].into(), HEAD, B, [10, 55, 0, 1].into(), 1).contains("no served network"));
    assert_eq!(said(Nak, Ipv4Addr::UNSPECIFIED, HEAD, everybody.0, everybody.1, 1), "");
    assert!(said(Nak, other, HEAD, everybody.0, everybody.1, 1).contains("a NAK"));
}

#[test]
fn a_released_address_may_be_given_again() {
    let mut checks = checks();
    for mac in [A, B] {
        checks.arrives(Instant::ZERO, &from(67, &message(mac, MessageType::Discover, Ipv4Addr::UNSPECIFIED, HEAD, 0)), |_| None);
    }
    let give = |checks: &mut Checks, mac| {
        checks.leaves(Instant::ZERO, &to(mac, ADDRESS, 68, &message(mac, MessageType::Ack, ADDRESS, HEAD, 10)), |_| None);
    };
    give(&mut checks, A);
    checks.arrives(Instant::ZERO, &from(67, &message(A, MessageType::Release, Ipv4Addr::UNSPECIFIED, HEAD, 0)), |_| None);
    give(&mut checks, B);
    assert_eq!((checks.findings.count, checks.findings.leases), (0, 2));
    checks.leaves(Instant::ZERO, &to(B, ADDRESS, 68, b"nonsense"), |_| None);
    assert!(checks.findings.violations[0].text.contains("cannot be read"));
}

const FILE: Version = Version::new(3, 5000);

/// A request for 1,000-byte blocks in windows of 2; then what the server sends, `Err` being what arrives from the client.
fn transfer(packets: &[Result<&[u8], &[u8]>]) -> String {
    let mut checks = checks();
    checks.addresses.entry(key(ADDRESS)).given = true;
    let mut buf = [0; 100];
    let options = TftpOptions { blksize: Some(1000), windowsize: Some(2), ..TftpOptions::default() };
    let len = tftp::emit_rrq(&mut buf, b"/f\xff", Mode::Octet, &options).unwrap();
    let file = |name: &[u8]| (name == b"f").then_some(FILE);
    checks.arrives(Instant::ZERO, &from(69, &buf[..len]), file);
    for packet in packets {
        match packet {
            Ok(sent) => checks.leaves(Instant::from_millis(700), &to(A, ADDRESS, 2070, sent), file),
            Err(heard) => checks.arrives(Instant::from_millis(700), &from(20_070, heard), file),
        }
    }
    assert_eq!(checks.findings.silence, Duration::from_millis(700));
    checks.findings.violations.iter().map(|violation| violation.text.as_str()).collect::<Vec<_>>().join("; ")
}

fn data(block: u16, offset: u64, len: usize) -> Vec<u8> {
    let mut packet = vec![0; 4 + len];
    packet[..4].copy_from_slice(&[0, 3, 0, block as u8]);
    FILE.fill(offset, &mut packet[4..]);
    packet
}

const OACK: &[u8] = b"\0\x06blksize\x001000\0windowsize\x002\0";
const ACK_0: &[u8] = &[0, 4, 0, 0];

#[test]
fn transfers() {
    let [one, two, three] = [1, 2, 3].map(|block| data(block, u64::from(block - 1) * 1000, 1000));
    let [one, two, three] = [&one[..], &two[..], &three[..]];
    assert_eq!(transfer(&[Ok(OACK), Err(ACK_0), Ok(one), Ok(two), Err(&[0, 4, 0, 2]), Ok(three)]), "");
    assert!(transfer(&[Ok(OACK), Ok(one)]).contains("before the OACK"));
    assert!(transfer(&[Ok(OACK), Err(ACK_0), Ok(one), Ok(two), Ok(three)]).contains("the window is 2"));
    assert!(transfer(&[Ok(OACK), Err(ACK_0), Ok(&data(1, 8, 1000))]).contains("not what the file holds"));
    assert!(transfer(&[Ok(OACK), Err(ACK_0), Ok(&data(1, 0, 900))]).contains("not what the file holds"), "too short");
    assert!(transfer(&[Ok(OACK), Err(ACK_0), Ok(&data(1, 0, 1001))]).contains("blksize 1000"));
    assert!(transfer(&[Ok(b"\0\x06blksize\x001400\0")]).contains("1400 where 1000 was asked"));
    assert!(transfer(&[Ok(b"\0\x06tsize\x005000\0")]).contains("not asked for"));
    assert!(transfer(&[Ok(b"\0\x06blksize\0")]).contains("cannot be read"));
    assert!(transfer(&[Ok(&[0, 4, 0, 0])]).contains("does not send"));
    assert!(transfer(&[Ok(OACK), Err(&[0, 5, 0, 0, 0]), Ok(OACK)]).contains("has no transfer"));
}

#[test]
fn files_go_only_to_addresses_that_were_given() {
    let mut checks = checks();
    let mut buf = [0; 100];
    let len = tftp::emit_rrq(&mut buf, b"f", Mode::Octet, &TftpOptions::default()).unwrap();
    checks.arrives(Instant::ZERO, &from(69, &buf[..len]), |_| Some(FILE));
    checks.leaves(Instant::ZERO, &to(A, ADDRESS, 2070, &data(1, 0, 512)), |_| Some(FILE));
    let texts: Vec<&str> = checks.findings.violations.iter().map(|violation| violation.text.as_str()).collect();
    assert_eq!(texts, ["a TFTP packet to 10.54.240.7, which was never given"]);
}

/// A frame of a machine's DHCP, as the link carries it.
fn carried(mac: Mac, kind: MessageType, xid: u32) -> Vec<u8> {
    let mut bytes = vec![0; 700];
    let mut body = message(mac, kind, ADDRESS, HEAD, 10);
    body[4..8].copy_from_slice(&xid.to_be_bytes());
    let (src, dst) = (SocketAddrV4::new(HEAD, 67), SocketAddrV4::new(ADDRESS, 68));
    let len = crate::wire::ether::emit_udp(&mut bytes, HEAD_MAC, mac, src, dst, 1, &body).unwrap();
    bytes.truncate(len);
    bytes
}

#[test]
fn what_the_link_loses_of_a_lease_is_counted_by_tries() {
    let mut checks = checks();
    let mut lose = |millis, kind, xid| {
        checks.lost(Instant::from_millis(millis), &carried(A, kind, xid));
        let Unheard { xid, discovers, requests, .. } = checks.unheard(A);
        (xid, discovers, requests)
    };
    assert_eq!(lose(1000, MessageType::Request, 1), (1, 0, 1));
    assert_eq!(lose(1000, MessageType::Ack, 1), (1, 0, 1), "the link gave the REQUEST twice, and lost both answers: one try");
    assert_eq!(lose(4000, MessageType::Ack, 1), (1, 0, 2));
    assert_eq!(lose(7000, MessageType::Discover, 1), (1, 1, 0), "another round");
    assert_eq!(lose(8000, MessageType::Offer, 2), (2, 1, 0), "another transaction");
    assert_eq!(checks.unheard(B), Unheard::default());
}
