//! TFTP packets (UDP payloads): the codec, and the Server, to which a packet comes on the port for requests and in the middle of a transfer.
#![no_main]

use std::net::SocketAddrV4;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use muster::wire::tftp::{Mode, TftpOptions, Packet, emit_ack, emit_oack, emit_rrq, parse};
use muster_fuzz::{NODE_ADDRESS, World};

fuzz_target!(|bytes: &[u8]| {
    let mut buf = [0; 2048];
    let len = match parse(bytes) {
        Ok(Packet::Request(request)) if !request.write => emit_rrq(&mut buf, request.filename, request.mode, &request.options),
        Ok(Packet::Ack { block }) => emit_ack(&mut buf, block),
        Ok(Packet::Oack(options)) => emit_oack(&mut buf, &options),
        _ => None,
    };
    if let Some(len) = len {
        assert_eq!(parse(&buf[..len]), parse(bytes), "what is written again reads the same");
    }
    let mut world = World::default();
    let src = SocketAddrV4::new(NODE_ADDRESS, 2000);
    world.by_node(src, 69, bytes);
    world.pass(Duration::from_millis(600));
    let options = TftpOptions { blksize: Some(1468), windowsize: Some(4), ..TftpOptions::default() };
    let len = emit_rrq(&mut buf, b"vmlinuz", Mode::Octet, &options).expect("room");
    let src = SocketAddrV4::new(NODE_ADDRESS, 2001);
    world.by_node(src, 69, &buf[..len]);
    for port in 20_069..20_073 {
        world.by_node(src, port, bytes);
    }
    world.pass(Duration::from_secs(2));
    world.by_node(src, 69, bytes);
    world.pass(Duration::from_secs(200));
});
