//! A node's report: the value of the report option.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::wire::report::{LEN_MAX, Report};

fuzz_target!(|bytes: &[u8]| {
    let Some(report) = Report::parse(bytes) else { return };
    let mut buf = [0; LEN_MAX];
    let len = report.write(&mut buf).expect("room for every report");
    assert_eq!(Report::parse(&buf[..len]), Some(report), "what is written again reads the same");
});
