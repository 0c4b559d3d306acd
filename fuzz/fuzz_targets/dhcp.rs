//! DHCP messages (UDP payloads): the parser, and the Server that takes them, as a client's and as another server's.
#![no_main]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use muster::wire::dhcp::{MessageBuilder, Scratch, SubOptions, code, parse};
use muster_fuzz::{NODE_ADDRESS, World};

fuzz_target!(|bytes: &[u8]| {
    let mut scratch = Scratch::default();
    if let Ok(message) = parse(bytes, &mut scratch) {
        let options: Vec<(u8, &[u8])> = (1..=254).filter_map(|code| message.option(code).map(|value| (code, value))).collect();
        if let Some(value) = message.option(code::RELAY_AGENT_INFO) {
            SubOptions(value).count();
        }
        // What is written again reads the same.
        let mut buf = [0; 4096];
        let size = buf.len();
        let Some(mut builder) = MessageBuilder::new(&mut buf, &message.header, size) else { return };
        let written: Vec<bool> = options.iter().map(|(code, value)| *code == code::OVERLOAD || builder.option(*code, value)).collect();
        let len = builder.finish(None);
        let mut scratch = Scratch::default();
        let again = parse(&buf[..len], &mut scratch).expect("a message of our own");
        for ((code, value), written) in options.iter().zip(written) {
            assert!(!written || *code == code::OVERLOAD || again.option(*code) == Some(value), "option {code}");
        }
    }
    let mut scratch = Scratch::default();
    if parse(bytes, &mut scratch).is_err() {
        return;
    }
    let mut world = World::default();
    world.pass(Duration::from_secs(2));
    let nobody = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let (node, other) = (SocketAddrV4::new(NODE_ADDRESS, 68), SocketAddrV4::new([10, 54, 0, 9].into(), 67));
    for (src, port) in [(nobody, 67), (nobody, 67), (node, 67), (other, 68)] {
        world.by_node(src, port, bytes);
        world.pass(Duration::from_millis(300));
    }
    world.pass(Duration::from_secs(100));
});
