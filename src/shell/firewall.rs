//! Whether the host's packet filter rejects anything, asked once at start.
//!
//! What is received by packet sockets no filter keeps from us; but where one *rejects* it, the kernel answers with ICMP beside our DATA, and firmware
//! such as EDK2 takes that for the end. Which rules apply to what is served, `muster doctor` finds out; here it is only seen that there are such
//! rules. Tables of nftables are read, which those of `iptables-nft` and firewalld are too. May wait for the kernel: for the start.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use super::netlink::{Attributes, KernelMessages, name};

/// NFNL_SUBSYS_NFTABLES with NFT_MSG_NEWRULE and NFT_MSG_GETRULE, of `linux/netfilter/nf_tables.h`.
const NEW_RULE: u16 = 10 << 8 | 6;
const GET_RULE: u16 = 10 << 8 | 7;
/// NLM_F_REQUEST and NLM_F_DUMP.
const FLAGS: u16 = 0x1 | 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `struct nlmsghdr`, and `struct nfgenmsg` behind it.
const HEADER: usize = 16;
const GENERIC: usize = 4;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const TARGET_NAME: u16 = 1;

/// The first rule that rejects: its table and its chain. None: there is none, or the kernel has no such filter.
pub fn rejecting() -> Option<(String, String)> {
    ask().ok().flatten()
}

fn ask() -> io::Result<Option<(String, String)>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let len = (HEADER + GENERIC) as u32;
    let header = [&len.to_ne_bytes()[..], &GET_RULE.to_ne_bytes(), &FLAGS.to_ne_bytes(), &1u32.to_ne_bytes(), &[0; 4 + GENERIC]].concat();
    socket.send(&header, 0)?;
    let mut buf = vec![0; 64 * 1024];
    let mut found = None;
    loop {
        let got = socket.recv(&mut buf.as_mut_slice(), 0)?;
        for message in KernelMessages(buf.get(..got).unwrap_or(&[])) {
            match message.kind {
                NLMSG_DONE | NLMSG_ERROR => return Ok(found),
                NEW_RULE => found = found.or_else(|| rejects(message.body)),
                _ => {}
            }
        }
    }
}

/// The table and the chain of a rule that rejects.
fn rejects(rule: &[u8]) -> Option<(String, String)> {
    let find = |wanted: u16| Attributes::behind(rule, GENERIC).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let text = |value: &[u8]| String::from_utf8_lossy(name(value)).escape_debug().to_string();
    Attributes(find(RULE_EXPRESSIONS)?).any(|(_, expression)| is_reject(expression)).then_some(())?;
    Some((text(find(RULE_TABLE)?), text(find(RULE_CHAIN)?)))
}

fn is_reject(expression: &[u8]) -> bool {
    let find = |wanted: u16| Attributes(expression).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    match find(EXPRESSION_NAME).map(name) {
        Some(b"reject") => true,
        // Of iptables.
        Some(b"target") => {
            let mut data = Attributes(find(EXPRESSION_DATA).unwrap_or(&[]));
            data.any(|(kind, value)| kind == TARGET_NAME && name(value) == b"REJECT")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [&(4 + value.len() as u16).to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn rule(expression: &[u8]) -> Vec<u8> {
        let expressions = attribute(0x8000 | RULE_EXPRESSIONS, &attribute(0x8001, expression));
        [&[0; GENERIC][..], &attribute(RULE_TABLE, b"filter\0"), &attribute(RULE_CHAIN, b"input\0"), &expressions].concat()
    }

    #[test]
    fn rules_that_reject_are_told_with_their_place() {
        let told = Some(("filter".to_string(), "input".to_string()));
        assert_eq!(rejects(&rule(&attribute(EXPRESSION_NAME, b"reject\0"))), told);
        assert_eq!(rejects(&rule(&attribute(EXPRESSION_NAME, b"counter\0"))), None);
        for (target, said) in [(&b"REJECT\0"[..], told), (b"ACCEPT\0", None)] {
            let data = attribute(0x8000 | EXPRESSION_DATA, &attribute(TARGET_NAME, target));
            assert_eq!(rejects(&rule(&[attribute(EXPRESSION_NAME, b"target\0"), data].concat())), said);
        }
    }

    proptest! {
        #[test]
        fn any_rule_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = rejects(&bytes);
        }
    }
}
