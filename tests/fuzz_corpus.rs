//! The corpus of `fuzz/` through the Server, and the world that the fuzz targets share, which no other build looks at.

#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code)]
mod muster_fuzz;

use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;

use muster::config::System;
use muster_fuzz::{Head, NODE_ADDRESS, World};

/// Does something with each input of a target; gives how many there are.
fn each(target: &str, mut act: impl FnMut(&mut World, &[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(folder).expect("a corpus").flatten().map(|entry| entry.path()).collect();
    inputs.sort();
    for input in &inputs {
        let mut world = World::default();
        world.pass(Duration::from_secs(2));
        act(&mut world, &fs::read(input).expect("an input"));
        world.pass(Duration::from_secs(60));
    }
    inputs.len()
}

#[test]
fn the_corpus_is_survived() {
    let node = |port| SocketAddrV4::new(NODE_ADDRESS, port);
    assert!(each("dhcp", |world, bytes| world.by_node(node(68), 67, bytes)) > 20);
    assert!(each("tftp", |world, bytes| world.by_node(node(2000), 69, bytes)) > 5);
    let asked = each("dns", |world, bytes| {
        world.ask(bytes);
        world.answer(bytes);
    });
    assert!(asked > 5);
    assert!(each("control", |world, bytes| bytes.split(|byte| *byte == b'\n').for_each(|line| world.operate(line))) > 10);
    assert!(each("server", |world, bytes| world.frame(bytes.get(4..).unwrap_or_default())) > 0);
    assert_eq!(Head::default().links().len(), 2);
}
