//! Golden bytes, round trips, and the rules of long and overloaded options.

use super::*;
use proptest::prelude::*;

const HEADER: Header = Header {
    op: 2,
    htype: 1,
    hlen: 6,
    hops: 1,
    xid: 0x0102_0304,
    secs: 5,
    flags: Header::BROADCAST,
    ciaddr: Ipv4Addr::new(10, 0, 0, 1),
    yiaddr: Ipv4Addr::new(10, 0, 0, 2),
    siaddr: Ipv4Addr::new(10, 0, 0, 3),
    giaddr: Ipv4Addr::new(10, 0, 0, 4),
    chaddr: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
};

fn built(max: usize, relay: Option<&[u8]>, fill: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
    let mut buf = [0xee; 1500];
    let mut builder = MessageBuilder::new(&mut buf, &HEADER, max).unwrap();
    fill(&mut builder);
    let len = builder.finish(relay);
    buf[..len].to_vec()
}

#[test]
fn golden_bytes() {
    let bytes = built(548, None, |b| {
        assert!(b.message_type(MessageType::Offer) && b.ip(code::SERVER_ID, [10, 0, 0, 3].into()) && b.file(b"x.efi"));
    });
    assert_eq!(bytes.len(), 300);
    assert_eq!(bytes[..12], [2, 1, 6, 1, 1, 2, 3, 4, 0, 5, 0x80, 0]);
    assert_eq!(bytes[12..28], [10, 0, 0, 1, 10, 0, 0, 2, 10, 0, 0, 3, 10, 0, 0, 4]);
    assert_eq!(bytes[108..114], *b"x.efi\0");
    assert_eq!(bytes[236..251], [99, 130, 83, 99, 53, 1, 2, 54, 4, 10, 0, 0, 3, 255, 0]);
}

#[test]
fn overload_keeps_every_option_whole() {
    let fat = [7u8; 100];
    let bytes = built(MESSAGE_MIN, None, |b| {
        assert!(b.message_type(MessageType::Ack) && b.option(43, &[1; 40]));
        assert!(b.option(66, &[2; 40]), "goes into sname");
        assert!(b.option(67, &fat), "goes into file");
        assert!(!b.option(68, &[3; 60]), "no room anywhere");
        assert!(b.option(12, b"n1"), "a small one still fits");
    });
    let mut scratch = Scratch::default();
    let message = parse(&bytes, &mut scratch).unwrap();
    assert_eq!((message.option(43), message.option(66), message.option(67)), (Some(&[1; 40][..]), Some(&[2; 40][..]), Some(&fat[..])));
    assert_eq!((message.option(68), message.option(12), message.option(52)), (None, Some(&b"n1"[..]), Some(&[3][..])));
    assert!(message.file.is_empty() && message.sname.is_empty());
}

#[test]
fn a_named_file_is_never_overloaded() {
    let bytes = built(MESSAGE_MIN, None, |b| {
        assert!(b.file(b"undionly.kpxe") && !b.file(&[b'x'; 128]));
        assert!(b.option(43, &[1; 50]) && !b.option(66, &[2; 70]) && b.option(66, &[2; 60]));
    });
    let mut scratch = Scratch::default();
    let message = parse(&bytes, &mut scratch).unwrap();
    assert_eq!((message.file, message.option(52)), (&b"undionly.kpxe"[..], Some(&[2][..])));
}

#[test]
fn long_options_are_split_and_joined() {
    let long: Vec<u8> = (0..600).map(|n| n as u8).collect();
    let bytes = built(1472, None, |b| assert!(b.option(43, &long) && b.option(60, b"PXEClient")));
    assert_eq!(bytes.windows(2).filter(|w| *w == [43, 255]).count(), 2);
    let mut scratch = Scratch::default();
    let message = parse(&bytes, &mut scratch).unwrap();
    assert_eq!((message.option(43), message.vendor_class()), (Some(&long[..]), Some(&b"PXEClient"[..])));
}

#[test]
fn the_relay_agents_option_is_last() {
    let bytes = built(548, Some(b"\x01\x04eth0"), |b| assert!(b.message_type(MessageType::Ack)));
    assert_eq!(bytes[240..252], *b"\x35\x01\x05\x52\x06\x01\x04eth0\xff");
    let mut scratch = Scratch::default();
    let message = parse(&bytes, &mut scratch).unwrap();
    let sub: Vec<_> = SubOptions(message.relay_agent_info().unwrap()).collect();
    assert_eq!(sub, [(1, &b"eth0"[..])]);
}

#[test]
fn what_is_refused() {
    let mut scratch = Scratch::default();
    let good = built(548, None, |b| assert!(b.message_type(MessageType::Request)));
    let mut refuse = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        parse(&bytes, &mut scratch).err()
    };
    assert_eq!(refuse(&|_| {}), None);
    assert_eq!(refuse(&|b| b.truncate(235)), Some(MessageError::Truncated));
    assert_eq!(refuse(&|b| b.truncate(236)), None, "no cookie: BOOTP");
    assert_eq!(refuse(&|b| b[0] = 3), Some(MessageError::Op));
    assert_eq!(refuse(&|b| b[2] = 17), Some(MessageError::HardwareLength));
    assert_eq!(refuse(&|b| b.truncate(242)), Some(MessageError::OptionTruncated));
    assert_eq!(refuse(&|b| b.truncate(243)), None, "END may be missing");
    assert_eq!(refuse(&|b| b[242] = 99), Some(MessageError::OptionValue), "no such message type");
    assert_eq!(refuse(&|b| b[240] = 54), Some(MessageError::OptionValue), "a server identifier of one byte");
    assert_eq!(refuse(&|b| b[240] = 52), None, "overload 3: file and sname hold options, all pads");
    assert_eq!(refuse(&|b| b[240..243].copy_from_slice(&[52, 1, 4])), Some(MessageError::OptionValue));
    let twice = |code: u8| move |b: &mut Vec<u8>| b[240..246].copy_from_slice(&[code, 1, 1, code, 1, 1]);
    assert_eq!(refuse(&twice(53)), Some(MessageError::OptionValue), "joined, a message type of two bytes");
    assert_eq!(refuse(&twice(52)), Some(MessageError::OptionValue), "joined, an overload of two bytes");
    let in_file = |b: &mut Vec<u8>| {
        b[240] = 52;
        b[108..111].copy_from_slice(&[52, 1, 3]);
    };
    assert_eq!(refuse(&in_file), Some(MessageError::OptionValue), "and one more in the field that it opens");
}

#[test]
fn user_classes_in_both_forms() {
    assert!(user_class_is(b"iPXE", b"iPXE") && user_class_is(b"\x04iPXE", b"iPXE") && user_class_is(b"\x03abc\x04iPXE", b"iPXE"));
    assert!(!user_class_is(b"", b"iPXE") && !user_class_is(b"\x05iPXE", b"iPXE") && !user_class_is(b"iPXE2", b"iPXE"));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), cookie in any::<bool>()) {
        if cookie && bytes.len() >= 240 {
            bytes[0] = 1;
            bytes[2] = 6;
            bytes[236..240].copy_from_slice(&COOKIE);
        }
        let mut scratch = Scratch::default();
        if let Ok(message) = parse(&bytes, &mut scratch) {
            for code in 0..=255 {
                let _ = message.option(code);
            }
            let _ = (message.message_type(), message.architectures().map(Iterator::count), message.max_message_size(), message.lease_time());
        }
    }

    #[test]
    fn what_is_built_is_parsed(
        options in proptest::collection::btree_map(1u8..=254, proptest::collection::vec(any::<u8>(), 0..300), 0..12),
        max in 300usize..1370, relay in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..100)),
    ) {
        let checked = [50, 51, 52, 53, 54, 57, 82];
        let mut kept = Vec::new();
        let bytes = built(max, relay.as_deref(), |b| {
            for (code, value) in options.iter().filter(|(code, _)| !checked.contains(*code)) {
                if b.option(*code, value) {
                    kept.push((*code, value.clone()));
                }
            }
        });
        let mut scratch = Scratch::default();
        let message = parse(&bytes, &mut scratch).unwrap();
        prop_assert_eq!(message.header, HEADER);
        for (code, value) in &kept {
            prop_assert_eq!(message.option(*code), Some(value.as_slice()));
        }
        prop_assert_eq!(message.relay_agent_info(), relay.as_deref());
    }
}
