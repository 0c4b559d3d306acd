use super::*;
use crate::fleet::firmware::Firmware;
use crate::wire::dhcp::{Scratch, parse};

const MAC: Mac = Mac([2, 0x4d, 0, 0, 0, 7]);
const SERVER: (Ipv4Addr, Mac) = (Ipv4Addr::new(10, 0, 0, 1), Mac([2, 0, 0, 0, 0, 1]));
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// A reply of the scripted server.
fn reply(client: &DhcpClient, kind: MessageType, options: &[(u8, &[u8])], file: &[u8]) -> Vec<u8> {
    let mut buf = [0; MESSAGE_MAX];
    let header = Header { op: 2, xid: client.xid(), yiaddr: ADDRESS, siaddr: SERVER.0, ..Header::default() };
    let mut builder = MessageBuilder::new(&mut buf, &header, MESSAGE_MAX).unwrap();
    builder.file(file);
    builder.message_type(kind);
    builder.ip(code::SERVER_ID, SERVER.0);
    builder.ip(code::SUBNET_MASK, Ipv4Addr::new(255, 255, 255, 0));
    builder.u32(code::LEASE_TIME, 1000);
    for &(option, bytes) in options {
        builder.option(option, bytes);
    }
    let len = builder.finish(None);
    buf[..len].to_vec()
}

fn hear(client: &mut DhcpClient, now: Instant, bytes: &[u8]) -> DhcpStep {
    let mut scratch = Scratch::default();
    client.receive(now, &parse(bytes, &mut scratch).unwrap(), SERVER)
}

fn started(firmware: Firmware) -> DhcpClient {
    let mut client = DhcpClient::new(&firmware.profile().dhcp);
    assert_eq!(client.start(at(0), 7).send, Some(MessageType::Discover));
    client
}

/// When it sends DISCOVER, in seconds, and when it gives up.
fn schedule(firmware: Firmware) -> (Vec<f64>, f64) {
    let mut client = DhcpClient::new(&firmware.profile().dhcp);
    let mut step = client.start(at(0), 7);
    let (mut sent, mut now) = (vec![0.0], at(0));
    loop {
        now = step.wake.unwrap_or(now);
        step = client.expire(now);
        let seconds = now.nanos() as f64 / 1e9;
        match step.end {
            Some(end) => return (sent, if end == Err(Cause::NoOffer) { seconds } else { -1.0 }),
            None => sent.push(seconds),
        }
    }
}

#[test]
fn schedules_of_discover() {
    assert_eq!(schedule(Firmware::Rom), (vec![0.0, 4.0, 12.0, 28.0], 60.0));
    assert_eq!(schedule(Firmware::Edk2), (vec![0.0, 4.0, 12.0, 28.0], 60.0));
    assert_eq!(schedule(Firmware::Ipxe), (vec![0.0, 1.0, 3.0, 7.0], 15.0));
    assert_eq!(schedule(Firmware::RaspberryPi), (vec![0.0, 4.0, 8.0, 12.0, 16.0], 20.0));
    assert_eq!(schedule(Firmware::Os), (vec![0.0, 3.0, 6.0], 9.0));
    assert_eq!(schedule(Firmware::UBoot).0[..5], [0.0, 0.25, 0.75, 1.75, 3.75]);
}

#[test]
fn a_rom_takes_the_first_offer_and_edk2_the_first_that_its_wait_brought() {
    for (firmware, at_once) in [(Firmware::Rom, true), (Firmware::Edk2, false), (Firmware::UBoot, true), (Firmware::Os, true)] {
        let mut client = started(firmware);
        let offer = reply(&client, MessageType::Offer, &[], b"pxelinux.0");
        let step = hear(&mut client, at(10), &offer);
        assert_eq!(step.send, at_once.then_some(MessageType::Request), "{firmware}");
        if !at_once {
            assert_eq!(step.wake, Some(at(4000)));
            assert_eq!(client.expire(at(4000)).send, Some(MessageType::Request));
        }
        let ack = reply(&client, MessageType::Ack, &[], b"");
        assert_eq!(hear(&mut client, at(4010), &ack).end, Some(Ok(())));
        assert_eq!(client.lease().unwrap().file.bytes(), b"pxelinux.0", "the offer's, when the ACK names none");
        assert!(client.lease().unwrap().is_local(SERVER.0));
        assert!(hear(&mut client, at(4020), &ack).ignored, "a second ACK");
    }
}

#[test]
fn ipxe_waits_for_a_proxy_unless_told_not_to() {
    let marks: [&[(u8, &[u8])]; 2] = [&[(code::VENDOR_CLASS, b"PXEClient")], &[(code::ETHERBOOT, &[176, 1, 1])]];
    for options in marks {
        let mut client = started(Firmware::Ipxe);
        let offer = reply(&client, MessageType::Offer, options, b"x");
        assert_eq!(hear(&mut client, at(10), &offer).send, Some(MessageType::Request));
    }
    let mut client = started(Firmware::Ipxe);
    let offer = reply(&client, MessageType::Offer, &[], b"x");
    assert_eq!(hear(&mut client, at(10), &offer), DhcpStep { wake: Some(at(1000)), ..DhcpStep::default() });
    assert_eq!(client.expire(at(1000)).send, Some(MessageType::Discover), "one second is not enough");
    assert_eq!(client.expire(at(3000)).send, Some(MessageType::Request));
}

#[test]
fn a_raspberry_pi_wants_its_menu() {
    let mut client = started(Firmware::RaspberryPi);
    let plain = reply(&client, MessageType::Offer, &[], b"x");
    assert!(hear(&mut client, at(10), &plain).ignored);
    let menu = reply(&client, MessageType::Offer, &[(code::VENDOR_SPECIFIC, b"\x09\x14\0\0\x11Raspberry Pi Boot\xff")], b"x");
    assert_eq!(hear(&mut client, at(20), &menu).send, Some(MessageType::Request));
}

/// RFC 2131, figure 5, cell for cell.
#[test]
fn the_table_of_meanings() {
    use MessageType::{Ack, Nak, Offer};
    let states = [
        DhcpState::Off,
        DhcpState::Selecting,
        DhcpState::Requesting,
        DhcpState::Rebooting,
        DhcpState::Bound,
        DhcpState::Renewing,
        DhcpState::Rebinding,
    ];
    let row = |kind, chosen| states.map(|state| meaning(state, Some(kind), chosen));
    use DhcpMeaning::{Denied, Given, Nothing, Offered};
    assert_eq!(row(Offer, true), [Nothing, Offered, Nothing, Nothing, Nothing, Nothing, Nothing]);
    assert_eq!(row(Ack, true), [Nothing, Nothing, Given, Given, Nothing, Given, Given]);
    assert_eq!(row(Ack, false), [Nothing, Nothing, Nothing, Given, Nothing, Given, Given], "not from the server it chose");
    assert_eq!(row(Nak, true), [Nothing, Nothing, Denied, Denied, Nothing, Denied, Denied]);
    assert_eq!(row(Nak, false), [Nothing, Nothing, Nothing, Denied, Nothing, Denied, Denied]);
}

#[test]
fn naks_begin_again_but_not_for_ever() {
    let mut client = started(Firmware::Os);
    for round in 1..=3 {
        let offer = reply(&client, MessageType::Offer, &[], b"");
        assert_eq!(hear(&mut client, at(round), &offer).send, Some(MessageType::Request));
        let nak = reply(&client, MessageType::Nak, &[], b"");
        let step = hear(&mut client, at(round), &nak);
        match round {
            3 => assert_eq!(step.end, Some(Err(Cause::Nak))),
            _ => assert_eq!((step.send, step.retry), (Some(MessageType::Discover), true)),
        }
    }
}

#[test]
fn a_request_without_an_answer_is_fatal() {
    let mut client = started(Firmware::Os);
    let offer = reply(&client, MessageType::Offer, &[], b"");
    hear(&mut client, at(0), &offer);
    assert_eq!(
        client.expire(at(3000)),
        DhcpStep { send: Some(MessageType::Request), wake: Some(at(6000)), retry: true, ..DhcpStep::default() }
    );
    client.expire(at(6000));
    assert_eq!(client.expire(at(9000)).end, Some(Err(Cause::NoAck)));
}

#[test]
fn an_os_renews_at_half_its_lease() {
    let mut client = started(Firmware::Os);
    let offer = reply(&client, MessageType::Offer, &[], b"");
    hear(&mut client, at(0), &offer);
    let ack = reply(&client, MessageType::Ack, &[], b"");
    assert_eq!(hear(&mut client, at(0), &ack).wake, Some(at(500_000)));
    let step = client.expire(at(500_000));
    assert_eq!((client.state(), step.send, step.wake), (DhcpState::Renewing, Some(MessageType::Request), Some(at(687_500))));
    let mut buf = [0; MESSAGE_MAX];
    let len = client.write(&mut buf, MessageType::Request, at(500_000), MAC).unwrap();
    let mut scratch = Scratch::default();
    let sent = parse(&buf[..len], &mut scratch).unwrap();
    assert_eq!((sent.header.ciaddr, sent.requested_ip(), sent.server_id()), (ADDRESS, None, None));
    assert_eq!(sent.client_id(), Some(&[1, 2, 0x4d, 0, 0, 0, 7][..]));
    let step = client.expire(at(875_000));
    assert_eq!((client.state(), step.wake), (DhcpState::Rebinding, Some(at(937_500))));
    assert_eq!(hear(&mut client.clone(), at(880_000), &ack).wake, Some(at(1_380_000)));
    assert_eq!(client.expire(at(1_000_000)).end, Some(Err(Cause::LeaseExpired)));
}

/// A client that holds the lease of an earlier life, after its first REQUEST.
fn rebooting(firmware: Firmware) -> DhcpClient {
    let mut client = started(firmware);
    let offer = reply(&client, MessageType::Offer, &[], b"");
    hear(&mut client, at(0), &offer);
    let ack = reply(&client, MessageType::Ack, &[], b"");
    hear(&mut client, at(0), &ack);
    let held = *client.lease().unwrap();
    assert_eq!(client.reboot(at(10_000), 8, held).send, Some(MessageType::Request));
    assert_eq!(client.state(), DhcpState::Rebooting);
    client
}

#[test]
fn a_reboot_asks_for_the_same_address_and_names_no_server() {
    let mut client = rebooting(Firmware::Os);
    let mut buf = [0; MESSAGE_MAX];
    let len = client.write(&mut buf, MessageType::Request, at(10_000), MAC).unwrap();
    let mut scratch = Scratch::default();
    let sent = parse(&buf[..len], &mut scratch).unwrap();
    assert_eq!((sent.header.ciaddr, sent.requested_ip(), sent.server_id()), (Ipv4Addr::UNSPECIFIED, Some(ADDRESS), None));
    let ack = reply(&client, MessageType::Ack, &[], b"");
    assert_eq!(hear(&mut client, at(10_001), &ack).end, Some(Ok(())));
    assert_eq!(client.state(), DhcpState::Bound);
}

#[test]
fn a_reboot_that_is_denied_or_not_answered_begins_from_nothing() {
    let mut denied = rebooting(Firmware::Os);
    let nak = reply(&denied, MessageType::Nak, &[], b"");
    assert_eq!(hear(&mut denied, at(10_001), &nak).send, Some(MessageType::Discover));
    let mut silent = rebooting(Firmware::Os);
    let sent = [13_000, 16_000, 19_000].map(|now| silent.expire(at(now)).send);
    assert_eq!(sent, [Some(MessageType::Request), Some(MessageType::Request), Some(MessageType::Discover)]);
    assert_eq!((denied.state(), silent.state(), silent.lease().is_none()), (DhcpState::Selecting, DhcpState::Selecting, true));
    assert_eq!([22_000, 25_000, 28_000].map(|now| silent.expire(at(now)).end).last(), Some(&Some(Err(Cause::NoOffer))));
}

#[test]
fn ipxe_tells_its_features() {
    for (firmware, has) in [(Firmware::Ipxe, true), (Firmware::Rom, false), (Firmware::Os, false)] {
        let client = started(firmware);
        let mut buf = [0; MESSAGE_MAX];
        let len = client.write(&mut buf, MessageType::Discover, at(0), MAC).unwrap();
        let mut scratch = Scratch::default();
        let sent = parse(&buf[..len], &mut scratch).unwrap();
        let tftp = sent.option(code::ETHERBOOT).is_some_and(|raw| SubOptions(raw).any(|(tag, value)| (tag, value) == (0x15, &[1][..])));
        assert_eq!(tftp, has, "{firmware}");
    }
}

#[test]
fn messages_show_their_sender() {
    let client = started(Firmware::Edk2);
    let mut buf = [0; MESSAGE_MAX];
    let len = client.write(&mut buf, MessageType::Discover, at(3500), MAC).unwrap();
    let mut scratch = Scratch::default();
    let sent = parse(&buf[..len], &mut scratch).unwrap();
    assert_eq!(
        (sent.architectures().and_then(|mut codes| codes.next()), sent.vendor_class()),
        (Some(7), Some(&b"PXEClient:Arch:00007:UNDI:003016"[..]))
    );
    assert_eq!((sent.header.secs, sent.header.broadcast(), sent.machine_uuid().map(<[u8]>::len)), (3, true, Some(17)));
}

#[test]
fn option_67_without_its_nul() {
    for (firmware, name) in [(Firmware::Rom, &b"pxelinux.0\xff"[..]), (Firmware::Edk2, b"pxelinux.0")] {
        for (option, expected) in [(&b"pxelinux.0"[..], name), (b"pxelinux.0\0", b"pxelinux.0")] {
            let mut client = started(firmware);
            let offer = reply(&client, MessageType::Offer, &[(code::BOOTFILE, option)], b"");
            hear(&mut client, at(10), &offer);
            assert_eq!(client.lease().unwrap().file.bytes(), expected, "{firmware}");
        }
    }
}
