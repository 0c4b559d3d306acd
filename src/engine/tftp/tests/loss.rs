//! Silence, loss and trouble: the half-second look, the clients' own retries, cold disks, changed files, giving up.

use super::*;
use crate::wire::dhcp::code;
use proptest::prelude::*;

/// When something is sent, in milliseconds from now, over a silence; to the tick of the wheel.
fn sendings(world: &mut World, peer: &mut Peer, millis: u64) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    for at in (0..millis).step_by(10) {
        all.extend(peer.wait(world, 10).into_iter().map(|word| (at + 10, word)));
    }
    all
}

fn rom(world: &mut World) -> Peer {
    Peer::leased(world, &Ask::rom(mac(1)))
}

#[test]
fn what_is_lost_is_sent_again_within_half_a_second() {
    let mut world = World::new(&config());
    let mut peer = Peer::new();
    peer.begin(&mut world, 5_000, NOTHING);
    let told = sendings(&mut world, &mut peer, 4_200);
    assert_eq!(told.len(), 10, "{told:?}");
    for (n, (at, word)) in told.iter().enumerate() {
        assert_eq!(word, "data 1..1 512B");
        // Its first look comes after half a second, and the next ones when they are due.
        let due = 400 * (n as u64 + 1);
        assert!((due..=due + 110).contains(at), "constant, no back-off: {at}");
    }
    assert_eq!(peer.ack(&mut world, 1), ["data 2..2 512B"]);
    assert_eq!(world.count(Counter::TftpResent), 10);
    let (mut world, mut oack) = (World::new(&config()), Peer::new());
    oack.begin(&mut world, 5_000, TftpOptions { tsize: Some(0), ..NOTHING });
    let told = sendings(&mut world, &mut oack, 1_100);
    assert_eq!(told.iter().filter(|(_, word)| word == "oack tsize=5000").count(), 2, "an OACK as well");
}

#[test]
fn what_was_just_sent_is_not_sent_again() {
    let mut world = World::new(&config());
    let mut peer = Peer::new();
    peer.begin(&mut world, 50_000, NOTHING);
    for block in 1..=20 {
        assert_eq!(peer.wait(&mut world, 300), [""; 0], "slow, not lost");
        assert_eq!(peer.ack(&mut world, block).len(), 1);
    }
    assert_eq!(world.count(Counter::TftpResent), 0);
}

#[test]
fn each_kind_is_sent_no_more_than_it_survives() {
    // who, asking for what, sendings that nobody asked for in 40 s of silence
    let nothing = |ask: Ask| (ask, NOTHING);
    let pi = Ask::rom(crate::base::addr::Mac([0xb8, 0x27, 0xeb, 0, 0, 1]));
    let grub = TftpOptions { blksize: Some(1024), tsize: Some(0), ..NOTHING };
    let uboot = Ask::os(mac(1)).with(code::VENDOR_CLASS, b"U-Boot.armv8");
    let asks = TftpOptions { blksize: Some(1468), tsize: Some(0), timeout: Some(5), ..NOTHING };
    let table = [
        (nothing(Ask::rom(mac(1))), 2, "a third duplicate is fatal to a ROM"),
        (nothing(pi), 3, "a Pi's own retries go first"),
        (nothing(Ask::firmware(mac(1), 7)), 100, "EDK2: all the time"),
        ((Ask::rom(mac(1)), grub), 100, "GRUB borrows the ROM's lease, and never repeats an ACK"),
        ((uboot, asks), 100, "U-Boot asks for the interval of its own retry, and survives ours"),
        (nothing(Ask::os(mac(1))), 100, "others: all the time"),
        ((Ask::os(mac(1)), TftpOptions { timeout: Some(5), ..NOTHING }), 7, "at the interval that they asked for"),
    ];
    for ((ask, options), times, why) in table {
        let mut world = World::settled(&config());
        let mut peer = Peer::leased(&mut world, &ask);
        peer.begin(&mut world, 50_000, options);
        if options != NOTHING {
            peer.ack(&mut world, 0);
        }
        let told = sendings(&mut world, &mut peer, 40_000);
        assert!(told.len().abs_diff(times) <= usize::from(times > 10), "{why}: {}", told.len());
        assert!(told.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 380), "{why}");
    }
}

#[test]
fn a_pi_is_left_to_its_own_retries() {
    let mut world = World::settled(&config());
    let mut peer = Peer::leased(&mut world, &Ask::rom(crate::base::addr::Mac([0xb8, 0x27, 0xeb, 0, 0, 1])));
    peer.begin(&mut world, 50_000, NOTHING);
    peer.ack(&mut world, 1);
    for _ in 0..4 {
        assert_eq!(peer.wait(&mut world, 4_990), [""; 0], "nothing unasked for");
        assert_eq!(peer.ack(&mut world, 1), ["data 2..2 512B"]);
    }
}

#[test]
fn progress_gives_a_rom_its_tries_back() {
    let mut world = World::settled(&config());
    let mut peer = rom(&mut world);
    peer.begin(&mut world, 50_000, NOTHING);
    assert_eq!(peer.wait(&mut world, 3_900).len(), 2);
    assert_eq!(peer.ack(&mut world, 1), ["data 2..2 512B"]);
    assert_eq!(peer.wait(&mut world, 3_900).len(), 2);
}

#[test]
fn a_late_retry_is_answered_at_once_and_an_early_one_not_at_all() {
    let mut world = World::new(&config());
    let mut peer = Peer::new();
    peer.begin(&mut world, 50_000, NOTHING);
    peer.ack(&mut world, 1);
    assert_eq!(peer.ack(&mut world, 1), [""; 0], "Sorcerer's Apprentice");
    peer.wait(&mut world, 90);
    assert_eq!(peer.ack(&mut world, 1), [""; 0]);
    peer.wait(&mut world, 20);
    assert_eq!(peer.ack(&mut world, 1), ["data 2..2 512B"], "pxelinux retries after 110 ms");
    assert_eq!((world.count(Counter::TftpRetry), world.count(Counter::TftpEarlyAck)), (1, 2));
    // Duplicates of an ACK never double the stream.
    for block in 2..20 {
        assert_eq!(peer.ack(&mut world, block).len(), 1);
        assert_eq!(peer.ack(&mut world, block).len(), 0);
    }
}

#[test]
fn a_lost_window_costs_one_packet_and_one_answer() {
    let mut world = World::settled(&config());
    let mut peer = in_windows(&mut world, 4, 40);
    peer.ack(&mut world, 4);
    // All four are lost: the last one makes the client say where it stands.
    let told = sendings(&mut world, &mut peer, 600);
    assert!(!told.is_empty() && told.iter().all(|(_, word)| word == "data 8..8 512B"), "{told:?}");
    assert_eq!(peer.ack(&mut world, 4), ["data 5..8 2048B"], "at once: it is the answer to the probe");
    assert_eq!(peer.ack(&mut world, 4), [""; 0], "but only one");
    assert_eq!(peer.ack(&mut world, 8), ["data 9..12 2048B"]);
    // Only the last of a window is lost: it is what is sent again.
    let told = sendings(&mut world, &mut peer, 600);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].1.as_str(), peer.ack(&mut world, 12).len()), ("data 12..12 512B", 1));
}

#[test]
fn a_client_that_does_not_say_where_it_stands_gets_the_window_again() {
    let mut world = World::settled(&config());
    let mut peer = in_windows(&mut world, 8, 40);
    peer.ack(&mut world, 8);
    let told = sendings(&mut world, &mut peer, 1_600);
    let words: Vec<_> = told.iter().map(|(_, word)| word.as_str()).collect();
    assert_eq!(words, ["data 16..16 512B", "data 9..16 4096B", "data 9..16 4096B"], "some clients say where they stand once for each gap");
}

#[test]
fn the_timeout_that_a_client_asks_for_is_kept() {
    let mut world = World::new(&config());
    let mut peer = Peer::new();
    assert_eq!(peer.begin(&mut world, 5_000, TftpOptions { timeout: Some(3), ..NOTHING }), ["oack timeout=3"]);
    peer.ack(&mut world, 0);
    let told = sendings(&mut world, &mut peer, 10_000);
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn silence_ends_a_transfer() {
    let table = [(Ask::rom(mac(1)), 60_000), (Ask::ipxe(mac(1)), 16_000), (Ask::firmware(mac(1), 7), 60_000)];
    for (ask, patience) in table {
        let mut world = World::settled(&config());
        let mut peer = Peer::leased(&mut world, &ask);
        peer.begin(&mut world, 50_000, NOTHING);
        peer.ack(&mut world, 1);
        let told = peer.wait(&mut world, patience - 600);
        assert!(!told.contains(&"close 7".to_string()));
        assert_eq!(peer.wait(&mut world, 1_700).last().map(String::as_str), Some("close 7"));
        assert_eq!((world.server.transfers(), world.count(Counter::TftpGaveUp)), (0, 1));
        assert_eq!(peer.ack(&mut world, 1), [""; 0]);
    }
    let mut unopened = World::new(&config());
    let mut peer = Peer::new();
    peer.ask(&mut unopened, "vmlinuz", NOTHING);
    assert_eq!(peer.wait(&mut unopened, 61_000), [""; 0], "a world that never answers leaks no slot");
    assert_eq!(unopened.server.transfers(), 0);
}

#[test]
fn a_running_transfer_keeps_the_lease() {
    let mut world = World::settled(&config());
    let mut peer = rom(&mut world);
    peer.begin(&mut world, 5_000_000, NOTHING);
    for block in 1..=130 {
        peer.ack(&mut world, block);
        peer.wait(&mut world, 10_000);
    }
    assert!(world.client(mac(1)).is_some_and(|client| client.loading.running() == 1), "20 minutes of a 10 minute lease");
    peer.error(&mut world, ErrorCode::NotDefined);
    world.advance(130_000);
    assert!(world.client(mac(1)).is_none());
}

#[test]
fn a_cold_block_is_sent_when_it_is_there() {
    let mut world = World::settled(&config());
    let mut peer = in_windows(&mut world, 4, 40);
    assert_eq!(peer.ack(&mut world, 4), ["data 5..8 2048B"]);
    for _ in 0..20 {
        world.handle(Input::Cold { token: peer.token });
        assert_eq!(peer.wait(&mut world, 10), [""; 0], "for as long as the disk needs");
        let got = world.handle(Input::Warm { token: peer.token });
        assert_eq!(peer.hear(&got), ["data 5..8 2048B"]);
    }
    assert_eq!(world.handle(Input::Warm { token: peer.token }), [], "it is under way");
    assert_eq!((peer.ack(&mut world, 8), world.count(Counter::TftpCold)), (vec!["data 9..12 2048B".to_string()], 20));
    assert_eq!(world.handle(Input::Cold { token: u64::MAX }), []);
    assert_eq!(world.handle(Input::Warm { token: u64::MAX }), []);
}

#[test]
fn a_cold_block_of_which_nothing_is_heard_is_asked_for_each_half_second() {
    let mut world = World::settled(&config());
    let mut peer = in_windows(&mut world, 4, 40);
    assert_eq!(peer.ack(&mut world, 4), ["data 5..8 2048B"]);
    for _ in 0..3 {
        world.handle(Input::Cold { token: peer.token });
        let told = sendings(&mut world, &mut peer, 510);
        assert_eq!(told.len(), 1, "{told:?}");
    }
}

#[test]
fn a_file_changed_in_place_ends_with_an_error() {
    let mut world = World::new(&config());
    let mut peer = Peer::new();
    peer.begin(&mut world, 50_000, NOTHING);
    let got = world.handle(Input::Changed { token: peer.token });
    assert_eq!(peer.hear(&got), ["error 0 the file was changed while it was being sent: ask again", "close 7"]);
    assert_eq!((world.server.transfers(), world.count(Counter::TftpChanged)), (0, 1));
    assert_eq!(world.handle(Input::Changed { token: peer.token }), [], "once");
    assert_eq!(peer.begin(&mut world, 10, NOTHING), ["data 1..1 10B"]);
}

#[test]
fn a_changed_script_ends_with_an_error() {
    let mut world = World::settled(&config());
    let mut peer = Peer::leased(&mut world, &Ask::ipxe(mac(17)));
    peer.ask(&mut world, "muster.ipxe", TftpOptions { blksize: Some(64), ..NOTHING });
    assert_eq!(peer.missing(&mut world), ["oack blksize=64"]);
    assert_eq!(peer.ack(&mut world, 0), ["data 1..1 64B"]);
    let mut edited = config();
    // As long as it was.
    edited.boot.args = edited.boot.args.replace("ttyS0", "ttyS1");
    world.server.reconfigure(world.now, &edited).unwrap();
    assert_eq!(peer.ack(&mut world, 1), ["error 0 the file was changed while it was being sent: ask again"]);
    assert_eq!(world.server.transfers(), 0);
}

#[test]
fn the_stage_follows_the_transfers() {
    let mut world = World::settled(&config());
    let mut peer = rom(&mut world);
    assert_eq!(world.stage(mac(1)), Some(Stage::Leased));
    peer.begin(&mut world, 600, NOTHING);
    assert_eq!(world.stage(mac(1)), Some(Stage::Loading));
    peer.ack(&mut world, 1);
    peer.ack(&mut world, 2);
    assert_eq!(world.stage(mac(1)), Some(Stage::Loaded));
    let os = Ask::os(mac(1));
    world.lease(&os);
    assert_eq!(world.stage(mac(1)), Some(Stage::Up));
    peer.begin(&mut world, 600, NOTHING);
    assert_eq!(world.stage(mac(1)), Some(Stage::Up), "a system that fetches a file is still up");
}

proptest! {
    /// Packets, cold disks and time in any order: the window and the state assert what they promise, and the transfer ends in silence.
    #[test]
    fn no_order_of_events_breaks_a_transfer(
        steps in proptest::collection::vec((0u8..6, 0u16..20, 1u64..700), 0..60), windowsize in 1u16..9, window in any::<bool>(),
    ) {
        let mut world = World::settled(&config());
        let mut peer = Peer::leased(&mut world, &Ask::os(mac(1)));
        let options = if window { windows(windowsize) } else { NOTHING };
        peer.begin(&mut world, 6_000, options);
        for (step, block, millis) in steps {
            match step {
                0 | 1 => drop(peer.ack(&mut world, block)),
                2 if peer.ask(&mut world, "vmlinuz", options).last().is_some_and(|word| word == "open vmlinuz") => {
                    peer.opened(&mut world, 6_000);
                }
                2 => {}
                3 => drop(world.handle(Input::Cold { token: peer.token })),
                4 => drop(world.handle(Input::Warm { token: peer.token })),
                _ => drop(peer.wait(&mut world, millis)),
            }
            prop_assert!(world.server.transfers() <= 1);
        }
        peer.wait(&mut world, 62_000);
        prop_assert_eq!(world.server.transfers(), 0);
    }
}
