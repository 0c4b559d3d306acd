//! The project's DHCP codec against `dhcproto`: what one writes the other reads, and broken messages mean the same to both.
//!
//! Where they differ for a reason, the reason is a rule here, with its RFC:
//! - R1 (RFC 2131, 2): ours drops op other than 1 and 2, and hlen above 16; the oracle keeps them.
//! - R2 (RFC 951; RFC 1534): a message without cookie is BOOTP: ours reads its fixed fields and no options; the oracle's owned decoder
//!   ignores the cookie, its borrowed one gives no options. Ours takes 236 bytes, the oracle needs the 240 with the cookie.
//! - R3 (RFC 2132, 2): an option that runs over its field makes a message malformed; the oracle stops before it.
//! - R4 (RFC 2132, 9): options 50, 51, 52, 53, 54, 57 of a wrong length or value make a message malformed; the oracle takes what it can.
//! - R5 (RFC 3396, 5 and 7): ours joins all parts of an option, wherever they are, over options, `file` and `sname` in this order. The
//!   oracle joins neighbours only; its owned decoder keeps the last run.
//! - R6 (RFC 2132, 9.3): option 52 makes `file` and `sname` options; the oracle reads them as text.
//! - R7 (RFC 2131, 2): `sname` and `file` end with a NUL; of one that has none ours takes all bytes, the oracle's owned decoder nothing.
//! - R8: the oracle's owned decoder stops at the first option whose value it cannot type; what follows it does not report.
//! - R9: it also files option 37 under 23, and asserts the length of 80 (RFC 4039), 81 (RFC 4702), 94 (RFC 4578) and 152 to 155 (RFC 6926).
//! - R10 (RFC 3396, 5): ours refuses a message whose joined options are over 2,048 bytes in all; the oracle has no limit.
//! - R11 (RFC 3046, 2.0): it types sub-options of 82 by their code, whatever their length; broken ones are compared as the bytes of 82.
//!
//! Refusals are checked both ways: ours refuses a message if, and only if, one of R1, R2, R3, R4 and R10 is a ground, and names it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dhcproto::v4::borrowed::{self, DhcpOptionIterator};
use dhcproto::v4::{self, DhcpOption, DhcpOptions, OptionCode, UnknownOption, relay};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use muster::wire::dhcp::{COOKIE, FIXED, Header, Message, MessageBuilder, MessageError, MessageType, Scratch, SubOptions, code, parse};
use proptest::prelude::*;

#[path = "common/dhcp_golden.rs"]
mod dhcp_golden;

use dhcp_golden::{GOLDEN, at_the_limits, golden};

const FILE: std::ops::Range<usize> = 108..236;
const SNAME: std::ops::Range<usize> = 44..108;
/// Options that R4 speaks of, and 82, which has its own place.
const CHECKED: [u8; 7] = [50, 51, 52, 53, 54, 57, 82];

fn bytes(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), len)
}

fn text(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(1u8..=255, len)
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    any::<[u8; 4]>().prop_map(Ipv4Addr::from)
}

fn addresses() -> impl Strategy<Value = Vec<Ipv4Addr>> {
    proptest::collection::vec(address(), 1..90)
}

fn header() -> impl Strategy<Value = Header> {
    let first = (1u8..=2, any::<u8>(), 0u8..=16, any::<u8>(), any::<u32>(), any::<u16>(), any::<u16>());
    let second = (address(), address(), address(), address(), any::<[u8; 16]>());
    (first, second).prop_map(|((op, htype, hlen, hops, xid, secs, flags), (ciaddr, yiaddr, siaddr, giaddr, chaddr))| {
        // The oracle writes zeros behind hlen.
        let mut used = [0; 16];
        used[..hlen.into()].copy_from_slice(&chaddr[..hlen.into()]);
        Header { op, htype, hlen, hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr: used }
    })
}

/// Options as the oracle types them: addresses, numbers, texts, bytes of any length, lists, the relay's.
fn typed_option() -> impl Strategy<Value = DhcpOption> {
    prop_oneof![
        address().prop_map(DhcpOption::SubnetMask),
        addresses().prop_map(DhcpOption::Router),
        addresses().prop_map(DhcpOption::DomainNameServer),
        addresses().prop_map(DhcpOption::NtpServers),
        "[a-z0-9]{1,300}".prop_map(DhcpOption::Hostname),
        "[a-z.]{1,40}".prop_map(DhcpOption::DomainName),
        any::<u16>().prop_map(DhcpOption::InterfaceMtu),
        any::<bool>().prop_map(DhcpOption::IpForwarding),
        address().prop_map(DhcpOption::RequestedIpAddress),
        any::<u32>().prop_map(DhcpOption::AddressLeaseTime),
        (1u8..=8).prop_map(|kind| DhcpOption::MessageType(kind.into())),
        address().prop_map(DhcpOption::ServerIdentifier),
        bytes(1..80).prop_map(|codes| DhcpOption::ParameterRequestList(codes.into_iter().map(OptionCode::from).collect())),
        any::<u16>().prop_map(DhcpOption::MaxMessageSize),
        any::<u32>().prop_map(DhcpOption::Renewal),
        bytes(1..60).prop_map(DhcpOption::ClassIdentifier),
        bytes(1..400).prop_map(DhcpOption::ClientIdentifier),
        bytes(1..700).prop_map(DhcpOption::VendorExtensions),
        bytes(1..40).prop_map(DhcpOption::UserClass),
        any::<u16>().prop_map(|arch| DhcpOption::ClientSystemArchitecture(arch.into())),
        (any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(a, b, c)| DhcpOption::ClientNetworkInterface(a, b, c)),
        bytes(17..18).prop_map(DhcpOption::ClientMachineIdentifier),
        bytes(1..300).prop_map(DhcpOption::BootfileName),
        (bytes(1..150), bytes(0..150), address()).prop_map(|(circuit, remote, link)| {
            let mut info = relay::RelayAgentInformation::default();
            info.insert(relay::RelayInfo::AgentCircuitId(circuit));
            info.insert(relay::RelayInfo::AgentRemoteId(remote));
            info.insert(relay::RelayInfo::LinkSelection(link));
            DhcpOption::RelayAgentInformation(info)
        }),
        Just(DhcpOption::RapidCommit),
        any::<i32>().prop_map(DhcpOption::TimeOffset),
        address().prop_map(DhcpOption::BroadcastAddr),
        proptest::collection::vec((address(), address()), 1..50).prop_map(DhcpOption::StaticRoutingTable),
        bytes(1..80).prop_map(DhcpOption::TFTPServerName),
        (224u8..=254, bytes(1..500)).prop_map(|(code, data)| DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), data))),
    ]
}

fn oracle_message() -> impl Strategy<Value = v4::Message> {
    let texts = (proptest::option::of(text(1..64)), proptest::option::of(text(1..128)));
    (header(), texts, proptest::collection::vec(typed_option(), 0..14)).prop_map(|(h, (sname, file), options)| {
        let mut message = v4::Message::new_with_id(h.xid, h.ciaddr, h.yiaddr, h.siaddr, h.giaddr, &h.chaddr[..h.hlen.into()]);
        message.set_opcode(h.op.into()).set_htype(h.htype.into()).set_hops(h.hops).set_secs(h.secs).set_flags(h.flags.into());
        if let Some(sname) = sname {
            message.set_sname(&sname);
        }
        if let Some(file) = file {
            message.set_fname(&file);
        }
        for option in options {
            message.opts_mut().insert(option);
        }
        message
    })
}

fn encoded(message: &v4::Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).expect("the oracle encodes what it made");
    bytes
}

/// An option's value as the oracle encodes it, its parts joined.
fn value(option: &DhcpOption) -> Vec<u8> {
    let mut bytes = Vec::new();
    option.encode(&mut Encoder::new(&mut bytes)).expect("encodes");
    DhcpOptionIterator::new(&bytes).flat_map(|part| part.data().to_vec()).collect()
}

/// What the RFCs make of the options, from the oracle's raw runs: R2, R5 and R6 written out.
fn joined(bytes: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut all: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    let Some(options) = bytes.get(FIXED..).filter(|rest| rest.starts_with(&COOKIE)) else { return all };
    let first = |run: borrowed::DhcpOption<'_>| run.data().first().copied();
    let overload = DhcpOptionIterator::new(&options[4..]).find(|run| u8::from(run.code()) == code::OVERLOAD).and_then(first).unwrap_or(0);
    let file = if overload & 1 != 0 { &bytes[FILE] } else { &[] };
    let sname = if overload & 2 != 0 { &bytes[SNAME] } else { &[] };
    for run in [&options[4..], file, sname].into_iter().flat_map(DhcpOptionIterator::new) {
        all.entry(run.code().into()).or_default().extend_from_slice(run.data());
    }
    all
}

/// Fixed fields, both ways of the oracle's reading.
fn same_fixed_fields(ours: &Message<'_>, bytes: &[u8]) -> Result<(), TestCaseError> {
    let h = ours.header;
    let theirs = borrowed::Message::new(bytes).expect("240 bytes");
    prop_assert_eq!((h.op, h.htype, h.hlen, h.hops), (theirs.opcode().into(), theirs.htype().into(), theirs.hlen(), theirs.hops()));
    prop_assert_eq!((h.xid, h.secs, h.flags), (theirs.xid(), theirs.secs(), theirs.flags().into()));
    prop_assert_eq!((h.ciaddr, h.yiaddr, h.siaddr, h.giaddr), (theirs.ciaddr(), theirs.yiaddr(), theirs.siaddr(), theirs.giaddr()));
    prop_assert_eq!(&h.chaddr[..h.hlen.into()], theirs.chaddr());
    prop_assert_eq!(&h.chaddr[..], &bytes[28..44]);
    prop_assert_eq!(h.broadcast(), theirs.flags().broadcast());
    // R6
    let overload = ours.option(code::OVERLOAD).map_or(0, |value| value[0]);
    prop_assert_eq!(ours.file, if overload & 1 != 0 { &[] } else { theirs.fname() });
    prop_assert_eq!(ours.sname, if overload & 2 != 0 { &[] } else { theirs.sname() });
    Ok(())
}

/// All 254 codes, bytewise.
fn same_options(ours: &Message<'_>, expected: &BTreeMap<u8, Vec<u8>>) -> Result<(), TestCaseError> {
    for code in 1..=254 {
        prop_assert_eq!(ours.option(code), expected.get(&code).map(Vec::as_slice), "option {}", code);
    }
    Ok(())
}

/// None: the tests write no such sub-option.
fn sub_option(info: &relay::RelayInfo) -> Option<(u8, Vec<u8>)> {
    Some(match info {
        relay::RelayInfo::AgentCircuitId(id) => (1, id.clone()),
        relay::RelayInfo::AgentRemoteId(id) => (2, id.clone()),
        relay::RelayInfo::LinkSelection(link) => (5, link.octets().to_vec()),
        _ => return None,
    })
}

/// The typed accessors of ours and the oracle's typed options say the same.
fn same_meaning(ours: &Message<'_>, theirs: &DhcpOptions) -> Result<(), TestCaseError> {
    for (_, option) in theirs.iter() {
        match option {
            DhcpOption::MessageType(kind) => prop_assert_eq!(ours.message_type().map(|kind| kind as u8), Some(u8::from(*kind))),
            DhcpOption::RequestedIpAddress(ip) => prop_assert_eq!(ours.requested_ip(), Some(*ip)),
            DhcpOption::ServerIdentifier(ip) => prop_assert_eq!(ours.server_id(), Some(*ip)),
            DhcpOption::AddressLeaseTime(seconds) => prop_assert_eq!(ours.lease_time(), Some(*seconds)),
            DhcpOption::MaxMessageSize(size) => prop_assert_eq!(ours.max_message_size(), Some(*size)),
            DhcpOption::ClientSystemArchitecture(arch) => {
                prop_assert_eq!(ours.architectures().and_then(|mut codes| codes.next()), Some(u16::from(*arch)))
            }
            DhcpOption::ClientIdentifier(id) => prop_assert_eq!(ours.client_id(), Some(id.as_slice())),
            DhcpOption::ClassIdentifier(class) => prop_assert_eq!(ours.vendor_class(), Some(class.as_slice())),
            DhcpOption::UserClass(class) => prop_assert_eq!(ours.user_class(), Some(class.as_slice())),
            DhcpOption::ClientMachineIdentifier(uuid) => prop_assert_eq!(ours.machine_uuid(), Some(uuid.as_slice())),
            DhcpOption::Hostname(name) => prop_assert_eq!(ours.host_name(), Some(name.as_bytes())),
            DhcpOption::ParameterRequestList(codes) => {
                let codes: Vec<u8> = codes.iter().map(|code| u8::from(*code)).collect();
                prop_assert_eq!(ours.parameter_request_list(), Some(codes.as_slice()));
            }
            DhcpOption::RelayAgentInformation(info) => {
                let theirs: Option<Vec<_>> = info.iter().map(|(_, info)| sub_option(info)).collect();
                let ours = ours.relay_agent_info().unwrap_or(&[]);
                prop_assert_eq!(ours.to_vec(), value(option));
                prop_assert_eq!(Some(SubOptions(ours).map(|(code, bytes)| (code, bytes.to_vec())).collect()), theirs);
            }
            _ => {}
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_the_oracle_writes_we_read(message in oracle_message()) {
        let bytes = encoded(&message);
        let mut scratch = Scratch::default();
        // R10: everything that was split counts.
        let split: usize = message.opts().iter().map(|(_, option)| value(option).len()).filter(|&len| len > 255).sum();
        if split > 2048 {
            prop_assert_eq!(parse(&bytes, &mut scratch).err(), Some(MessageError::OptionTooLong));
            return Ok(());
        }
        let ours = parse(&bytes, &mut scratch).map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
        let h = ours.header;
        prop_assert_eq!((h.op, h.htype, h.hlen, h.hops), (message.opcode().into(), message.htype().into(), message.hlen(), message.hops()));
        prop_assert_eq!((h.xid, h.secs, h.flags), (message.xid(), message.secs(), message.flags().into()));
        prop_assert_eq!((h.ciaddr, h.yiaddr, h.siaddr, h.giaddr), (message.ciaddr(), message.yiaddr(), message.siaddr(), message.giaddr()));
        prop_assert_eq!(&h.chaddr[..h.hlen.into()], message.chaddr());
        prop_assert_eq!((ours.sname, ours.file), (message.sname().unwrap_or(&[]), message.fname().unwrap_or(&[])));
        let expected = message.opts().iter().map(|(code, option)| (u8::from(*code), value(option))).collect();
        same_options(&ours, &expected)?;
        same_meaning(&ours, message.opts())?;
    }

    #[test]
    fn what_we_write_the_oracle_reads(
        h in header(),
        kind in 1u8..=8,
        (sname, file) in (proptest::option::of(text(1..64)), proptest::option::of(text(1..128))),
        options in proptest::collection::btree_map(1u8..=254, bytes(0..320), 0..14),
        max in 300usize..1400,
        relayed in proptest::option::of(bytes(1..60)),
    ) {
        let mut buf = [0xee; 1500];
        let mut builder = MessageBuilder::new(&mut buf, &h, max).expect("room");
        prop_assert!(sname.as_deref().is_none_or(|text| builder.sname(text)) && file.as_deref().is_none_or(|text| builder.file(text)));
        prop_assert!(builder.message_type(MessageType::from_code(kind).expect("1 to 8")));
        let mut expected = BTreeMap::from([(code::MESSAGE_TYPE, vec![kind])]);
        for (code, value) in options.into_iter().filter(|(code, _)| !CHECKED.contains(code)) {
            if builder.option(code, &value) {
                expected.insert(code, value);
            }
        }
        // The relay's sub-options, well formed.
        let info = relayed.map(|id| [&[1, id.len() as u8], id.as_slice()].concat());
        let len = builder.finish(info.as_deref());
        let bytes = &buf[..len];
        expected.extend(info.map(|info| (code::RELAY_AGENT_INFO, info)));

        // Bytewise, over all fields: R5 and R6.
        let mut all = joined(bytes);
        let overload = all.remove(&code::OVERLOAD).map_or(0, |value| value[0]);
        prop_assert_eq!(&all, &expected);
        let theirs = borrowed::Message::new(bytes).expect("240 bytes");
        prop_assert_eq!((theirs.xid(), theirs.giaddr(), theirs.hlen()), (h.xid, h.giaddr, h.hlen));
        prop_assert!(overload & 1 == 0 || file.is_none(), "a named file holds no options");
        prop_assert!(overload & 2 == 0 || sname.is_none());
        if overload & 1 == 0 {
            prop_assert_eq!(theirs.fname(), file.as_deref().unwrap_or(&[]));
        }
        if overload & 2 == 0 {
            prop_assert_eq!(theirs.sname(), sname.as_deref().unwrap_or(&[]));
        }
        // The relay's option is the last of the options field (RFC 3046, 2.1).
        let last = theirs.opts().last().map(|run| u8::from(run.code()));
        prop_assert!(!expected.contains_key(&code::RELAY_AGENT_INFO) || last == Some(code::RELAY_AGENT_INFO));
        prop_assert!(len >= 300, "RFC 951");
        let mut scratch = Scratch::default();
        same_fixed_fields(&parse(bytes, &mut scratch).expect("our own"), bytes)?;
    }

    #[test]
    fn our_messages_have_the_same_types_for_the_oracle(
        h in header(), ip in address(), routers in addresses(), lease in any::<u32>(), id in bytes(2..300), vendor in bytes(1..600),
    ) {
        let mut buf = [0; 1500];
        let mut builder = MessageBuilder::new(&mut buf, &h, 1472).expect("room");
        let fits = builder.message_type(MessageType::Offer) && builder.ip(code::SERVER_ID, ip) && builder.ips(code::ROUTER, &routers)
            && builder.u32(code::LEASE_TIME, lease) && builder.option(code::CLIENT_ID, &id) && builder.option(code::HOST_NAME, b"n17");
        prop_assert!(fits);
        let vendor = Some(vendor).filter(|vendor| builder.option(code::VENDOR_SPECIFIC, vendor));
        let len = builder.finish(None);
        let theirs = v4::Message::decode(&mut Decoder::new(&buf[..len])).expect("decodes");
        let mut expected = DhcpOptions::new();
        expected.insert(DhcpOption::MessageType(v4::MessageType::Offer));
        expected.insert(DhcpOption::ServerIdentifier(ip));
        // Ours sends the first 63.
        expected.insert(DhcpOption::Router(routers.into_iter().take(63).collect()));
        expected.insert(DhcpOption::AddressLeaseTime(lease));
        expected.insert(DhcpOption::ClientIdentifier(id));
        expected.insert(DhcpOption::Hostname("n17".into()));
        vendor.and_then(|vendor| expected.insert(DhcpOption::VendorExtensions(vendor)));
        // R6: it may have gone into `file`.
        let mut all = theirs.opts().clone();
        if let Some(DhcpOption::OptionOverload(overload)) = all.remove(OptionCode::OptionOverload) {
            for field in [(1, FILE), (2, SNAME)].into_iter().filter(|(bit, _)| overload & bit != 0).map(|(_, field)| field) {
                let more = DhcpOptions::decode(&mut Decoder::new(&buf[field])).expect("decodes");
                more.iter().for_each(|(_, option)| drop(all.insert(option.clone())));
            }
        }
        prop_assert_eq!(all, expected);
        prop_assert_eq!(u16::from(theirs.flags()), h.flags);
    }
}

/// A change to a message.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(prop::sample::Index, u8),
    Set(prop::sample::Index, u8),
    Truncate(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Splice(prop::sample::Index, prop::sample::Index, prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<prop::sample::Index>;
    let byte = prop_oneof![any::<u8>(), prop::sample::select(vec![0u8, 1, 52, 53, 82, 255])];
    prop_oneof![
        4 => (index(), 0u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        4 => (index(), byte).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        1 => index().prop_map(Mutation::Truncate),
        2 => (index(), prop_oneof![bytes(1..6), Just(vec![52, 1, 1]), Just(vec![52, 1, 3]), Just(vec![53, 1, 1])])
            .prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        2 => (index(), index(), index()).prop_map(|(to, start, len)| Mutation::Splice(to, start, len)),
    ]
}

/// Half of the places are beyond the fixed fields, where the structure is.
fn place(index: &prop::sample::Index, len: usize) -> usize {
    let at = index.index(2 * len.max(1));
    if at < len { at } else { FIXED.min(len) + (at - len) % (len - FIXED.min(len)).max(1) }
}

fn mutate(bytes: &mut Vec<u8>, change: &Mutation) {
    match change {
        Mutation::Flip(at, bit) => {
            let at = place(at, bytes.len());
            bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << bit);
        }
        Mutation::Set(at, value) => {
            let at = place(at, bytes.len());
            bytes.get_mut(at).into_iter().for_each(|byte| *byte = *value);
        }
        Mutation::Truncate(at) => bytes.truncate(place(at, bytes.len())),
        Mutation::Insert(at, more) => {
            let at = place(at, bytes.len()).min(bytes.len());
            bytes.splice(at..at, more.iter().copied());
        }
        Mutation::Splice(to, start, len) => {
            let start = place(start, bytes.len()).min(bytes.len());
            let part: Vec<u8> = bytes[start..].iter().take(len.index(40)).copied().collect();
            let to = place(to, bytes.len()).min(bytes.len());
            bytes.splice(to..to, part);
        }
    }
}

/// The oracle's owned reading of one option's joined value. None: it cannot type it (R8).
fn typed(code: u8, value: &[u8]) -> Option<DhcpOption> {
    let mut bytes = Vec::new();
    for part in value.chunks(255) {
        bytes.extend([code, part.len() as u8]);
        bytes.extend(part);
    }
    if value.is_empty() {
        bytes.extend([code, 0]);
    }
    DhcpOption::decode(&mut Decoder::new(&bytes)).ok()
}

/// R9: the oracle's owned decoder panics.
fn asserts(code: u8, len: usize) -> bool {
    match code {
        80 => len != 0,
        81 => len < 3,
        94 => len != 3,
        152..=155 => len != 4,
        _ => false,
    }
}

fn parted_code() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![code::PAD, code::VENDOR_SPECIFIC, code::CLIENT_ID, code::USER_CLASS, 224])
}

fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut scratch = Scratch::default();
    let grounds = grounds(bytes);
    let ours = match parse(bytes, &mut scratch) {
        Ok(ours) => ours,
        Err(error) => {
            prop_assert!(grounds.contains(&error), "{:?}, but only {:?}", error, grounds);
            return Ok(());
        }
    };
    prop_assert!(grounds.is_empty(), "accepted in spite of {:?}", grounds);
    same_options(&ours, &joined(bytes))?;
    if bytes.len() < FIXED + 4 {
        // R2
        prop_assert!(borrowed::Message::new(bytes).is_err() && v4::Message::decode(&mut Decoder::new(bytes)).is_err());
        return Ok(());
    }
    same_fixed_fields(&ours, bytes)?;
    if bytes[FIXED..FIXED + 4] != COOKIE {
        // R2: `joined` is empty, so ours has no option.
        return Ok(());
    }
    same_as_owned(&ours, bytes)
}

/// All that the oracle's owned decoder reports is what R5 to R9 make of the options field, and ours reports it too.
fn same_as_owned(ours: &Message<'_>, bytes: &[u8]) -> Result<(), TestCaseError> {
    let (mut expected, mut panics) = (BTreeMap::new(), false);
    let mut read: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
    for run in DhcpOptionIterator::new(&bytes[FIXED + 4..]) {
        let code = u8::from(run.code());
        panics = asserts(code, run.len());
        let Some(option) = Some(run.data()).filter(|_| !panics).and_then(|value| typed(code, value)) else { break };
        read.entry(code).or_default().push(run.data().to_vec());
        expected.insert(OptionCode::from(&option), option);
    }
    let theirs = catch_unwind(AssertUnwindSafe(|| v4::Message::decode(&mut Decoder::new(bytes))));
    prop_assert_eq!(theirs.is_err(), panics, "R9");
    let Ok(theirs) = theirs else { return Ok(()) };
    let theirs = theirs.map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
    prop_assert_eq!(theirs.opts(), &expected.into_iter().collect::<DhcpOptions>());
    // R7: it gives the NUL as well, and R6: it gives it whatever option 52 says.
    let text = |field: &[u8]| field.iter().position(|&byte| byte == 0).filter(|&at| at > 0).map(|at| field[..=at].to_vec());
    prop_assert_eq!(theirs.sname().map(<[u8]>::to_vec), text(&bytes[SNAME]));
    prop_assert_eq!(theirs.fname().map(<[u8]>::to_vec), text(&bytes[FILE]));

    let mut alike = Vec::new();
    for (code, runs) in read {
        let value = ours.option(code).unwrap_or(&[]);
        // R5, R6: runs further on, in `file` and in `sname` follow.
        prop_assert!(ours.option(code).is_some() && value.starts_with(&runs.concat()), "option {}", code);
        if runs.len() == 1 && runs[0] == value && code != code::RELAY_AGENT_INFO {
            alike.extend(typed(code, value));
        }
    }
    same_meaning(ours, &alike.into_iter().collect())
}

/// The options of a field as they lie there, not joined, and whether the last is cut off (R3).
fn parts(field: &[u8]) -> (Vec<(u8, &[u8])>, bool) {
    let (mut all, mut rest) = (Vec::new(), field);
    loop {
        rest = match rest {
            [] | [code::END, ..] => return (all, false),
            [code::PAD, rest @ ..] => rest,
            [code, len, rest @ ..] if rest.len() >= usize::from(*len) => {
                let (value, rest) = rest.split_at(usize::from(*len));
                all.push((*code, value));
                rest
            }
            _ => return (all, true),
        }
    }
}

/// All grounds to refuse a message: R1, R2, R3, R4 and R10 written out.
fn grounds(bytes: &[u8]) -> Vec<MessageError> {
    let Some(options) = bytes.get(FIXED..) else { return vec![MessageError::Truncated] };
    let wrong_op = (!matches!(bytes[0], 1 | 2), MessageError::Op);
    let mut grounds = vec![wrong_op, (bytes[2] > 16, MessageError::HardwareLength)];
    if let Some(options) = options.strip_prefix(&COOKIE) {
        let first = parts(options).0.into_iter().find(|(code, _)| *code == code::OVERLOAD).map(|(_, value)| value);
        let overload = first.and_then(|value| value.first().copied()).unwrap_or(0);
        let in_use = [(true, options), (overload & 1 != 0, &bytes[FILE]), (overload & 2 != 0, &bytes[SNAME])];
        let fields: Vec<_> = in_use.into_iter().filter(|(used, _)| *used).map(|(_, field)| parts(field)).collect();
        let mut all: BTreeMap<u8, Vec<&[u8]>> = BTreeMap::new();
        fields.iter().flat_map(|(parts, _)| parts).for_each(|(code, value)| all.entry(*code).or_default().push(value));
        let wrong = |(code, parts): (&u8, &Vec<&[u8]>)| match (*code, parts.concat().as_slice()) {
            (50 | 51 | 54, value) => value.len() != 4,
            (53, value) => !matches!(value, [1..=8]),
            (57, value) => value.len() != 2,
            // Nothing can be joined before it is known: its first part counts, and it must be all.
            (52, value) => !matches!(value, [1..=3]) || !matches!(first, Some([_])),
            _ => false,
        };
        let split: usize = all.values().filter(|parts| parts.len() > 1).map(|parts| parts.concat().len()).sum();
        grounds.push((fields.iter().any(|(_, cut)| *cut), MessageError::OptionTruncated));
        grounds.push((all.iter().any(wrong), MessageError::OptionValue));
        grounds.push((split > 2048, MessageError::OptionTooLong));
    }
    grounds.into_iter().filter(|(is, _)| *is).map(|(_, ground)| ground).collect()
}

#[test]
fn golden_messages_mean_the_same() {
    for packet in &GOLDEN {
        let (bytes, mut scratch) = (golden(packet), Scratch::default());
        agree(&bytes).expect("golden");
        let ours = parse(&bytes, &mut scratch).expect("golden");
        let theirs = v4::Message::decode(&mut Decoder::new(&bytes)).expect("golden");
        let relayed = theirs.opts().get(OptionCode::RelayAgentInformation).cloned();
        same_meaning(&ours, &relayed.into_iter().collect()).expect("sub-options");
        assert!(ours.message_type().is_some());
    }
    at_the_limits().iter().for_each(|bytes| agree(bytes).expect("at a limit"));
    let (bytes, mut scratch) = (golden(&GOLDEN[5]), Scratch::default());
    let ours = parse(&bytes, &mut scratch).expect("overloaded");
    let named = (ours.option(code::BOOTFILE), ours.option(code::TFTP_SERVER), ours.option(code::VENDOR_SPECIFIC));
    assert_eq!(named, (Some(&b"x.efi"[..]), Some(&b"10.0.0.1"[..]), Some(&b"\x06\x01\x08\x0a\x01\x01"[..])));
    assert!(ours.file.is_empty() && ours.sname.is_empty());
    let bytes = golden(&GOLDEN[6]);
    assert_eq!(parse(&bytes, &mut Scratch::default()).expect("split").vendor_class(), Some(&b"HTTPClient"[..]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    /// Two golden messages, the one spliced into the other at any place, then broken.
    #[test]
    fn mutated_golden_messages_mean_the_same(
        [one, other] in [prop::sample::select(&GOLDEN[..]), prop::sample::select(&GOLDEN[..])],
        cut in proptest::option::of(any::<[prop::sample::Index; 2]>()), changes in proptest::collection::vec(mutation(), 0..5),
    ) {
        let (mut bytes, other) = (golden(&one), golden(&other));
        if let Some([end, start]) = cut {
            bytes.truncate(place(&end, bytes.len()));
            bytes.extend_from_slice(&other[place(&start, other.len())..]);
        }
        changes.iter().for_each(|change| mutate(&mut bytes, change));
        agree(&bytes)?;
    }

    #[test]
    fn mutated_messages_mean_the_same(message in oracle_message(), changes in proptest::collection::vec(mutation(), 1..6)) {
        let mut bytes = encoded(&message);
        changes.iter().for_each(|change| mutate(&mut bytes, change));
        agree(&bytes)?;
    }

    /// Few codes, so that most are split over all three fields (R5, R6).
    #[test]
    fn options_in_parts_mean_the_same(
        h in header(), overload in 0u8..=3, parts in proptest::collection::vec((0usize..3, parted_code(), bytes(0..24)), 0..12),
        ends in any::<[bool; 3]>(), changes in proptest::collection::vec(mutation(), 0..2),
    ) {
        let mut fields = [Vec::new(), Vec::new(), Vec::new()];
        if overload > 0 {
            fields[0].extend([code::OVERLOAD, 1, overload]);
        }
        for (field, code, value) in &parts {
            if *field == 0 || fields[*field].len() + value.len() + 3 < SNAME.len() {
                fields[*field].extend([*code, value.len() as u8]);
                fields[*field].extend(value);
            }
        }
        fields.iter_mut().zip(ends).filter(|(_, end)| *end).for_each(|(field, _)| field.push(code::END));
        let mut buf = [0; 1500];
        let len = MessageBuilder::new(&mut buf, &h, 300).expect("room").finish(None);
        let mut bytes = buf[..len.min(FIXED + 4)].to_vec();
        bytes.extend(&fields[0]);
        bytes[FILE.start..FILE.start + fields[1].len()].copy_from_slice(&fields[1]);
        bytes[SNAME.start..SNAME.start + fields[2].len()].copy_from_slice(&fields[2]);
        changes.iter().for_each(|change| mutate(&mut bytes, change));
        agree(&bytes)?;
    }

    #[test]
    fn mutated_replies_of_ours_mean_the_same(
        h in header(), options in proptest::collection::btree_map(1u8..=254, bytes(0..90), 0..8), max in 300usize..700,
        changes in proptest::collection::vec(mutation(), 1..6),
    ) {
        let mut buf = [0; 1500];
        let mut builder = MessageBuilder::new(&mut buf, &h, max).expect("room");
        options.iter().filter(|(code, _)| !CHECKED.contains(code)).for_each(|(code, value)| {
            let _ = builder.option(*code, value);
        });
        let len = builder.finish(None);
        let mut bytes = buf[..len].to_vec();
        agree(&bytes)?;
        changes.iter().for_each(|change| mutate(&mut bytes, change));
        agree(&bytes)?;
    }
}
