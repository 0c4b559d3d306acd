//! Power flickers in virtual time: see `muster::sim::flicker`. `MUSTER_FLICKERS=1000 cargo test --release --test flicker drawn` plays so many more, from seed
//! `MUSTER_FLICKER` on; `MUSTER_FLICKERS=1 MUSTER_FLICKER=17` plays one again.

use muster::sim::flicker::{COUNTS, Flicker, FlickerKind, FlickerOutcome, KINDS, RATES};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Plays all; fails with every fault.
fn hold(flickers: impl IntoIterator<Item = Flicker>) {
    let (mut played, mut interrupted, mut failed) = (0, 0, Vec::new());
    for flicker in flickers {
        let outcome = flicker.run();
        println!("{}: {outcome}", flicker.title());
        played += 1;
        interrupted += outcome.interrupted;
        if !outcome.faults.is_empty() {
            failed.push(format!("{}:\n  {}", flicker.title(), outcome.faults.join("\n  ")));
        }
    }
    assert!(interrupted > 0, "nobody's power went in the middle of a boot: nothing was tried");
    assert!(failed.is_empty(), "{} of {played} flickers:\n{}", failed.len(), failed.join("\n"));
}

/// On a slow link, which takes less time to play.
fn same(kind: FlickerKind, count: u32, seed: u64) -> Flicker {
    Flicker { dead: kind, living: kind, count, rate: RATES[0], seed }
}

#[test]
fn a_hundred_that_die_cost_the_living_nothing() {
    hold(KINDS.map(|kind| same(kind, 100, 1)));
}

/// Those that acknowledge whole windows leave the most behind.
#[test]
fn any_number_that_die_in_a_window_cost_the_living_nothing() {
    let windows = KINDS.into_iter().filter(|kind| kind.name.starts_with("edk2"));
    hold(windows.flat_map(|kind| COUNTS.map(|count| same(kind, count, 2))));
}

#[test]
fn nine_hundred_that_die_cost_the_living_nothing() {
    let kinds = KINDS.into_iter().filter(|kind| ["rom", "grub", "pxelinux", "mix"].contains(&kind.name));
    hold(kinds.map(|kind| same(kind, 900, 3)));
}

/// Who came back asked from the same port for the same file as before, and the server took that for a copy of the request that it knew: six
/// machines got a block of what they had forgotten, longer than what they had agreed to by then.
#[test]
fn a_request_after_the_cut_is_no_copy_of_the_one_before() {
    hold([Flicker::drawn(1_795_778_056)]);
}

#[test]
fn flickers_drawn_from_seeds() {
    let first = number("MUSTER_FLICKER").unwrap_or(0);
    let count = number("MUSTER_FLICKERS").unwrap_or(3);
    hold((first..first + count).map(Flicker::drawn));
}

#[test]
fn the_same_seed_flickers_again_exactly() {
    let play = |seed| -> FlickerOutcome { same(KINDS[0], 20, seed).run() };
    assert_eq!(play(7), play(7));
    assert_ne!(play(7).hash, play(8).hash);
}
