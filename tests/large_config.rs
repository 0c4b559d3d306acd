//! A section for each of many nodes costs time in proportion: a head with 10,000 of them starts and reloads in a moment.

use std::path::Path;
use std::time::Instant;

use muster::base::addr::Mac;
use muster::base::facts::LinkFacts;
use muster::config::{ConfigText, Flags, System, resolve};

/// A head with one boot interface, that has every file it is asked for.
struct Head([LinkFacts; 1]);

impl System for Head {
    fn links(&self) -> &[LinkFacts] {
        &self.0
    }

    fn exists(&self, _: &Path, _: &str) -> bool {
        true
    }
}

fn file(nodes: u32) -> String {
    let section = |n: u32| {
        let mac = Mac([2, 0, 0, 0, (n >> 8) as u8, n as u8]);
        format!("[[node]]\nnumber = {n}\nmacs = [\"{mac}\"]\n[[for]]\nnodes = \"{n}\"\nargs = \"n={n}\"\n")
    };
    let head = "[[network]]\ninterface = \"eth1\"\n[cluster]\nnodes = 9000\n[server]\ncapacity = 16384\n";
    std::iter::once(head.to_string()).chain((0..nodes).map(section)).collect()
}

/// Seconds to read a file twice and to compare what it says, as a reload does.
fn took(nodes: u32) -> f64 {
    let text = file(nodes);
    let eth1 = LinkFacts { addresses: vec![([10, 54, 0, 1].into(), 16)], ..LinkFacts::ethernet("eth1", 2, Mac([2, 0, 0, 0, 0xff, 1])) };
    let head = Head([eth1]);
    let read = || resolve(Some(ConfigText { path: "m.toml", text: &text }), &Flags::default(), &head).expect("a good config").config;
    let begin = Instant::now();
    assert_eq!(read().listing.difference(&read().listing), Vec::<String>::new());
    begin.elapsed().as_secs_f64()
}

/// Four times as much takes four times as long, and sixteen times where each section is compared with all: the best of three.
#[test]
fn a_file_with_a_section_for_each_node_is_read_in_a_moment() {
    let ratio = (0..3).map(|_| took(8000) / took(2000)).fold(f64::MAX, f64::min);
    assert!(ratio < 9.0, "four times as many sections take {ratio:.1} times as long");
}
