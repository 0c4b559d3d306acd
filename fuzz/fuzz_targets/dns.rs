//! DNS messages: the codec, and the Server, to which a message comes as a client's query and as an upstream's answer.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use muster::wire::dns::{parse, parse_response, write_query};
use muster_fuzz::World;

fuzz_target!(|bytes: &[u8]| {
    let mut buf = [0; 2048];
    if let Ok(query) = parse(bytes) {
        if let Some(len) = write_query(&mut buf, 7, &query) {
            let again = parse(&buf[..len]).expect("a query of our own");
            let (one, other) = (query.question.expect("it was written"), again.question.expect("a question"));
            assert!(again.sound && one.is(&other), "what is written again reads the same");
        }
    }
    if parse(bytes).is_err() && parse_response(bytes).is_none() {
        return;
    }
    let mut world = World::default();
    world.ask(bytes);
    world.answer(bytes);
    world.pass(Duration::from_secs(10));
});
