//! Files that are in no folder: made for whoever asks, unless the root has one of the name.

use super::*;
use crate::config::Override;
use crate::roll::plan::Number;

/// Asks for a name that the root does not have. None: the answer is that there is none; else the text, which is taken as it comes.
fn fetch(world: &mut World, peer: &mut Peer, name: &str, options: TftpOptions) -> Option<String> {
    assert_eq!(peer.ask(world, name, options), [format!("open {}", name.trim_start_matches('/'))], "the root is asked first");
    let got = world.handle(Input::Opened { token: peer.token, answer: Err(OpenError::NotFound) });
    match &peer.hear(&got)[..] {
        [refusal] if refusal.starts_with("error 1 ") => return None,
        [oack] if oack.starts_with("oack") => {}
        other => assert!(options == NOTHING && other[0].starts_with("data 1"), "{other:?}"),
    }
    let mut text = Vec::new();
    for block in u16::from(options == NOTHING).. {
        let bodies = if block == 1 && text.is_empty() && options == NOTHING {
            got.clone()
        } else {
            ack(world, peer, block - u16::from(options == NOTHING))
        };
        let [Got::Datagram { body, .. }] = &bodies[..] else { break };
        text.extend_from_slice(&body[4..]);
    }
    Some(String::from_utf8(text).unwrap())
}

fn ack(world: &mut World, peer: &Peer, block: u16) -> Vec<Got> {
    let mut buf = [0; 4];
    tftp::emit_ack(&mut buf, block).unwrap();
    let dst = SocketAddrV4::new(HEAD, peer.port);
    world.datagram(0, None, (peer.src, dst), &buf)
}

const SIZES: TftpOptions = TftpOptions { blksize: Some(1024), tsize: Some(0), timeout: None, windowsize: None };

#[test]
fn the_ipxe_script_is_made_for_whoever_asks() {
    let mut world = World::settled(&config());
    let mut peer = Peer::leased(&mut world, &Ask::ipxe(mac(17)));
    assert_eq!(peer.ask(&mut world, "muster.ipxe", SIZES), ["open muster.ipxe"]);
    let told = peer.missing(&mut world);
    let size: usize = told[0].strip_prefix("oack blksize=1024 tsize=").and_then(|size| size.parse().ok()).unwrap();
    world.advance(1_000);
    let script = fetch(&mut world, &mut peer, "/muster.ipxe", TftpOptions { windowsize: Some(8), ..SIZES }).unwrap();
    assert_eq!(script.len(), size);
    assert!(script.starts_with("#!ipxe\n"), "{script}");
    assert!(script.contains("kernel tftp://10.54.0.1/vmlinuz initrd=initrd.img console=ttyS0 muster.node=17 "), "{script}");
    assert_eq!(world.count(Counter::TftpDone), 1);
}

/// Between its lease and its script the daemon was restarted: the address says the number, and the frame that it is the machine.
#[test]
fn a_node_that_nobody_has_seen_since_a_restart_gets_its_files() {
    let mut world = World::settled(&config());
    let at = |mac| Peer { mac: Some(mac), ..Peer::at(Ipv4Addr::new(10, 54, 1, 17)) };
    let script = fetch(&mut world, &mut at(mac(117)), "muster.ipxe", SIZES).expect("a script");
    assert!(script.contains("muster.node=17 "), "{script}");
    let mut world = World::settled(&config());
    assert_eq!(fetch(&mut world, &mut at(mac(99)), "muster.ipxe", SIZES), None, "somebody else at its address");
    assert_eq!(
        fetch(&mut world, &mut Peer { mac: Some(mac(17)), ..Peer::at(Ipv4Addr::new(10, 54, 1, 23)) }, "muster.ipxe", SIZES),
        None,
        "at another's"
    );
}

/// What pxelinux and GRUB ask for, in their order: the last name is the one that is made.
#[test]
fn only_the_last_name_of_a_series_is_made() {
    let uuid = "b8945908-d6a6-41a9-611d-74a6ab80b83d";
    let address = "0A360111";
    for (before, last) in [
        ("pxelinux.cfg/", "pxelinux.cfg/default"),
        ("bios/pxelinux.cfg/", "bios/pxelinux.cfg/default"),
        ("/grub/grub.cfg-", "/grub/grub.cfg"),
    ] {
        let mut world = World::settled(&config());
        let mut peer = Peer::leased(&mut world, &Ask::rom(mac(17)));
        let tails = (1..=8).rev().map(|len| &address[..len]);
        for name in [uuid, "01-02-00-00-00-00-11"].into_iter().chain(tails) {
            assert_eq!(fetch(&mut world, &mut peer, &format!("{before}{name}"), SIZES), None, "{name}");
        }
        let text = fetch(&mut world, &mut peer, last, SIZES).unwrap();
        assert!(text.starts_with("# made by musterd for n17\n") && text.contains("muster.node=17"), "{text}");
        assert_eq!(fetch(&mut world, &mut peer, last, NOTHING), Some(text), "in blocks of 512, too");
        assert_eq!(world.count(Counter::TftpNotFound), 10);
    }
}

#[test]
fn a_real_file_goes_before_a_made_one() {
    for name in ["muster.ipxe", "grub/grub.cfg", "pxelinux.cfg/default"] {
        let mut world = World::settled(&config());
        let mut peer = Peer::leased(&mut world, &Ask::ipxe(mac(17)));
        assert_eq!(peer.ask(&mut world, name, NOTHING), [format!("open {name}")]);
        assert_eq!(peer.opened(&mut world, 100), ["data 1..1 100B"]);
        assert_eq!(peer.ack(&mut world, 1), ["close 7"]);
        // One that cannot be read is not replaced either: that would hide a mistake.
        for (refusal, answer) in [(OpenError::Denied, "error 2 permission denied"), (OpenError::NotAFile, "error 2 not a regular file")] {
            peer.ask(&mut world, name, NOTHING);
            let got = world.handle(Input::Opened { token: peer.token, answer: Err(refusal) });
            assert_eq!(peer.hear(&got), [answer]);
        }
    }
}

#[test]
fn guests_have_no_number_and_strangers_no_file() {
    let mut world = World::settled(&config());
    let mut guest = Peer::leased(&mut world, &Ask::rom(mac(1)));
    let text = fetch(&mut world, &mut guest, "grub/grub.cfg", SIZES).unwrap();
    assert!(text.starts_with("# made by musterd for a guest\n") && text.contains("'muster.node=-'"), "{text}");
    assert_eq!(fetch(&mut world, &mut Peer::new(), "grub/grub.cfg", SIZES), None, "DHCP does not know it");
    let mut bare = config();
    bare.boot.kernel = None;
    let mut world = World::settled(&bare);
    let mut node = Peer::leased(&mut world, &Ask::rom(mac(17)));
    for name in ["muster.ipxe", "grub/grub.cfg", "pxelinux.cfg/default"] {
        assert_eq!(fetch(&mut world, &mut node, name, SIZES), None, "there is no kernel");
    }
    assert_eq!(world.server.transfers(), 0);
}

#[test]
fn a_section_for_some_numbers_is_in_their_texts_only() {
    let mut config = config();
    let nodes = vec![(Number(20), Number(30))];
    let (kernel, args) = (Some("vmlinuz-rt".into()), Some("role=rt".into()));
    config.overrides =
        vec![Override { nodes, program: vec![], script: None, kernel, initrd: Some(vec![]), args, lease: None, options: vec![] }];
    let mut world = World::settled(&config);
    for (n, append) in
        [(17, "LINUX ::vmlinuz\nAPPEND initrd=::initrd.img console=ttyS0 muster.node=17\n"), (23, "LINUX ::vmlinuz-rt\nAPPEND role=rt\n")]
    {
        let mut peer = Peer::leased(&mut world, &Ask::rom(mac(n)));
        let text = fetch(&mut world, &mut peer, "pxelinux.cfg/default", SIZES).unwrap();
        assert!(text.ends_with(append), "{text}");
    }
}

#[test]
fn a_made_text_is_the_same_in_netascii() {
    let mut world = World::settled(&config());
    let mut peer = Peer::leased(&mut world, &Ask::rom(mac(17)));
    let text = fetch(&mut world, &mut peer, "grub/grub.cfg", SIZES).unwrap();
    assert_eq!(peer.ask_in(&mut world, "grub/grub.cfg", Mode::Netascii, SIZES), ["open grub/grub.cfg"]);
    assert_eq!(peer.missing(&mut world), [format!("oack blksize=1024 tsize={}", text.len())]);
    assert_eq!(peer.ack(&mut world, 0), [format!("data 1..1 {}B", text.len())]);
    assert_eq!((peer.ack(&mut world, 1), world.server.transfers()), (vec![], 0));
}
