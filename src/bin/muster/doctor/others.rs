//! Other DHCP servers in the boot networks: one DISCOVER on each boot interface, as musterd itself sends one when it starts, and who answers within two
//! seconds.
//!
//! It does no harm: nothing is requested, so that nobody's lease comes of it; it is sent in the head's own name, with the hardware address of the
//! interface, so that a server which keeps its offer for a moment keeps it for a machine that never takes it. Our own daemon does not see what
//! this machine sends.

use std::net::Ipv4Addr;
use std::time::Duration;

use muster::base::addr::Mac;
use muster::base::facts::{Hardware, LinkFacts};
use muster::config::Config;
use muster::engine::dhcp::{CLIENT_PORT, SERVER_PORT};
use muster::shell::inquiry::{self, InquiryAnswer};
use muster::wire::dhcp::{self, Header, MessageBuilder, MessageType, Scratch, code};

use super::finding::{Diagnosis, Finding, Severity};
use super::site::Site;

const CHECK: &str = "other dhcp";
const WAIT: Duration = Duration::from_secs(2);

/// Asks, and tells who answered.
pub fn check(site: &Site, config: &Config, found: &mut Diagnosis) {
    if !nix::unistd::geteuid().is_root() {
        return found.look(CHECK, "not asked: only root can send in the boot networks", "run as root");
    }
    let links = site.links.as_deref().unwrap_or_default();
    let served = |link: &&LinkFacts| config.links.iter().any(|served| served.index == link.index);
    let xid = std::process::id() ^ 0x6d75_7374;
    let usable = |link: &&LinkFacts| link.up && link.hardware == Hardware::Ethernet && !link.loopback;
    let asked: Vec<(LinkFacts, Vec<u8>)> =
        links.iter().filter(served).filter(usable).filter_map(|link| Some((link.clone(), discover(link.mac, xid)?))).collect();
    if asked.is_empty() {
        return found.fine(CHECK, "not asked: no boot interface is an Ethernet that is up");
    }
    let (answers, failures) = inquiry::inquire(&asked, (CLIENT_PORT, SERVER_PORT), WAIT);
    for (at, why) in &failures {
        let name = asked.get(*at).map_or("?", |(link, _)| link.name.as_str());
        found.add(Finding::new(CHECK, Severity::Look, format!("cannot ask: {why}")).on(name));
    }
    let heads: Vec<Ipv4Addr> = links.iter().flat_map(|link| &link.addresses).map(|(ip, _)| *ip).collect();
    for (at, (link, _)) in asked.iter().enumerate().filter(|(at, _)| !failures.iter().any(|(failed, _)| failed == at)) {
        let offers = answers.iter().filter(|answer| answer.link == at).filter_map(|answer| offer(answer, xid));
        judge(&link.name, offers.collect(), &heads, found);
    }
}

fn discover(mac: Mac, xid: u32) -> Option<Vec<u8>> {
    let mut chaddr = [0; 16];
    chaddr.get_mut(..6)?.copy_from_slice(&mac.0);
    let header = Header { xid, flags: Header::BROADCAST, chaddr, ..Header::default() };
    let mut buf = [0; 548];
    let mut builder = MessageBuilder::new(&mut buf, &header, 548)?;
    builder.message_type(MessageType::Discover);
    builder.option(code::PARAMETER_LIST, &[code::SUBNET_MASK, code::ROUTER]);
    let len = builder.finish(None);
    buf.get(..len).map(<[u8]>::to_vec)
}

/// An offer that was made to us.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    server: Ipv4Addr,
    mac: Option<Mac>,
    address: Ipv4Addr,
    boot: Option<String>,
}

fn offer(answer: &InquiryAnswer, xid: u32) -> Option<Offer> {
    let mut scratch = Scratch::default();
    let message = dhcp::parse(&answer.payload, &mut scratch).ok()?;
    let ours = message.header.op == 2 && message.header.xid == xid && message.message_type() == Some(MessageType::Offer);
    if !ours {
        return None;
    }
    let server = message.server_id().unwrap_or(*answer.from.ip());
    let boot = Some(String::from_utf8_lossy(message.file).into_owned()).filter(|file| !file.is_empty());
    Some(Offer { server, mac: answer.mac, address: message.header.yiaddr, boot })
}

fn judge(link: &str, mut offers: Vec<Offer>, heads: &[Ipv4Addr], found: &mut Diagnosis) {
    offers.dedup();
    let foreign: Vec<&Offer> = offers.iter().filter(|offer| !heads.contains(&offer.server)).collect();
    for offer in &foreign {
        let mac = offer.mac.map(|mac| format!(" ({mac})")).unwrap_or_default();
        let boot = offer.boot.as_ref().map(|file| format!(", boot file {file}")).unwrap_or_default();
        let what = format!("{}{mac} answers here too: it offers {}{boot}; machines may boot from it", offer.server, offer.address);
        found.add(Finding::new(CHECK, Severity::Broken, what).on(link).remedy("stop one of the two, or part the networks"));
    }
    if foreign.is_empty() {
        // Ourselves, by another interface on the same cable.
        let own = offers.first().map(|offer| format!("; {} is this machine, by another interface of the same network", offer.server));
        found.add(
            Finding::new(CHECK, Severity::Fine, format!("nobody else answers in {} s{}", WAIT.as_secs(), own.unwrap_or_default())).on(link),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: MessageType, xid: u32) -> InquiryAnswer {
        let header = Header { op: 2, xid, yiaddr: [10, 0, 0, 77].into(), ..Header::default() };
        let mut buf = [0; 548];
        let mut builder = MessageBuilder::new(&mut buf, &header, 548).unwrap();
        builder.message_type(kind);
        builder.option(code::SERVER_ID, &[10, 0, 0, 2]);
        let len = builder.finish(None);
        let from = "10.0.0.2:67".parse().unwrap();
        InquiryAnswer { link: 0, mac: Some(Mac([2, 0, 0, 0, 0, 2])), from, payload: buf[..len].to_vec() }
    }

    #[test]
    fn offers_are_ours_or_nothing() {
        assert_eq!(offer(&answer(MessageType::Offer, 7), 7).map(|offer| offer.server), Some([10, 0, 0, 2].into()));
        assert_eq!(offer(&answer(MessageType::Offer, 8), 7), None);
        assert_eq!(offer(&answer(MessageType::Nak, 7), 7), None);
        assert_eq!(offer(&InquiryAnswer { payload: vec![1, 2, 3], ..answer(MessageType::Offer, 7) }, 7), None);
        let mut scratch = Scratch::default();
        let text = discover(Mac([2, 0, 0, 0, 0, 1]), 7).unwrap();
        let message = dhcp::parse(&text, &mut scratch).unwrap();
        assert!(message.message_type() == Some(MessageType::Discover) && message.header.broadcast() && message.header.chaddr[5] == 1);
    }

    #[test]
    fn a_stranger_is_named() {
        let stranger = offer(&answer(MessageType::Offer, 7), 7).unwrap();
        let own = Offer { server: [10, 0, 0, 1].into(), ..stranger.clone() };
        let lines = |offers: Vec<Offer>| {
            let mut found = Diagnosis::default();
            judge("eth1", offers, &[[10, 0, 0, 1].into()], &mut found);
            found.0.iter().map(Finding::line).collect::<Vec<_>>()
        };
        assert!(
            lines(vec![stranger.clone(), stranger, own.clone()])[0]
                .starts_with("broken other dhcp eth1: 10.0.0.2 (02:00:00:00:00:02) answers here too: it offers 10.0.0.77")
        );
        assert_eq!(lines(Vec::new()), ["fine   other dhcp eth1: nobody else answers in 2 s"]);
        assert!(lines(vec![own])[0].contains("by another interface"));
    }
}
