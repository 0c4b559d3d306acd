//! Years of a cluster, by seeds: see `muster::sim::years`. `MUSTER_YEARS=10000 cargo test --release --test years` plays more of them, and
//! `MUSTER_YEAR=17` one again.

use muster::sim::years::{Outcome, hostile_year, year};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Plays years of many seeds, or of one that is told whole.
fn years(play: impl Fn(u64) -> Outcome) {
    let seeds = match number("MUSTER_YEAR") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MUSTER_YEARS").unwrap_or(200),
    };
    let (mut enlisted, mut crashes, mut failed) = (0, 0, Vec::new());
    for seed in seeds.clone() {
        let Outcome { faults, enlisted: told, crashes: times, story, .. } = play(seed);
        if seeds.end - seeds.start == 1 {
            println!("{}", story.join("\n"));
        }
        enlisted += told;
        crashes += times;
        failed.extend(faults.into_iter().map(|fault| format!("seed {seed}: {fault}")));
    }
    assert!(failed.is_empty(), "{} of {} years:\n{}", failed.len(), seeds.end - seeds.start, failed.join("\n"));
    if seeds.end - seeds.start >= 100 {
        assert!(enlisted > 500 && crashes > 500, "{enlisted} machines got a number, {crashes} crashes: nothing was tried");
    }
}

#[test]
fn nothing_promised_is_forgotten_and_nobody_is_two() {
    years(year);
}

#[test]
fn forged_reports_take_nothing_that_is_a_machines() {
    years(hostile_year);
}

#[test]
fn a_year_plays_again_exactly() {
    assert_eq!(year(5), year(5));
    assert_eq!(hostile_year(5), hostile_year(5));
    assert_ne!(year(5).hash, year(6).hash);
    assert_ne!(year(5).hash, hostile_year(5).hash, "the attacker does something");
}
