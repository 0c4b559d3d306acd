//! Real TFTP clients fetch files: tftp-hpa, atftp, curl and busybox.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::musterd::Musterd;
use common::{Host, Lab, Outcome, image, pid, text, wait, write};
use nix::sys::signal::{Signal, killpg};

const SERVER: &str = "10.54.0.1";
/// The ends of a 512-byte block, an even number of blocks, and more than 65,535 of them.
const SIZES: [usize; 7] = [0, 1, 511, 512, 513, 1 << 20, 33 << 20];
const LARGE: usize = 33 << 20;

/// A lab with a server and one client, both with static addresses, and folders for what is served and what is fetched.
struct Bench {
    client: Host,
    root: PathBuf,
    fetched: PathBuf,
    musterd: Musterd,
    _lab: Lab,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Client {
    Hpa,
    Atftp,
    Curl,
    Busybox,
}
const ALL: [Client; 4] = [Client::Hpa, Client::Atftp, Client::Curl, Client::Busybox];

impl Bench {
    fn new() -> Self {
        let mut lab = Lab::new();
        let server = lab.server(&format!("{SERVER}/16"));
        let client = lab.attach("client");
        client.ip("address add 10.54.9.9/16 dev eth0");
        let (root, fetched) = (lab.dir().join("root"), lab.dir().join("fetched"));
        for dir in [&root, &fetched] {
            fs::create_dir(dir).expect("make a folder");
        }
        let musterd = Musterd::plain(&server, &root);
        Self { client, root, fetched, musterd, _lab: lab }
    }

    fn serve(&self, name: &str, bytes: &[u8]) {
        write(&self.root.join(name), bytes);
    }

    /// Where a client puts what it fetches.
    fn target(&self) -> PathBuf {
        self.fetched.join("file")
    }

    /// Fetches a file with options of the client's own; what came is in [`Self::target`].
    fn fetch(&self, client: Client, name: &str, options: &[&str]) -> Outcome {
        let _ = fs::remove_file(self.target());
        let (program, arguments) = self.line(client, name, options);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.client.run(120, &program, &arguments)
    }

    fn line(&self, client: Client, name: &str, options: &[&str]) -> (String, Vec<String>) {
        let target = self.target().display().to_string();
        let url = format!("tftp://{SERVER}/{name}");
        let busybox = image().join("busybox").display().to_string();
        let (program, before, after): (&str, &[&str], &[&str]) = match client {
            Client::Hpa if options.contains(&"ascii") => ("tftp", &["-m"], &[SERVER, "-c", "get", name, &target]),
            Client::Hpa => ("tftp", &["-m", "octet"], &[SERVER, "-c", "get", name, &target]),
            Client::Atftp => ("atftp", &["-g", "-r", name, "-l", &target], &[SERVER, "69"]),
            Client::Curl => ("curl", &["-sS", "--path-as-is", "-o", &target], &[&url]),
            Client::Busybox => (&busybox, &["tftp", "-g", "-r", name, "-l", &target], &[SERVER]),
        };
        let arguments = before.iter().chain(options).chain(after).map(|&word| word.to_owned()).collect();
        (program.to_owned(), arguments)
    }

    fn assert_fetches(&self, client: Client, name: &str, options: &[&str], expected: &[u8]) {
        let outcome = self.fetch(client, name, options);
        let what = format!("{client:?} {options:?} fetching {name}");
        assert!(outcome.ok(), "{what}: {outcome:?}");
        let came = fs::read(self.target()).unwrap_or_default();
        assert!(came == expected, "{what}: {} bytes came that are not the {} of the file", came.len(), expected.len());
    }

    /// The client must be told soon, get nothing of the file, and learn nothing about the server's folders.
    fn assert_refused(&self, client: Client, name: &str) {
        let outcome = self.fetch(client, name, &[]);
        // tftp-hpa leaves with 0 or 1, as the version may be: its output tells.
        let told = !outcome.ok() || outcome.output.contains("Error code");
        assert!(told, "{client:?} was not refused {name}: {outcome:?}");
        assert!(outcome.took < Duration::from_secs(3), "{client:?} was not refused {name} at once: {outcome:?}");
        assert_eq!(text(&self.target()), "", "{client:?} got something for {name}");
        let root = self.root.display().to_string();
        assert!(!outcome.output.contains(&root), "the answer shows the server's own path: {outcome:?}");
    }
}

/// Bytes that repeat nowhere, the same for the same seed.
fn bytes(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

#[test]
fn every_client_fetches_files_of_every_size() {
    let bench = Bench::new();
    let descriptors = bench.musterd.descriptors();
    for size in SIZES {
        let content = bytes(size, 1 + size as u64);
        let name = format!("file-{size}");
        bench.serve(&name, &content);
        for client in ALL {
            // curl takes the exact size of an empty file, 0, for a broken answer: it doesn't ask.
            let options: &[&str] = if client == Client::Curl && size == 0 { &["--tftp-no-options"] } else { &[] };
            bench.assert_fetches(client, &name, options, &content);
        }
    }
    let now = bench.musterd.descriptors();
    assert!(now <= descriptors + SIZES.len(), "28 transfers made {descriptors} descriptors {now}: more than one a file");
}

#[test]
fn the_options_of_each_client_are_honoured() {
    let bench = Bench::new();
    let content = bytes((1 << 20) + 77, 7);
    bench.serve("file", &content);
    for blksize in ["8", "511", "512", "1024", "1428", "1468", "65464"] {
        let content = if blksize == "8" { bytes(40_000, 8) } else { content.clone() };
        bench.serve("file", &content);
        let option = format!("blksize {blksize}");
        bench.assert_fetches(Client::Atftp, "file", &["--option", &option], &content);
        bench.assert_fetches(Client::Curl, "file", &["--tftp-blksize", blksize], &content);
        let busybox = if blksize == "8" { "100" } else { blksize }; // its request has to fit
        bench.assert_fetches(Client::Busybox, "file", &["-b", busybox], &content);
    }
    bench.serve("file", &content);
    for windowsize in ["1", "2", "4", "16", "64"] {
        let option = format!("windowsize {windowsize}");
        bench.assert_fetches(Client::Atftp, "file", &["--option", &option], &content);
        bench.assert_fetches(Client::Atftp, "file", &["--option", "blksize 1428", "--option", &option], &content);
    }
    bench.assert_fetches(Client::Atftp, "file", &["--option", "tsize 0", "--option", "timeout 3"], &content);
    bench.assert_fetches(Client::Curl, "file", &["--tftp-no-options"], &content);
}

#[test]
fn windows_and_wrapping_block_numbers_go_together() {
    let bench = Bench::new();
    let content = bytes(LARGE, 9);
    bench.serve("file", &content);
    bench.assert_fetches(Client::Atftp, "file", &["--option", "blksize 512", "--option", "windowsize 7"], &content);
}

#[test]
fn text_mode_converts_line_ends() {
    let bench = Bench::new();
    // Line ends, lone carriage returns and zeroes at many distances from the ends of blocks.
    let mut content = Vec::new();
    for line in 0..600 {
        content.extend(std::iter::repeat_n(b'x', line % 37));
        content.extend_from_slice([&b"\n"[..], b"\r", b"\r\n", b"\0", b"\n\n"][line % 5]);
    }
    bench.serve("text", &content);
    bench.assert_fetches(Client::Hpa, "text", &["ascii"], &content);
    let mut encoded = Vec::new();
    for byte in &content {
        match byte {
            b'\n' => encoded.extend_from_slice(b"\r\n"),
            b'\r' => encoded.extend_from_slice(b"\r\0"),
            byte => encoded.push(*byte),
        }
    }
    bench.assert_fetches(Client::Curl, "text;mode=netascii", &[], &encoded);
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let bench = Bench::new();
    fs::create_dir(bench.root.join("folder")).expect("make a folder");
    bench.serve("folder/inner", b"inner");
    nix::unistd::mkfifo(&bench.root.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o644)).expect("make a FIFO");
    let _socket = std::os::unix::net::UnixListener::bind(bench.root.join("socket"));
    for client in ALL {
        for name in ["missing", "folder", "folder/missing", "fifo", "folder/inner/x"] {
            bench.assert_refused(client, name);
        }
        bench.assert_fetches(client, "folder/inner", &[], b"inner");
        bench.assert_fetches(client, "/folder//inner", &[], b"inner");
    }
    bench.assert_refused(Client::Hpa, "socket");
}

#[test]
fn nothing_above_the_root_can_be_reached() {
    let bench = Bench::new();
    let above = bench.root.parent().expect("a folder above the root");
    write(&above.join("secret"), b"secret");
    fs::create_dir(bench.root.join("folder")).expect("make a folder");
    bench.serve("inside", b"inside");
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, bench.root.join(name)).expect("make a link");
    link(&above.join("secret"), "absolute");
    link(Path::new("../secret"), "relative");
    link(above, "above");
    link(Path::new("inside"), "good");
    for client in ALL {
        for name in ["../secret", "folder/../../secret", "/../../secret", "absolute", "relative", "above/secret"] {
            bench.assert_refused(client, name);
        }
        bench.assert_fetches(client, "good", &[], b"inside");
    }
    let full = above.join("secret").display().to_string();
    bench.assert_refused(Client::Hpa, &full);
    bench.assert_refused(Client::Busybox, &full);
}

#[test]
fn nothing_can_be_written() {
    let bench = Bench::new();
    bench.serve("kept", b"kept");
    write(&bench.fetched.join("mine"), b"mine");
    let mine = bench.fetched.join("mine").display().to_string();
    let busybox = image().join("busybox").display().to_string();
    let url = format!("tftp://{SERVER}/kept");
    let puts: [(&str, &[&str]); 4] = [
        ("tftp", &["-m", "octet", SERVER, "-c", "put", &mine, "kept"]),
        ("atftp", &["-p", "-l", &mine, "-r", "kept", SERVER, "69"]),
        ("curl", &["-sS", "-T", &mine, &url]),
        (&busybox, &["tftp", "-p", "-l", &mine, "-r", "kept", SERVER]),
    ];
    for (program, arguments) in puts {
        let outcome = bench.client.run(20, program, arguments);
        assert!(!outcome.ok() || outcome.output.contains("Error code"), "{program} was not refused: {outcome:?}");
        assert!(outcome.took < Duration::from_secs(3), "{program} was not refused at once: {outcome:?}");
        assert_eq!(text(&bench.root.join("kept")), "kept");
    }
}

/// Starts a long transfer, stops the client in its middle, does something to the file, lets the client go on and waits for its end.
fn interrupted(bench: &Bench, act: impl FnOnce()) -> bool {
    let (program, arguments) = bench.line(Client::Curl, "file", &[]);
    let mut curl = bench.client.command(&program).args(arguments).spawn().expect("start curl");
    let came = || fs::metadata(bench.target()).map(|data| data.len()).unwrap_or(0);
    wait(20, || (came() > 1 << 20).then_some(())).expect("the transfer begins");
    killpg(pid(&curl), Signal::SIGSTOP).expect("curl runs");
    assert!(came() < LARGE as u64 / 2, "the transfer was too fast for this test");
    act();
    std::thread::sleep(Duration::from_millis(1500));
    killpg(pid(&curl), Signal::SIGCONT).expect("curl waits");
    let status = wait(120, || curl.try_wait().expect("wait for a child of ours"));
    if status.is_none() {
        common::stop(&mut curl, Signal::SIGKILL);
    }
    status.is_some_and(|status| status.success())
}

#[test]
fn a_file_that_is_changed_in_place_ends_its_transfer_with_an_error() {
    let bench = Bench::new();
    let content = bytes(LARGE, 11);
    bench.serve("file", &content);
    let complete = interrupted(&bench, || bench.serve("file", &bytes(LARGE, 12)));
    assert!(!complete, "the transfer of a file that changed must not end well");
    let came = fs::read(bench.target()).unwrap_or_default();
    assert!(content.starts_with(&came), "what came is the old file's beginning, never a mixture");
    bench.assert_fetches(Client::Curl, "file", &["--tftp-blksize", "1428"], &bytes(LARGE, 12));
}

#[test]
fn a_file_that_is_replaced_goes_on_from_the_old_one() {
    let bench = Bench::new();
    let content = bytes(LARGE, 13);
    bench.serve("file", &content);
    let complete = interrupted(&bench, || {
        bench.serve("file.new", b"the new one");
        fs::rename(bench.root.join("file.new"), bench.root.join("file")).expect("rename a file");
        std::thread::sleep(Duration::from_secs(1));
        let target = bench.fetched.join("other").display().to_string();
        let url = format!("tftp://{SERVER}/file");
        bench.client.run(20, "curl", &["-sS", "-o", &target, &url]).must("fetch the new file");
        assert_eq!(text(Path::new(&target)), "the new one", "a new request gets the new file within a second");
    });
    assert!(complete, "the transfer of a file that was replaced goes on");
    assert!(fs::read(bench.target()).unwrap_or_default() == content, "the old file came whole");
}
