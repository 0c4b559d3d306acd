//! Conversations in virtual time: what each kind of client is told, in which state, and how it reaches it.

mod flood;
mod forged;
mod giving;
mod leases;
mod moves;
mod numbers;
mod routes;

use super::*;
use crate::base::addr::Mac;
use crate::base::machine::Input;
use crate::base::outbox::Via;
use crate::config::Config;
use crate::engine::testing::*;
use crate::roll::plan::Number;
use crate::roll::stage::Stage;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;
use wire::Header;

use crate::wire::dhcp as wire;
use crate::wire::dhcp::code;

const NODE_17: Ipv4Addr = ip(10, 54, 1, 17);
const NODE_23: Ipv4Addr = ip(10, 54, 1, 23);
const ACK: Option<MessageType> = Some(MessageType::Ack);
const NAK: Option<MessageType> = Some(MessageType::Nak);
const OFFER: Option<MessageType> = Some(MessageType::Offer);

#[test]
fn a_stranger_waits_for_its_addresss_probe() {
    let mut world = World::new(&config());
    let got = world.silence(&Ask::rom(mac(1)).discover());
    let [Got::Probe(probed)] = got[..] else { panic!("{got:?}") };
    assert!(is_guest(probed));
    assert!(only_reply(&world.advance(98)).is_none(), "held until nobody answered");
    assert_eq!(world.stage(mac(1)), Some(Stage::Probing));
    let offer = only_reply(&world.advance(4)).expect("the held DISCOVER is answered");
    assert_eq!((offer.kind, offer.yiaddr(), offer.header.xid), (OFFER, probed, 0x1234_5678));
    assert_eq!(world.stage(mac(1)), Some(Stage::Offered));
}

#[test]
fn an_impatient_stranger_has_one_answer() {
    let mut world = World::new(&config());
    world.silence(&Ask::rom(mac(1)).discover());
    world.advance(50);
    let mut again = Ask::rom(mac(1)).discover();
    again.header.xid = 99;
    world.silence(&again);
    let offer = only_reply(&world.advance(150)).expect("one offer for both");
    assert_eq!(offer.header.xid, 99, "the newer DISCOVER is answered");
}

#[test]
fn a_vetted_address_is_offered_at_once() {
    let mut world = World::settled(&config());
    let offer = world.reply(&Ask::rom(mac(1)).discover());
    assert!(is_guest(offer.yiaddr()));
    assert_eq!((offer.seconds(code::LEASE_TIME), offer.option(code::SERVER_ID)), (Some(600), Some(&HEAD.octets()[..])));
    assert_eq!(world.reply(&Ask::rom(mac(1)).discover()).yiaddr(), offer.yiaddr(), "asked twice, the same");
    assert_eq!(world.lease(&Ask::rom(mac(1))), offer.yiaddr());
}

#[test]
fn a_known_node_has_the_address_of_its_number() {
    let mut world = World::new(&config());
    let offer = world.reply(&Ask::rom(mac(17)).discover());
    assert_eq!((offer.yiaddr(), offer.seconds(code::LEASE_TIME)), (NODE_17, Some(3600)));
    assert_eq!(world.lease(&Ask::rom(mac(23))), NODE_23);
}

#[test]
fn a_rom_is_told_what_it_needs_to_ask_nobody_else() {
    let mut world = World::new(&config());
    let offer = world.reply(&Ask::rom(mac(17)).discover());
    let ack = world.reply(&Ask::rom(mac(17)).select(NODE_17));
    for reply in [offer, ack] {
        assert_eq!((reply.header.siaddr, reply.file.as_str()), (HEAD, "undionly.kpxe"));
        assert_eq!((reply.header.op, reply.header.secs, reply.header.hops), (2, 0, 0), "secs are the client's");
        assert_eq!(reply.option(code::VENDOR_CLASS), Some(&b"PXEClient"[..]));
        assert_eq!(reply.option(code::VENDOR_SPECIFIC), Some(&[6, 1, 8, 255][..]), "no discovery: load the file");
        assert_eq!(reply.option(code::MACHINE_UUID), Some(&MACHINE_UUID[..]));
        assert_eq!(reply.option(code::TFTP_SERVER), Some(&b"10.54.0.1"[..]));
        assert_eq!(reply.option(code::BOOTFILE), Some(&b"undionly.kpxe\0"[..]), "with its NUL");
    }
}

#[test]
fn the_program_is_picked_by_the_architecture() {
    let table = [
        (0, "undionly.kpxe", "PXEClient"),
        (7, "snponly.efi", "PXEClient"),
        (9, "snponly.efi", "PXEClient"),
        (11, "snponly-arm64.efi", "PXEClient"),
        (41, "bootcode.bin", "PXEClient"),
    ];
    for (arch, file, class) in table {
        let mut world = World::new(&config());
        let offer = world.reply(&Ask::firmware(mac(17), arch).discover());
        assert_eq!(offer.file, file, "arch {arch}");
        assert_eq!(offer.option(code::VENDOR_CLASS), Some(class.as_bytes()));
    }
    let mut world = World::new(&config());
    let riscv = world.reply(&Ask::firmware(mac(17), 27).discover());
    assert_eq!((riscv.file.as_str(), riscv.header.siaddr, riscv.option(60)), ("", Ipv4Addr::UNSPECIFIED, None), "no program for it");
    for code in [1, 2, 3, 8, 0x0c, 0x0e, 0x17, 0x19, 0x1f, 0x22, 0x25, 0x28] {
        let (mut world, unknown) = (World::new(&config()), Ask::firmware(mac(17), code));
        assert_eq!(world.reply(&unknown.discover()).file, "", "architecture {code}: another one's program would hang it");
        let http = unknown.with(code::VENDOR_CLASS, b"HTTPClient:Arch:00040:UNDI:003001");
        assert_eq!(world.reply(&http.discover()).option(code::BOOTFILE), None, "architecture {code} by HTTP");
    }
    let both = Ask::firmware(mac(17), 0).with(code::ARCHITECTURE, &[0, 0x28, 0, 7]);
    assert_eq!(World::new(&config()).reply(&both.discover()).file, "snponly.efi", "RFC 4578 allows a list");
    let http = Ask::firmware(mac(23), 16).with(code::VENDOR_CLASS, b"HTTPClient:Arch:00016:UNDI:003001");
    let offer = world.reply(&http.discover());
    assert_eq!((offer.file.as_str(), offer.option(60)), ("", Some(&b"HTTPClient"[..])));
    assert_eq!(offer.option(code::BOOTFILE), Some(&b"http://10.54.0.1/snponly.efi"[..]));
}

#[test]
fn a_raspberry_pi_is_known_by_its_mac() {
    let mut world = World::settled(&config());
    let pi = Mac([0xb8, 0x27, 0xeb, 0, 0, 1]);
    let offer = world.reply(&Ask::rom(pi).discover());
    assert_eq!(offer.file, "bootcode.bin");
    let menu = offer.option(code::VENDOR_SPECIFIC).expect("option 43");
    assert!(menu.windows(17).any(|part| part == b"Raspberry Pi Boot"));
    for newer in [Ask::rom(Mac([0x88, 0xa2, 0x9e, 0, 0, 1])), Ask::rom(mac(17)).with(code::MACHINE_UUID, b"\0RPi5\x11\x22\x33\x44\x55\x66")]
    {
        assert_eq!(World::settled(&config()).reply(&newer.discover()).file, "bootcode.bin");
    }
}

/// A ROM that leaves option 60 out of its REQUEST is the ROM that was made the offer.
#[test]
fn a_brief_request_is_answered_as_its_discover() {
    for firmware in [Ask::rom(mac(17)), Ask::rom(Mac([0xdc, 0xa6, 0x32, 0, 0, 0x11]))] {
        let mut world = World::settled(&config());
        let offer = world.reply(&firmware.discover());
        let mut brief = firmware.select(offer.yiaddr());
        brief.options.retain(|(option, _)| ![code::VENDOR_CLASS, code::ARCHITECTURE].contains(option));
        let ack = world.reply(&brief);
        assert_eq!((&ack.file, ack.header.siaddr), (&offer.file, HEAD));
        for option in [43, 60, 66, 67] {
            assert_eq!(ack.option(option), offer.option(option), "option {option}");
        }
        let kind = world
            .server
            .roll()
            .find(&crate::roll::client::Identity::Mac(firmware.mac))
            .and_then(|key| world.server.roll().get(key))
            .unwrap()
            .evidence
            .kind();
        assert_ne!(kind, crate::roll::kind::FirmwareKind::Other, "its habits are known to TFTP");
    }
}

#[test]
fn firmware_is_known_by_what_it_asks_for() {
    let program = |ask: &Ask| World::new(&config()).reply(&ask.discover()).file;
    let rom = Ask::rom(mac(17));
    assert_eq!(program(&rom.with(code::VENDOR_CLASS, b"PXE UROOT")), "undionly.kpxe");
    let mut silent = rom.clone();
    silent.options.retain(|(option, _)| *option != code::VENDOR_CLASS);
    assert_eq!(program(&silent), "undionly.kpxe", "it tells its architecture, and asks for a program");
    assert_eq!(program(&silent.with(code::PARAMETER_LIST, &[1, 3])), "");
    for class in [&b"xNBA"[..], b"\x04xNBA"] {
        assert_eq!(program(&rom.with(code::USER_CLASS, class)), "muster.ipxe", "xCAT's iPXE: its own program would be an endless loop");
    }
    let mut ieee = rom.clone();
    ieee.header.htype = 6;
    assert_eq!(program(&ieee), "undionly.kpxe");
}

/// Option 43 for access points is no reason for UEFI to find no server (PXE-E16).
#[test]
fn the_operators_option_43_leaves_firmware_its_own() {
    let mut own = config();
    own.networks[0].options = vec![(43, vec![0xf1, 4, 10, 0, 0, 9])];
    let told = |ask: Ask| World::new(&own).reply(&ask.discover()).option(43).map(<[u8]>::to_vec);
    assert_eq!(told(Ask::firmware(mac(17), 7)), Some(vec![6, 1, 8, 0xf1, 4, 10, 0, 0, 9]));
    assert_eq!(told(Ask::os(mac(17))), Some(vec![0xf1, 4, 10, 0, 0, 9]));
    own.networks[0].options = vec![(43, vec![6, 1, 3, 255])];
    let told = |ask: Ask| World::new(&own).reply(&ask.discover()).option(43).map(<[u8]>::to_vec);
    assert_eq!(told(Ask::firmware(mac(17), 7)), Some(vec![6, 1, 3, 255]), "who sets it means it");
}

#[test]
fn ipxe_gets_the_script_and_waits_for_no_proxy() {
    for class in [b"iPXE".as_slice(), b"\x04iPXE"] {
        let mut world = World::new(&config());
        let offer = world.reply(&Ask::rom(mac(17)).with(code::USER_CLASS, class).discover());
        assert_eq!((offer.file.as_str(), offer.header.siaddr), ("muster.ipxe", HEAD));
        assert_eq!(offer.option(code::ETHERBOOT), Some(&[176, 1, 1][..]));
    }
    let mut own = config();
    own.boot.script = Some("boot.ipxe".into());
    let mut world = World::new(&own);
    assert_eq!(world.reply(&Ask::ipxe(mac(17)).discover()).file, "boot.ipxe", "the operator's script");
}

#[test]
fn an_operating_system_gets_an_address_and_no_program() {
    let mut world = World::new(&config());
    let os = Ask::os(mac(17)).with(code::PARAMETER_LIST, &[1, 3, 6, 12, 15, 66, 67]);
    let offer = world.reply(&os.discover());
    assert_eq!((offer.file.as_str(), offer.header.siaddr), ("", HEAD), "installers take it for their server");
    for code in [43, 60, 66, 67, 97, 175] {
        assert_eq!(offer.option(code), None, "option {code}");
    }
    assert_eq!(offer.option(code::HOST_NAME), Some(&b"n17"[..]));
    world.lease(&os);
    assert_eq!(world.stage(mac(17)), Some(Stage::Up));
}

#[test]
fn the_parameter_request_list_picks_and_orders() {
    let mut world = World::new(&config());
    let ask = |codes: &[u8]| Ask::os(mac(17)).with(code::PARAMETER_LIST, codes).discover();
    let offer = world.reply(&ask(&[15, 3, 12, 6, 3, 119, 58, 59]));
    assert_eq!(offer.codes, [53, 54, 51, 1, 15, 3, 12, 6, 58, 59], "its order, each once, nothing that we have not");
    assert_eq!((offer.seconds(58), offer.seconds(59)), (Some(1800), Some(3150)));
    assert_eq!(world.reply(&ask(&[12])).codes, [53, 54, 51, 1, 12], "the mask is always sent, the rest was not asked for");
    let all = world.reply(&Ask::os(mac(17)).discover());
    assert_eq!(all.codes, [53, 54, 51, 1, 3, 6, 12, 15, 28], "no list: what everybody needs");
    assert_eq!((all.option(1), all.option(28)), (Some(&[255, 255, 0, 0][..]), Some(&[10, 54, 255, 255][..])));
    assert_eq!(world.reply(&ask(&[26])).option(26), Some(&1500u16.to_be_bytes()[..]), "the link's MTU");
    for (link, set, told) in [(9000, None, 1500u16), (9000, Some(9000), 9000), (1400, None, 1400), (1500, Some(1300), 1300)] {
        let mut own = config();
        (own.links[0].mtu, own.networks[0].mtu) = (link, set);
        assert_eq!(World::new(&own).reply(&ask(&[26])).option(26), Some(&told.to_be_bytes()[..]), "{link} {set:?}");
    }
}

#[test]
fn probing_can_be_turned_off() {
    for (probe, asks) in [(true, true), (false, false)] {
        let mut own = config();
        own.dhcp.probe = probe;
        let mut world = World::new(&own);
        let got = world.ask(&Ask::os(mac(99)).discover());
        assert_eq!(got.iter().any(|got| matches!(got, Got::Probe(_))), asks, "{got:?}");
    }
}

#[test]
fn the_operators_options_win() {
    let mut own = config();
    own.networks[0].options = vec![(3, vec![10, 54, 9, 9]), (43, b"\x01\x02ok".to_vec()), (224, b"x".to_vec())];
    let offer = World::new(&own).reply(&Ask::rom(mac(17)).discover());
    assert_eq!(
        (offer.option(3), offer.option(43), offer.option(224)),
        (Some(&[10, 54, 9, 9][..]), Some(&b"\x06\x01\x08\x01\x02ok"[..]), Some(&b"x"[..])),
        "firmware waits for its own part of option 43"
    );
    assert_eq!(offer.codes.iter().filter(|&&code| code == 3 || code == 43).count(), 2, "each once: {:?}", offer.codes);
}

#[test]
fn the_client_id_is_echoed_and_names_nobody() {
    let mut world = World::settled(&config());
    let first = world.lease(&Ask::rom(mac(1)));
    for id in [&b"\x01\x02\x00\x00\x00\x00\x01"[..], b"\xff\x00\x01\x02\x03-duid", b"other"] {
        let ask = Ask::os(mac(1)).with(code::CLIENT_ID, id);
        let offer = world.reply(&ask.discover());
        assert_eq!((offer.yiaddr(), offer.option(code::CLIENT_ID)), (first, Some(id)), "RFC 6842");
        assert_eq!(world.lease(&ask), first);
    }
    assert_eq!(world.server.roll().len(), 1, "one machine, one record");
    assert_eq!(world.reply(&Ask::os(mac(1)).discover()).option(code::CLIENT_ID), None);
}

#[test]
fn bootp_is_answered_without_dhcp_options() {
    let mut world = World::settled(&config());
    let reply = world.reply(&Ask::os(mac(17)));
    assert_eq!((reply.kind, reply.yiaddr(), reply.file.as_str()), (None, NODE_17, "undionly.kpxe"));
    assert_eq!((reply.option(code::LEASE_TIME), reply.option(code::SERVER_ID)), (None, None), "RFC 1534");
    let stranger = world.reply(&Ask::os(mac(1)));
    assert!(is_guest(stranger.yiaddr()));
    // It never renews: a day, not the guest lease.
    world.advance(3600 * 1000);
    let others: Vec<Ipv4Addr> = (2..=8).map(|n| world.lease(&Ask::rom(mac(n)))).collect();
    assert!(!others.contains(&stranger.yiaddr()) && world.ask(&Ask::rom(mac(9)).discover()).is_empty());
    assert_eq!(world.reply(&Ask::os(mac(1))).yiaddr(), stranger.yiaddr());
    let mut early = World::new(&config());
    early.silence(&Ask::os(mac(1)));
    early.advance(250);
    assert!(is_guest(early.reply(&Ask::os(mac(1))).yiaddr()), "its next request finds the address vetted");
}

#[test]
fn inform_is_answered_without_a_lease() {
    let mut world = World::new(&config());
    let address = ip(10, 54, 9, 9);
    let ask = Ask::os(mac(1)).with(code::PARAMETER_LIST, &[1, 6, 51, 58]).inform(address);
    let ack = world.reply(&ask);
    assert_eq!((ack.kind, ack.yiaddr(), ack.header.ciaddr), (ACK, Ipv4Addr::UNSPECIFIED, address));
    assert_eq!((ack.option(51), ack.option(58), ack.option(1)), (None, None, Some(&[255, 255, 0, 0][..])), "RFC 2131, 4.3.5");
    assert_eq!((ack.to, ack.via), (SocketAddrV4::new(address, 68), Via::Mac(mac(1))));
    assert_eq!(world.server.roll().len(), 0, "no record is made");
}

#[test]
fn what_is_malformed_is_counted_and_dropped() {
    let mut world = World::new(&config());
    let mut send = |payload: &[u8]| {
        let (src, dst) = (SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68), SocketAddrV4::new(Ipv4Addr::BROADCAST, 67));
        let got = world.datagram(0, Some(mac(1)), (src, dst), payload);
        assert_eq!(got, [], "{payload:?}");
    };
    let mut buf = [0; 1500];
    let len = Ask::rom(mac(1)).discover().write(&mut buf);
    send(&[]);
    send(&buf[..200]);
    send(&buf[..250]);
    buf[0] = 2;
    send(&buf[..len]);
    buf[0] = 1;
    buf[1] = 7;
    send(&buf[..len]);
    (buf[1], buf[28]) = (1, 0xff);
    send(&buf[..len]);
    let server_only = Ask::os(mac(1)).with(code::MESSAGE_TYPE, &[MessageType::Ack as u8]);
    world.silence(&server_only);
    let counted = [Counter::DhcpMalformed, Counter::DhcpNotARequest, Counter::DhcpNoIdentity].map(|counter| world.count(counter));
    assert_eq!((counted, world.server.roll().len()), ([3, 2, 2], 0));
}

#[test]
fn a_full_table_sheds_strangers_and_no_node() {
    let mut small = config();
    small.server.capacity = 5;
    let mut world = World::settled(&small);
    // Two nodes are known, so three strangers fit.
    let served = (1..=6).filter(|&n| only_reply(&world.ask(&Ask::rom(mac(n)).discover())).is_some()).count();
    assert_eq!((served, world.count(Counter::DhcpTableFull)), (3, 3));
    assert_eq!((world.lease(&Ask::rom(mac(17))), world.lease(&Ask::rom(mac(23)))), (NODE_17, NODE_23));
    assert!(only_reply(&world.ask(&Ask::rom(mac(1)).discover())).is_some(), "who is in stays in");
}

#[test]
fn an_empty_pool_is_counted_and_nodes_go_on() {
    let mut world = World::settled(&config());
    let mut given: Vec<Ipv4Addr> = (1..=8).map(|n| world.lease(&Ask::rom(mac(n)))).collect();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 8, "eight machines, eight addresses");
    world.silence(&Ask::rom(mac(9)).discover());
    assert_eq!(world.count(Counter::DhcpNoAddress), 1);
    assert_eq!(world.lease(&Ask::rom(mac(17))), NODE_17);
    world.ask(&Ask::rom(mac(3)).release(given_to(&world, 3)));
    assert!(is_guest(world.lease(&Ask::rom(mac(9)))), "one was given back");
}

fn given_to(world: &World, n: u8) -> Ipv4Addr {
    world.client(mac(n)).and_then(|client| client.address()).expect("an address")
}
