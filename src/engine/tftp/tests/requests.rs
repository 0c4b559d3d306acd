//! Requests: what is refused and how, what is repeated, what replaces what, netascii, full tables.

use super::*;

#[test]
fn refusals_are_answered_with_their_code() {
    let table: [(&[u8], &[&str]); 8] = [
        (b"\0\x01\0octet\0", &["error 4 malformed request"]),
        (b"\0\x01vmlinuz", &["error 4 malformed request"]),
        (b"\0\x01vmlinuz\0mail\0", &["error 4 mode must be octet or netascii"]),
        (b"\0\x02vmlinuz\0octet\0", &["error 2 this server is read-only"]),
        (b"\0\x01///\0octet\0", &["error 1 file not found"]),
        (b"\0\x04\0\x01", &[]),
        (b"\0\x05\0\x01oh\0", &[]),
        (b"\0", &[]),
    ];
    let mut world = World::new(&config());
    for (payload, answer) in table {
        assert_eq!(Peer::new().send(&mut world, PORT, payload), answer, "{}", String::from_utf8_lossy(payload));
    }
    assert_eq!(world.server.transfers(), 0);
    let long = [b"\0\x01".as_slice(), &[b'x'; 256], b"\0octet\0"].concat();
    assert_eq!(Peer::new().send(&mut world, PORT, &long), ["error 1 file not found"]);
    let counted = [Counter::TftpMalformed, Counter::TftpWrite, Counter::TftpNotFound].map(|c| world.count(c));
    assert_eq!(counted, [6, 1, 2]);
}

#[test]
fn names_are_opened_as_clients_mean_them() {
    let mut world = World::new(&config());
    let mut peer = Peer::new();
    for (name, path) in [("vmlinuz", "vmlinuz"), ("//images/vmlinuz", "images/vmlinuz"), ("a/../b", "a/../b")] {
        assert_eq!(peer.ask(&mut world, name, NOTHING), [format!("open {path}")]);
    }
    assert_eq!(peer.send(&mut world, PORT, b"\0\x01undionly.kpxe\xff\0octet\0"), ["open undionly.kpxe"], "a ROM that reads past option 67");
    assert_eq!(peer.send(&mut world, PORT, b"\0\x01vmlinuz\0OcTeT\0BLKSIZE\x001000\0unknown\0x\0"), ["open vmlinuz"]);
    assert_eq!(peer.opened(&mut world, 10), ["oack blksize=1000"], "names of options in any case, unknown ones ignored");
}

/// RFC 2347: what is not accepted is left out of the OACK. Without any the transfer begins with its first block.
#[test]
fn options_out_of_range_are_lowered_or_left_out() {
    for (options, answer) in [
        ("blksize\x0065535", "oack blksize=1468"),
        ("blksize\x00100000\0tsize\x000", "oack blksize=1468 tsize=10"),
        ("blksize\x004\0tsize\x000", "oack tsize=10"),
        ("timeout\x00300", "data 1..1 10B"),
        ("windowsize\0many", "data 1..1 10B"),
    ] {
        let (mut world, mut peer) = (World::new(&config()), Peer::new());
        assert_eq!(peer.send(&mut world, PORT, format!("\0\x01vmlinuz\0octet\0{options}\0").as_bytes()), ["open vmlinuz"]);
        assert_eq!(peer.opened(&mut world, 10), [answer], "{options:?}");
    }
}

#[test]
fn what_the_disk_refuses_is_told_without_paths() {
    let table: [(OpenError, &[&str], Counter); 6] = [
        (OpenError::NotFound, &["error 1 file not found"], Counter::TftpNotFound),
        (OpenError::Outside, &["error 1 a link leads out of the root"], Counter::TftpNotFound),
        (OpenError::Denied, &["error 2 permission denied"], Counter::TftpRefused),
        (OpenError::NotAFile, &["error 2 not a regular file"], Counter::TftpRefused),
        (OpenError::Failed, &["error 0 the server cannot read the file"], Counter::TftpRefused),
        (OpenError::Busy, &[], Counter::TftpFilesBusy),
    ];
    for (refusal, answer, counter) in table {
        let mut world = World::new(&config());
        let mut peer = Peer::new();
        peer.ask(&mut world, "secret/vmlinuz", NOTHING);
        let got = world.handle(Input::Opened { token: peer.token, answer: Err(refusal) });
        assert_eq!(peer.hear(&got), answer);
        assert_eq!((world.count(counter), world.server.transfers()), (1, 0), "{refusal:?}");
        assert_eq!(peer.ask(&mut world, "secret/vmlinuz", NOTHING), ["open secret/vmlinuz"], "it may ask again");
    }
}

#[test]
fn a_missing_file_that_the_config_names_is_logged_at_once_and_its_machine_is_stuck() {
    let mut world = World::settled(&config());
    let mut peer = Peer::leased(&mut world, &Ask::ipxe(mac(17)));
    let mut missing = |world: &mut World, name: &str| {
        let before = log_lines();
        peer.ask(world, name, NOTHING);
        let got = world.handle(Input::Opened { token: peer.token, answer: Err(OpenError::NotFound) });
        assert_eq!(peer.hear(&got), ["error 1 file not found"]);
        let stuck = world.client(mac(17)).and_then(|client| client.boot.stuck()).map(ToString::to_string);
        (log_lines() - before, stuck)
    };
    assert_eq!(missing(&mut world, "other.img"), (0, None), "the config does not name it");
    assert_eq!(missing(&mut world, "initrd.img"), (1, Some("tftp initrd.img: file not found".into())));
    assert_eq!(missing(&mut world, "vmlinuz"), (0, Some("tftp vmlinuz: file not found".into())), "one line an interval");
    world.advance(10_000);
    assert_eq!(missing(&mut world, "vmlinuz"), (1, Some("tftp vmlinuz: file not found".into())));
    assert_eq!(missing(&mut world, "other.img"), (0, None), "it asks for something else");
}

#[test]
fn a_late_copy_of_a_request_does_not_end_its_transfer() {
    let mut world = World::new(&config());
    let mut peer = Peer::new();
    peer.begin(&mut world, 5000, NOTHING);
    assert_eq!(peer.ack(&mut world, 1), ["data 2..2 512B"]);
    assert_eq!(peer.ask(&mut world, "vmlinuz", NOTHING), [""; 0], "a copy that came by another way");
    assert_eq!(peer.ack(&mut world, 2), ["data 3..3 512B"], "the transfer goes on");
    world.advance(150);
    let anew = peer.ask(&mut world, "vmlinuz", NOTHING);
    assert!(anew.contains(&"open vmlinuz".to_string()), "{anew:?}: who asks later begins again");
}

/// Power flickers, and a machine asks from the same port for the same. Its own lost block, sent a moment ago, makes this no copy.
#[test]
fn who_began_to_boot_again_repeats_nothing() {
    let mut world = World::settled(&config());
    let ask = Ask::firmware(mac(1), 7);
    let mut peer = Peer::leased(&mut world, &ask);
    let asks = TftpOptions { blksize: Some(1456), ..NOTHING };
    assert_eq!(peer.begin(&mut world, 50_000, asks), ["oack blksize=1456"]);
    let first = peer.ack(&mut world, 0);
    assert_eq!(first, ["data 1..1 1456B"]);
    let old = peer.port;
    peer.wait(&mut world, 2_000);
    while peer.wait(&mut world, 10) != first {}
    assert_eq!(world.lease(&ask), *peer.src.ip());
    assert_eq!(peer.ask(&mut world, "vmlinuz", asks), ["close 7", "open vmlinuz"]);
    assert_eq!(peer.wait(&mut world, 1_000), [""; 0], "a block of what it has forgotten would be fatal to it");
    assert_eq!(peer.opened(&mut world, 50_000), ["oack blksize=1456"]);
    assert_ne!(peer.port, old);
    assert_eq!((world.server.transfers(), world.count(Counter::TftpForgotten)), (1, 1));
}

#[test]
fn a_repeated_request_opens_nothing_and_repeats_the_answer() {
    let mut world = World::new(&config());
    let mut peer = Peer::new();
    let sizes = TftpOptions { tsize: Some(0), ..NOTHING };
    assert_eq!(peer.ask(&mut world, "vmlinuz", sizes), ["open vmlinuz"]);
    assert_eq!(peer.ask(&mut world, "vmlinuz", sizes), [""; 0], "the file is on its way");
    assert_eq!(peer.opened(&mut world, 1000), ["oack tsize=1000"]);
    let port = peer.port;
    assert_eq!(peer.ask(&mut world, "vmlinuz", sizes), ["oack tsize=1000"]);
    assert_eq!((peer.port, world.server.transfers(), world.count(Counter::RrqRepeated)), (port, 1, 2));
    assert_eq!(peer.ack(&mut world, 0), ["data 1..1 512B"]);
    // Without options the answer is the first block.
    let mut plain = Peer::at(ip(10, 54, 9, 10));
    assert_eq!(plain.begin(&mut world, 1000, NOTHING), ["data 1..1 512B"]);
    assert_eq!(plain.ask(&mut world, "vmlinuz", NOTHING), ["data 1..1 512B"]);
    assert_eq!((plain.ack(&mut world, 1), world.server.transfers()), (vec!["data 2..2 488B".to_string()], 2));
}

#[test]
fn another_request_from_the_same_port_replaces_the_transfer() {
    let mut world = World::new(&config());
    let mut peer = Peer::new();
    peer.begin(&mut world, 10_000, NOTHING);
    let old = peer.port;
    assert_eq!(peer.ask(&mut world, "initrd.img", NOTHING), ["close 7", "open initrd.img"]);
    assert_eq!(peer.opened(&mut world, 10_000), ["data 1..1 512B"]);
    assert_ne!(peer.port, old);
    let new = std::mem::replace(&mut peer.port, old);
    assert_eq!(peer.ack(&mut world, 1), [""; 0], "the old one is gone");
    peer.port = new;
    assert_eq!(peer.ack(&mut world, 1), ["data 2..2 512B"]);
    // The same file again, once the first transfer has got somewhere, and later than a copy would come: a new one.
    world.advance(150);
    assert_eq!(peer.ask(&mut world, "initrd.img", NOTHING), ["close 7", "open initrd.img"]);
    assert_eq!(world.server.transfers(), 1);
}

#[test]
fn a_file_that_opens_too_late_is_closed() {
    let mut world = World::new(&config());
    let mut peer = Peer::new();
    peer.ask(&mut world, "vmlinuz", NOTHING);
    let late = peer.token;
    assert_eq!(peer.ask(&mut world, "initrd.img", NOTHING), ["open initrd.img"]);
    let answer = Ok(OpenFile { file: FileId::from_u64(3), size: 1, stamp: 7 });
    let got = world.handle(Input::Opened { token: late, answer });
    assert_eq!(peer.hear(&got), ["close 3"]);
    assert_eq!(peer.opened(&mut world, 1), ["data 1..1 1B"]);
    let got = world.handle(Input::Opened { token: u64::MAX, answer });
    assert_eq!(peer.hear(&got), ["close 3"], "nor does a strange token leak one");
}

#[test]
fn a_size_probe_costs_nothing() {
    for code in [ErrorCode::NotDefined, ErrorCode::OptionRefused] {
        let mut world = World::new(&config());
        let mut peer = Peer::new();
        assert_eq!(peer.begin(&mut world, 1000, TftpOptions { tsize: Some(0), ..NOTHING }), ["oack tsize=1000"]);
        assert_eq!(peer.error(&mut world, code), ["close 7"], "an ERROR is never answered");
        assert_eq!((world.server.transfers(), world.count(Counter::TftpProbe)), (0, 1));
        assert_eq!(peer.wait(&mut world, 5_000), [""; 0]);
    }
    let mut world = World::new(&config());
    let mut peer = Peer::new();
    peer.begin(&mut world, 1000, NOTHING);
    assert_eq!(peer.error(&mut world, ErrorCode::NotDefined), ["close 7"]);
    assert_eq!((world.count(Counter::TftpAborted), world.count(Counter::TftpProbe)), (1, 0), "in the middle it is an end");
}

#[test]
fn netascii_is_made_block_by_block() {
    let mut world = World::new(&config());
    let mut peer = Peer::new();
    let text: Vec<u8> = b"line\n".repeat(120);
    let sizes = TftpOptions { tsize: Some(0), ..NOTHING };
    assert_eq!(peer.ask_in(&mut world, "readme", Mode::Netascii, sizes), ["open readme"]);
    let mut told = peer.opened(&mut world, text.len() as u64);
    let (mut blocks, mut whole) = (Vec::new(), 0);
    while let Some(read) = told.first().and_then(|word| word.strip_prefix("read ")) {
        let (offset, len) = read.split_once('+').map(|(a, b)| (a.parse::<usize>().unwrap(), b.parse::<usize>().unwrap())).unwrap();
        let bytes = &text[offset..text.len().min(offset + len)];
        let got = world.handle(Input::Bytes { token: peer.token, bytes });
        let words = peer.hear(&got);
        let len: usize = words[0].split(' ').nth(2).and_then(|len| len.strip_suffix('B')?.parse().ok()).unwrap();
        (whole, blocks) = (whole + len, [blocks, words].concat());
        told = peer.ack(&mut world, blocks.len() as u16);
    }
    assert_eq!((told, whole), (vec!["close 7".to_string()], 720), "120 carriage returns more; no size was told");
    assert_eq!(blocks, ["data 1..1 512B", "data 2..2 208B"]);
}

#[test]
fn addresses_outside_the_networks_get_nothing() {
    let mut world = World::new(&config());
    for address in [ip(192, 168, 1, 5), ip(10, 56, 0, 9)] {
        assert_eq!(Peer::at(address).ask(&mut world, "vmlinuz", NOTHING), [""; 0], "{address}");
    }
    assert_eq!((world.count(Counter::TftpStranger), world.server.transfers()), (2, 0));
    assert_eq!(Peer::at(ip(10, 55, 0, 9)).ask(&mut world, "vmlinuz", NOTHING), ["open vmlinuz"], "behind a relay is ours");
}

#[test]
fn a_full_table_drops_and_recovers() {
    let mut world = World::new(&config());
    // Half of the table: addresses without a record may not have the rest.
    let room = config().server.capacity as u8;
    let mut peers: Vec<Peer> = (0..room + 3).map(|n| Peer::at(ip(10, 54, 9, n))).collect();
    for (n, peer) in peers.iter_mut().enumerate() {
        let told = peer.ask(&mut world, "vmlinuz", NOTHING);
        assert_eq!(told.len(), usize::from(n < room.into()), "{n}: {told:?}");
    }
    assert_eq!((world.count(Counter::TftpTableFull), world.server.transfers()), (3, room.into()));
    peers[0].opened(&mut world, 5);
    peers[0].ack(&mut world, 1);
    assert_eq!(peers[usize::from(room)].ask(&mut world, "vmlinuz", NOTHING), ["open vmlinuz"], "one has ended");
}

#[test]
fn somebody_elses_port_is_nobodys_transfer() {
    let mut world = World::new(&config());
    let mut peer = Peer::new();
    peer.begin(&mut world, 10_000, NOTHING);
    let mut thief = Peer { port: peer.port, ..Peer::at(ip(10, 54, 9, 66)) };
    assert_eq!((thief.ack(&mut world, 1), thief.error(&mut world, ErrorCode::NotDefined)), (vec![], vec![]));
    let (port, junk) = (peer.port, [b"\0\x03\0\x01data".as_slice(), b"\0\x06tsize\x00\x31\0", b"\0\x04", b""]);
    for payload in junk {
        assert_eq!(peer.send(&mut world, port, payload), [""; 0]);
    }
    assert_eq!((world.count(Counter::TftpNoTransfer), world.count(Counter::TftpMalformed)), (2, 4));
    assert_eq!(peer.ack(&mut world, 1), ["data 2..2 512B"]);
}
