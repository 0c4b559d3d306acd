//! A boot interface that goes, comes back, comes late, or has another address, in virtual time: see `engine::links`.

use std::net::Ipv4Addr;
use std::time::Duration;

use muster::base::facts::LinkFacts;
use muster::base::time::Instant;
use muster::fleet::{Firmware, Life, Stages, StormPlan, Switch};
use muster::sim::config::{HEAD, KERNEL};
use muster::sim::disk::Habits;
use muster::sim::net::{Odds, Wire};
use muster::sim::swarm::{Storm, Weather, storm};

/// Machines of each of the two crowds, of which the second one gets its power at [`LATER`].
const CROWD: u32 = 100;
const LATER: Duration = Duration::from_secs(20);
const SIZE: u64 = 1 << 20;
const MOVED: Ipv4Addr = Ipv4Addr::new(10, 54, 0, 2);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn rack(seed: u64) -> Storm {
    let plan = StormPlan {
        count: 2 * CROWD as usize,
        first: 1,
        lives: vec![Life::of(Firmware::Rom, 2 * CROWD, Stages::default(), 0)],
        names: vec![KERNEL.into()],
        power: vec![Switch { at: LATER, who: CROWD..2 * CROWD, on: true }],
        seed,
        ..StormPlan::default()
    };
    let wire = Wire { rate: 100_000_000, odds: Odds::NONE, ..Wire::GIGABIT };
    storm(seed, &plan, &Weather { wire, habits: Habits::default(), strangers: u32::MAX }, SIZE)
}

fn at(seconds: f64) -> Instant {
    Instant::ZERO + Duration::from_secs_f64(seconds)
}

fn is(rack: &Storm) -> LinkFacts {
    rack.interface().expect("an interface").clone()
}

fn with_address(rack: &Storm, address: Ipv4Addr) -> LinkFacts {
    LinkFacts { addresses: vec![(address, 16)], ..is(rack) }
}

/// How many of each crowd are up once all have ended.
fn up(rack: &mut Storm) -> [u64; 2] {
    assert!(rack.run(at(300.0), |rack| rack.clients().done()), "it does not end");
    let violations = &rack.findings().violations;
    assert!(violations.is_empty(), "{violations:?}");
    [0..CROWD, CROWD..2 * CROWD].map(|who| rack.clients().crowd(who).up as u64)
}

#[test]
fn an_interface_that_is_away_for_a_moment_costs_nobody_the_boot() {
    for seed in 0..4 {
        let mut rack = rack(seed);
        rack.until(at(1.0));
        let running = rack.server().transfers();
        assert!(running > 0, "the first crowd loads");
        let facts = is(&rack);
        rack.set_interface(None);
        rack.until(at(3.0));
        assert!(rack.server().transfers() > 0, "transfers wait for their link");
        // The same interface made anew: another index, another MAC.
        let mac = muster::base::addr::Mac([2, 0x54, 0, 0, 0, 9]);
        rack.set_interface(Some(LinkFacts { index: facts.index + 1, mac, ..facts }));
        assert_eq!(up(&mut rack), [u64::from(CROWD); 2], "seed {seed}");
    }
}

#[test]
fn machines_are_served_as_soon_as_a_late_interface_is_there() {
    let mut rack = rack(1);
    let facts = is(&rack);
    rack.until(Instant::ZERO);
    rack.set_interface(None);
    rack.until(at(5.0));
    assert_eq!(rack.findings().leases, 0, "there is no way to anybody");
    rack.set_interface(Some(facts));
    assert_eq!(up(&mut rack), [u64::from(CROWD); 2], "ROMs ask for longer than that");
}

#[test]
fn another_address_is_the_heads_in_every_answer_from_then_on() {
    let mut rack = rack(2);
    rack.until(at(1.0));
    assert!(rack.server().transfers() > 0, "the first crowd loads");
    let moved = with_address(&rack, MOVED);
    rack.set_interface(Some(moved));
    rack.until(at(1.1));
    assert_eq!(rack.server().transfers(), 0, "nobody goes on with an address that nobody has");
    assert_eq!(rack.server().config().links[0].head, MOVED);
    let path = rack.server().config().server.state_dir.join("names");
    let names = rack.clerk().file(&path.to_string_lossy()).expect("the names were published");
    assert!(names.contains(&MOVED.to_string()) && !names.contains(&HEAD.to_string()), "{names}");
    let [_, later] = up(&mut rack);
    assert_eq!(later, u64::from(CROWD), "who boots later knows nothing of the old address");
}

#[test]
fn with_an_address_that_does_not_fit_nothing_leaves_until_it_fits_again() {
    let mut rack = rack(3);
    rack.until(at(1.0));
    let (good, bad) = (is(&rack), with_address(&rack, ELSEWHERE));
    rack.set_interface(Some(bad));
    rack.until(at(1.1));
    assert_eq!(rack.server().transfers(), 0);
    let (leases, now) = (rack.findings().leases, rack.now().at);
    rack.until(at(15.0));
    assert_eq!(rack.findings().leases, leases, "since {now:?}");
    rack.set_interface(Some(good));
    let [_, later] = up(&mut rack);
    assert_eq!(later, u64::from(CROWD));
    assert_eq!(rack.server().config().links[0].head, HEAD);
}
