//! Lines of an operator's: each is read and, by a Server, done.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use muster::wire::control::{LINE_MAX, read, write};
use muster_fuzz::World;

fuzz_target!(|bytes: &[u8]| {
    let lines = || bytes.split(|byte| *byte == b'\n').take(8).filter(|line| line.len() < LINE_MAX);
    if lines().all(|line| read(line).is_err()) {
        return;
    }
    let mut world = World::default();
    let mut buf = vec![0; LINE_MAX];
    for line in lines() {
        if let Ok(request) = read(line) {
            if let Some(len) = write(&mut buf, &request) {
                assert_eq!(read(&buf[..len]), Ok(request), "what is written again reads the same");
            }
        }
        world.operate(line);
        world.pass(Duration::from_millis(200));
    }
});
