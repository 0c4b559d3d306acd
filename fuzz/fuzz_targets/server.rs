//! Frames of a boot network, one after the other: each has its length before it, in two octets, and the time since the one before, in two
//! octets of milliseconds.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use muster_fuzz::World;

fuzz_target!(|bytes: &[u8]| {
    let mut world = World::default();
    world.pass(Duration::from_secs(2));
    let mut rest = bytes;
    for _ in 0..64 {
        let Some((&[a, b, c, d], more)) = rest.split_first_chunk::<4>() else { return };
        let (len, wait) = (usize::from(u16::from_be_bytes([a, b])), u16::from_be_bytes([c, d]));
        let (frame, more) = more.split_at(len.min(more.len()));
        world.pass(Duration::from_millis(wait.into()));
        world.frame(frame);
        rest = more;
    }
    world.pass(Duration::from_secs(60));
});
