//! `muster import` against a running `musterd`: what is shown before a change, what the daemon does not take, several files and folders.
//! What becomes of single files is tested beside the program, with the files in `tests/import`.

mod common;

use std::path::{Path, PathBuf};

use common::musterd::Musterd;
use common::{Host, Lab, Outcome, write};
use serde_json::Value;

const SERVER: &str = "10.54.0.1/16";
const CONFIG: &str = "[cluster]\nnode0 = \"10.54.1.0\"\nnodes = 100\nignore = [\"02:00:00:00:99:*\"]\n[[node]]\nnumber = 21\nmacs = [\"02:00:00:00:00:21\"]\n";

fn muster(host: &Host, musterd: &Musterd, arguments: &[&str]) -> Outcome {
    let socket = musterd.run_dir().join("control.sock");
    host.run(20, env!("CARGO_BIN_EXE_muster"), &[&["--socket", socket.to_str().expect("a path of ours")], arguments].concat())
}

/// It ended with this code, and said all of that.
fn says(outcome: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.code, Some(code), "{}", outcome.output);
    for word in words {
        assert!(outcome.output.contains(word), "{word:?} is not in: {}", outcome.output);
    }
}

/// The object that was printed, before what went wrong.
fn object(outcome: &Outcome) -> Value {
    let text = &outcome.output;
    let (from, to) = (text.find('{').unwrap_or(0), text.rfind('}').map_or(text.len(), |at| at + 1));
    serde_json::from_str(&text[from..to]).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    write(&path, text.as_bytes());
    path
}

#[test]
fn one_table_shows_everything_before_anything_changes() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let musterd = Musterd::configured(&server, lab.dir(), CONFIG);
    let ethers = file(
        lab.dir(),
        "ethers",
        "02:00:00:00:00:07 n7\n02:00:00:00:00:21 n20\n02:00:00:00:00:22 n21\n02:00:00:00:99:01 n9\n02:00:00:00:01:07 n7\nx n8\n",
    );
    let ethers = ethers.to_str().expect("a path of ours");
    let shown = muster(&server, &musterd, &["import", ethers, "-n"]);
    let table = [
        "1,5   n7    its name  new     n7       02:00:00:00:00:07 02:00:00:00:01:07",
        "left out (3):",
        "line 2: n20 would be n20: 02:00:00:00:00:21 belongs to n21",
        "line 3: n21 would be n21: another machine has this number",
        "line 6: \"x\" is not a machine's MAC address",
        "no nodes (1):",
        "line 4: 02:00:00:00:99:01: the config ignores it",
        "1 machine would be imported",
        "3 entries of",
    ];
    says(&shown, 1, &table);
    says(&muster(&server, &musterd, &["import", ethers]), 4, &["use -y"]);
    assert!(!muster(&server, &musterd, &["node", "list", "7"]).output.contains("02:00:00:00:00:07"), "nothing has changed yet");

    let done = muster(&server, &musterd, &["import", ethers, "-y", "--json"]);
    assert_eq!(done.code, Some(1), "what the daemon does not take is in the exit status: {}", done.output);
    let done = object(&done);
    assert_eq!((done["dry"].as_bool(), done["count"].as_u64(), done["nodes"].as_str()), (Some(false), Some(1), Some("7")), "{done}");
    assert_eq!((&done["machines"][0]["by"], &done["machines"][0]["change"]), (&"its name".into(), &"new".into()), "{done}");
    assert_eq!((done["left_out"].as_array().map(Vec::len), &done["no_nodes"][0]["line"]), (Some(3), &4.into()), "{done}");

    says(&muster(&server, &musterd, &["import", ethers]), 1, &["no change", "nothing would change"]);
    let card = file(lab.dir(), "card", "02:00:00:00:00:07 n7\n02:00:00:00:02:07 n7\n");
    says(&muster(&server, &musterd, &["import", card.to_str().expect("ours"), "-y"]), 0, &["more cards", "done: 1 machine"]);
    says(&muster(&server, &musterd, &["undo", "-y"]), 0, &["n7"]);
}

#[test]
fn files_and_folders_are_one_import() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let musterd = Musterd::configured(&server, lab.dir(), CONFIG);
    let folder = lab.dir().join("dnsmasq.d");
    std::fs::create_dir(&folder).expect("make a folder");
    file(&folder, "10-main.conf", "interface=eth1\ndhcp-hostsfile=hosts\nconf-file=/nowhere/else.conf\n");
    file(&folder, "hosts", "02:00:00:00:00:01,n1\n02:00:00:00:00:02,n2,10.54.1.2\n");
    file(&folder, "hosts~", "02:00:00:00:00:03,n3\n");
    file(&folder, "README", "Write nothing here by hand.\n");
    let other = file(lab.dir(), "more.csv", "node,mac\nn1,02:00:00:00:01:01\nn3,02:00:00:00:00:02\n");
    let (folder, other) = (folder.to_str().expect("ours"), other.to_str().expect("ours"));
    let shown = muster(&server, &musterd, &["import", folder, other, "-n"]);
    let said = [
        "hosts: read as dnsmasq",
        "more.csv: read as csv",
        "hosts:1,",
        "more.csv:2",
        "02:00:00:00:00:01 02:00:00:00:01:01",
        "more.csv:3: 02:00:00:00:00:02 would be n3, but is n2 (line 2 of another file)",
        "/nowhere/else.conf is included here, and was not read",
        "hosts~ is hidden or a backup, and is not read",
        "README: no machine is in it",
    ];
    says(&shown, 1, &said);
    assert!(!shown.output.contains("hosts is included here"), "the hosts file was given: {}", shown.output);
    let missing = lab.dir().join("missing");
    says(&muster(&server, &musterd, &["import", folder, missing.to_str().expect("ours")]), 1, &["cannot read", "missing"]);
}

#[test]
fn thousands_are_imported_and_shown_once_each() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let musterd = Musterd::configured(&server, lab.dir(), "[cluster]\nnode0 = \"10.54.1.0\"\nnodes = 2048\n");
    let lines: String = (0..2000).map(|n| format!("02:00:00:01:{:02x}:{:02x} n{n}\n", n / 256, n % 256)).collect();
    let ethers = file(lab.dir(), "ethers", &lines);
    let done = muster(&server, &musterd, &["import", ethers.to_str().expect("ours"), "-y"]);
    says(&done, 0, &["done: 2000 machines"]);
    assert_eq!(done.output.lines().filter(|line| line.contains("02:00:00:01:")).count(), 2000);
    says(&muster(&server, &musterd, &["undo", "-y"]), 0, &["done"]);
}
