//! What the next daemon does with what this one has left.

use super::*;
use crate::config::Config;
use crate::roll::kind::FirmwareKind;
use crate::roll::stage::Stage;

const BLOCKS: TftpOptions = TftpOptions { blksize: Some(1024), tsize: Some(0), ..NOTHING };

/// A ROM of node 17 that has acknowledged a block.
fn loading(world: &mut World) -> Peer {
    let mut peer = Peer::leased(world, &Ask::rom(mac(17)));
    assert_eq!(peer.begin(world, 5_000, NOTHING), ["data 1..1 512B"]);
    assert_eq!(peer.ack(world, 1), ["data 2..2 512B"]);
    peer
}

/// Another daemon, which opens the files again.
fn restart(world: &mut World, peer: &mut Peer, config: &Config) -> Vec<String> {
    world.restart(config);
    peer.wait(world, 1)
}

fn counted(world: &World) -> [u64; 5] {
    use Counter::{TftpRowElsewhere, TftpRowNoPlace, TftpRowOld, TftpRowUnread, TftpTakenUp};
    [TftpTakenUp, TftpRowElsewhere, TftpRowOld, TftpRowNoPlace, TftpRowUnread].map(|counter| world.count(counter))
}

#[test]
fn a_transfer_goes_on_behind_its_last_ack() {
    let mut world = World::settled(&config());
    let mut peer = loading(&mut world);
    assert_eq!(restart(&mut world, &mut peer, &config()), ["open vmlinuz"]);
    assert_eq!((peer.opened(&mut world, 5_000), counted(&world)), (vec![], [1, 0, 0, 0, 0]));
    assert_eq!(peer.ack(&mut world, 2), ["data 3..3 512B"]);
    let client = world.server.roll().at_address(*peer.src.ip()).and_then(|key| world.server.roll().get(key)).expect("its record");
    assert_eq!((client.boot.stage(), client.evidence.kind(), client.number().map(|n| n.0)), (Stage::Loading, FirmwareKind::Rom, Some(17)));
    for block in 3..10 {
        peer.pull(&mut world, block);
    }
    assert_eq!((peer.ack(&mut world, 10), world.rows.len()), (vec!["close 7".to_string()], 0));
}

#[test]
fn who_does_not_speak_is_sent_what_was_due() {
    let mut world = World::settled(&config());
    let mut peer = loading(&mut world);
    restart(&mut world, &mut peer, &config());
    peer.opened(&mut world, 5_000);
    assert_eq!(peer.wait(&mut world, 350), ["data 2..2 512B"]);
    assert_eq!(peer.ack(&mut world, 1), [""; 0], "it crosses what was sent");
    assert_eq!(peer.ack(&mut world, 2), ["data 3..3 512B"]);
}

#[test]
fn a_retry_is_answered_at_once_and_no_sooner_than_the_file_is_open() {
    for (block, next) in [(1, "data 2..2 512B"), (2, "data 3..3 512B")] {
        let mut world = World::settled(&config());
        let mut peer = loading(&mut world);
        restart(&mut world, &mut peer, &config());
        assert_eq!(peer.ack(&mut world, block), [""; 0]);
        assert_eq!(peer.opened(&mut world, 5_000), [next]);
    }
}

#[test]
fn what_a_rom_survives_is_counted_over_restarts() {
    let mut world = World::settled(&config());
    let mut peer = loading(&mut world);
    let mut sent = peer.wait(&mut world, 5_000);
    assert_eq!(sent.len(), 2);
    for _ in 0..2 {
        restart(&mut world, &mut peer, &config());
        sent = peer.opened(&mut world, 5_000);
        sent.extend(peer.wait(&mut world, 5_000));
        assert_eq!(sent, [""; 0], "a third duplicate is fatal");
    }
    assert_eq!(peer.ack(&mut world, 2), ["data 3..3 512B"]);
}

#[test]
fn an_oack_that_was_not_answered_is_sent_again() {
    let mut world = World::settled(&config());
    let mut peer = Peer::leased(&mut world, &Ask::rom(mac(17)));
    assert_eq!(peer.begin(&mut world, 3_000, BLOCKS), ["oack blksize=1024 tsize=3000"]);
    restart(&mut world, &mut peer, &config());
    peer.opened(&mut world, 3_000);
    assert_eq!(peer.wait(&mut world, 500), ["oack blksize=1024 tsize=3000"]);
    assert_eq!(peer.ack(&mut world, 0), ["data 1..1 1024B"]);
    restart(&mut world, &mut peer, &config());
    peer.opened(&mut world, 3_000);
    assert_eq!(peer.ack(&mut world, 1), ["data 2..2 1024B"], "the block size is the one that was agreed");
}

#[test]
fn a_window_goes_on_wherever_its_client_stands() {
    for (acked, next) in [(4, "data 5..8 2048B"), (6, "data 7..10 2048B"), (8, "data 9..12 2048B")] {
        let mut world = World::settled(&config());
        let mut peer = Peer::leased(&mut world, &Ask::rom(mac(17)));
        peer.begin(&mut world, 10_000, TftpOptions { windowsize: Some(4), ..NOTHING });
        peer.pull(&mut world, 0);
        assert_eq!(peer.pull(&mut world, 4), ["data 5..8 2048B"]);
        restart(&mut world, &mut peer, &config());
        peer.opened(&mut world, 10_000);
        assert_eq!(peer.ack(&mut world, acked), [next]);
    }
    let mut world = World::settled(&config());
    let mut peer = Peer::leased(&mut world, &Ask::rom(mac(17)));
    peer.begin(&mut world, 10_000, TftpOptions { windowsize: Some(4), ..NOTHING });
    peer.pull(&mut world, 0);
    restart(&mut world, &mut peer, &config());
    peer.opened(&mut world, 10_000);
    assert_eq!(peer.wait(&mut world, 500), ["data 4..4 512B"], "the last block alone: it makes the client say where it stands");
}

#[test]
fn another_file_ends_it_with_an_error() {
    let answers = [
        (
            Ok(OpenFile { file: FileId::from_u64(7), size: 5_000, stamp: 8 }),
            "error 0 the file was replaced while it was being sent: ask again",
        ),
        (
            Ok(OpenFile { file: FileId::from_u64(7), size: 5_001, stamp: 7 }),
            "error 0 the file was replaced while it was being sent: ask again",
        ),
        (Err(OpenError::NotFound), "error 1 file not found"),
    ];
    for (answer, error) in answers {
        let mut world = World::settled(&config());
        let mut peer = loading(&mut world);
        restart(&mut world, &mut peer, &config());
        let got = world.handle(Input::Opened { token: peer.token, answer });
        let told: Vec<String> = peer.hear(&got).into_iter().filter(|word| word != "close 7").collect();
        assert_eq!((told, world.rows.len(), world.server.transfers()), (vec![error.to_string()], 0, 0));
        assert_eq!(got.contains(&Got::Close(FileId::from_u64(7))), answer.is_ok());
    }
}

#[test]
fn a_text_goes_on_within_its_pairs() {
    let text = [b"\n".repeat(600), b"x".repeat(600)].concat();
    let mut world = World::settled(&config());
    let mut peer = Peer::leased(&mut world, &Ask::rom(mac(17)));
    assert_eq!(peer.ask_in(&mut world, "readme", Mode::Netascii, TftpOptions { blksize: Some(511), ..NOTHING }), ["open readme"]);
    peer.opened(&mut world, text.len() as u64);
    assert_eq!(peer.ack(&mut world, 0), ["read 0+511"]);
    let send = |world: &mut World, peer: &mut Peer, offset: usize| {
        let got = world.handle(Input::Bytes { token: peer.token, bytes: &text[offset..text.len().min(offset + 511)] });
        got.iter().find_map(|got| if let Got::Datagram { body, .. } = got { Some(body[2..8].to_vec()) } else { None })
    };
    assert_eq!(send(&mut world, &mut peer, 0), Some(b"\0\x01\r\n\r\n".to_vec()));
    assert_eq!(peer.ack(&mut world, 1), ["read 256+511"], "255 pairs and a half");
    assert_eq!(send(&mut world, &mut peer, 256), Some(b"\0\x02\n\r\n\r".to_vec()));
    // The ACK of the second block comes to a daemon that has not made it.
    assert_eq!(restart(&mut world, &mut peer, &config()), ["open readme"]);
    assert_eq!(peer.ack(&mut world, 2), [""; 0]);
    assert_eq!(peer.opened(&mut world, text.len() as u64), ["read 256+511"]);
    assert_eq!(send(&mut world, &mut peer, 256), Some(b"\0\x02\n\r\n\r".to_vec()));
    assert_eq!(peer.ack(&mut world, 2), ["read 511+511"]);
}

#[test]
fn a_text_that_was_made_must_come_out_the_same() {
    for same in [true, false] {
        let mut world = World::settled(&config());
        let mut peer = Peer::leased(&mut world, &Ask::ipxe(mac(17)));
        peer.ask(&mut world, "muster.ipxe", TftpOptions { blksize: Some(64), ..NOTHING });
        peer.missing(&mut world);
        let first = peer.ack(&mut world, 0);
        assert!(first[0].starts_with("data 1"), "{first:?}");
        let mut other = config();
        if !same {
            other.boot.args = "quiet".into();
        }
        assert_eq!(restart(&mut world, &mut peer, &other), [""; 0], "no file is opened");
        let told = peer.ack(&mut world, 1);
        let wanted = if same { "data 2" } else { "error 0 the file was changed while it was being sent" };
        assert!(told[0].starts_with(wanted), "{told:?}");
    }
}

#[test]
fn what_cannot_go_on_is_counted() {
    let kept = |change: &dyn Fn(&mut World, &mut Config)| {
        let (mut world, mut other) = (World::settled(&config()), config());
        let mut peer = loading(&mut world);
        change(&mut world, &mut other);
        restart(&mut world, &mut peer, &other);
        let transfers = world.server.transfers();
        assert_eq!(world.rows.len(), transfers, "the others are forgotten");
        (transfers, counted(&world))
    };
    assert_eq!(kept(&|_, _| ()), (1, [1, 0, 0, 0, 0]));
    let moved = |_: &mut World, config: &mut Config| config.links[0].head = ip(10, 54, 0, 2);
    assert_eq!(kept(&moved), (0, [0, 1, 0, 0, 0]), "its client knows the head by another address");
    assert_eq!(kept(&|_, config| config.tftp.ports = (30_000, 30_255)), (0, [0, 1, 0, 0, 0]));
    assert_eq!(kept(&|world, _| world.now.at += std::time::Duration::from_secs(59)).0, 1, "a ROM waits for a minute, at most");
    assert_eq!(kept(&|world, _| world.now.at += std::time::Duration::from_secs(60)), (0, [0, 0, 1, 0, 0]));
    assert_eq!(kept(&|world, _| world.now.at = Instant::from_millis(5)), (0, [0, 0, 1, 0, 0]), "a clock of another boot");
    let twice = |world: &mut World, _: &mut Config| {
        let row = world.rows.values().next().cloned().expect("a row");
        world.rows.insert(77, row);
    };
    assert_eq!(kept(&twice), (1, [1, 0, 0, 1, 0]), "a daemon that died as it took it up");
    let cut = |world: &mut World, _: &mut Config| world.rows.values_mut().for_each(|(row, _)| row.truncate(40));
    assert_eq!(kept(&cut), (0, [0, 0, 0, 0, 1]));
    let beyond = |world: &mut World, _: &mut Config| world.rows.values_mut().for_each(|(_, mark)| mark[0] = 1 << 40);
    assert_eq!(kept(&beyond), (0, [0, 0, 0, 0, 1]), "more blocks than there are");
}

#[test]
fn a_smaller_table_takes_up_what_it_has_places_for() {
    let mut world = World::settled(&config());
    let mut peers: Vec<Peer> = (1..=4).map(|n| Peer::leased(&mut world, &Ask::rom(mac(n)))).collect();
    peers.iter_mut().for_each(|peer| drop(peer.begin(&mut world, 5_000, NOTHING)));
    let mut small = config();
    small.server.capacity = 1;
    world.restart(&small);
    assert_eq!((world.server.transfers(), counted(&world)), (2, [2, 0, 0, 2, 0]));
}

#[test]
fn the_next_transfer_takes_another_port() {
    let mut world = World::settled(&config());
    let mut peer = loading(&mut world);
    let port = peer.port;
    restart(&mut world, &mut peer, &config());
    peer.opened(&mut world, 5_000);
    assert_eq!(peer.ask(&mut world, "initrd", NOTHING), ["close 7", "open initrd"]);
    peer.opened(&mut world, 5_000);
    assert_ne!(peer.port, port);
}

#[test]
fn a_machine_that_boots_again_is_sent_nothing_of_what_it_loaded() {
    let mut world = World::settled(&config());
    let mut peer = loading(&mut world);
    restart(&mut world, &mut peer, &config());
    peer.opened(&mut world, 5_000);
    world.ask(&Ask::rom(mac(17)));
    assert_eq!(peer.wait(&mut world, 1_000), ["close 7"]);
    assert_eq!(world.count(Counter::TftpForgotten), 1);
}
