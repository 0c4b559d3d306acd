//! What an init script reads from standard output: `KEY='value'` lines, as a shell reads them by `eval`.
//!
//! All keys are printed each time, so that no value of an earlier run survives. What the server sent is printed only where it is plain text.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::Ipv4Addr;

use muster::fleet::Name;
use muster::fleet::passing::{Addresses, PassingLease};
use muster::wire::report::ReportVerdict;

/// A text of the server's, if it could be a domain or a host name.
fn plain(name: &Name) -> Option<&str> {
    let sound = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    std::str::from_utf8(name.bytes()).ok().filter(sound)
}

/// The name that the lease gives the node, without its domain.
pub fn host_name(lease: &PassingLease) -> Option<&str> {
    plain(&lease.host_name)?.split('.').next().filter(|name| !name.is_empty())
}

/// The node's number: the server calls node 17 by a prefix that ends with no digit and 17, and gives guests no name.
pub fn number(lease: &PassingLease) -> Option<u32> {
    let name = host_name(lease)?;
    let prefix = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    name.strip_prefix(prefix).filter(|_| !prefix.is_empty())?.parse().ok()
}

/// A verdict as one word, and the name of the test that failed.
pub fn verdict(verdict: &ReportVerdict) -> String {
    match verdict {
        ReportVerdict::Untested => "untested".into(),
        ReportVerdict::Passed => "passed".into(),
        ReportVerdict::Failed(test) => format!("failed {test}"),
    }
}

fn list(addresses: impl Iterator<Item = Ipv4Addr>) -> String {
    addresses.map(|address| address.to_string()).collect::<Vec<_>>().join(" ")
}

/// A value as a shell takes it, whatever it holds.
fn line(key: &str, value: &dyn Display) -> String {
    format!("{key}='{}'\n", value.to_string().replace('\'', r"'\''"))
}

/// The lines for a lease.
pub fn lines(interface: &str, lease: &PassingLease, told: &ReportVerdict) -> String {
    let all = |addresses: &Addresses| list(addresses.iter());
    let number = number(lease).map(|number| number.to_string()).unwrap_or_default();
    [
        line("INTERFACE", &interface),
        line("ADDRESS", &lease.address),
        line("PREFIX", &lease.prefix),
        line("ROUTER", &all(&lease.routers)),
        line("DNS", &all(&lease.dns)),
        line("NTP", &all(&lease.ntp)),
        line("DOMAIN", &plain(&lease.domain).unwrap_or("")),
        line("HOSTNAME", &host_name(lease).unwrap_or("")),
        line("SERVER", &lease.server),
        line("LEASE", &lease.seconds),
        line("NUMBER", &number),
        line("VERDICT", &verdict(told)),
    ]
    .concat()
}

/// Prints the lines. Whoever closed our output still gets the exit code.
pub fn tell(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster::fleet::passing::{PassingClient, PassingSetup};
    use muster::wire::dhcp::{Header, MessageBuilder, MessageType, Scratch, code, parse};
    use muster::wire::report::{self, Report};

    const MAC: muster::base::addr::Mac = muster::base::addr::Mac([2, 0, 0, 0, 0, 1]);

    /// The lease that an offer with these options gives.
    fn lease(options: &[(u8, &[u8])]) -> PassingLease {
        let setup = PassingSetup { mac: MAC, report: Report::EMPTY, option: report::CODE, probe: false };
        let mut client = PassingClient::new(setup, 1);
        let now = muster::base::time::Instant::from_millis(1);
        client.start(now);
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&MAC.0);
        let header = Header { op: 2, xid: client.xid(), yiaddr: [10, 54, 1, 17].into(), chaddr, ..Header::default() };
        let mut buf = [0; 576];
        let mut builder = MessageBuilder::new(&mut buf, &header, 576).unwrap();
        builder.message_type(MessageType::Offer);
        builder.ip(code::SERVER_ID, [10, 54, 0, 1].into());
        builder.u32(code::LEASE_TIME, 600);
        builder.u32(code::SUBNET_MASK, 0xffff_0000);
        assert!(options.iter().all(|(option, bytes)| builder.option(*option, bytes)));
        let len = builder.finish(None);
        let mut scratch = Scratch::default();
        client.receive(now, &parse(&buf[..len], &mut scratch).unwrap(), None);
        *client.lease().unwrap()
    }

    #[test]
    fn what_an_init_script_reads() {
        let options: [(u8, &[u8]); 3] =
            [(code::ROUTER, &[10, 54, 0, 1, 10, 54, 0, 2]), (code::HOST_NAME, b"n17.cluster"), (code::DOMAIN, b"clus'ter\n")];
        let test = muster::wire::report::ReportText::new(b"it's").unwrap();
        let told = lines("eth0", &lease(&options), &ReportVerdict::Failed(test));
        let expected = "INTERFACE='eth0'\nADDRESS='10.54.1.17'\nPREFIX='16'\nROUTER='10.54.0.1 10.54.0.2'\nDNS=''\nNTP=''\nDOMAIN=''\n\
                        HOSTNAME='n17'\nSERVER='10.54.0.1'\nLEASE='600'\nNUMBER='17'\nVERDICT='failed it'\\''s'\n";
        assert_eq!(told, expected);
    }

    #[test]
    fn only_names_of_numbers_are_numbers() {
        let number = |name: &[u8]| number(&lease(&[(code::HOST_NAME, name)]));
        assert_eq!((number(b"n0"), number(b"n4095\0"), number(b"n17.x.y")), (Some(0), Some(4095), Some(17)));
        assert_eq!((number(b"rack-a-0017.cluster"), number(b"node1")), (Some(17), Some(1)));
        for name in [&b"n"[..], b"17", b"n1x", b"n99999999999", b"n1 ", b".n1"] {
            assert_eq!(number(name), None, "{name:?}");
        }
    }
}
