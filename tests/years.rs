//! Years of a cluster, by seeds: see `muster::sim::years`. `MUSTER_YEARS=10000 cargo test --release --test years` plays more of them, from seed 0
//! on or from `MUSTER_YEARS_FROM`, and `MUSTER_YEAR=17` one again, with its story.

use muster::sim::years::{YearsOutcome, hostile_year, told, year};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Plays years of many seeds, or of one that is told whole.
fn years(hostile: bool) {
    let (from, only) = (number("MUSTER_YEARS_FROM").unwrap_or(0), number("MUSTER_YEAR"));
    let seeds = only.map_or(from..from + number("MUSTER_YEARS").unwrap_or(200), |seed| seed..seed + 1);
    let play = |seed| match (only, hostile) {
        (Some(_), _) => told(seed, hostile),
        (None, false) => year(seed),
        (None, true) => hostile_year(seed),
    };
    let (mut enlisted, mut crashes, mut failed) = (0, 0, Vec::new());
    for seed in seeds.clone() {
        let YearsOutcome { faults, enlisted: numbers, crashes: times, story, .. } = play(seed);
        if only.is_some() {
            println!("{}", story.join("\n"));
        }
        enlisted += numbers;
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
    years(false);
}

#[test]
fn forged_reports_take_nothing_that_is_a_machines() {
    years(true);
}

#[test]
fn a_year_plays_again_exactly() {
    assert_eq!(year(5), year(5));
    assert_eq!(hostile_year(5), hostile_year(5));
    assert_ne!(year(5).hash, year(6).hash);
    assert_ne!(year(5).hash, hostile_year(5).hash, "the attacker does something");
}
