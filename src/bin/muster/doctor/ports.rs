//! The ports that musterd needs, and who has them.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;

use muster::base::endpoint::{Endpoint, Transport};
use muster::config::Config;
use muster::engine::endpoints::Endpoints;

use super::finding::{Diagnosis, Finding, Severity};

const CHECK: &str = "port";
const TCP_LISTEN: &str = "0A";

/// A bound socket, as /proc/net tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    tcp: bool,
    address: Ipv4Addr,
    port: u16,
    inode: u64,
}

/// A process that has one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    pid: u32,
    name: String,
}

/// Looks at each port of the daemon's own table.
pub fn check(config: &Config, daemon: Option<u32>, found: &mut Diagnosis) {
    let read = |file: &str| fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default();
    let mut sockets = Vec::new();
    for file in ["udp", "udp6", "tcp", "tcp6"] {
        sockets.extend(table(&read(file), file.starts_with("tcp")));
    }
    let table = Endpoints::new(config);
    let wanted: Vec<&Endpoint> =
        table.rows().iter().filter(|row| row.address.port() != 0 && !matches!(row.transport, Transport::Overheard)).collect();
    sockets.retain(|socket| wanted.iter().any(|row| concerns(row, socket)));
    let owners = owners(&sockets);
    judge(&wanted, &sockets, &owners, daemon, found);
}

/// The sockets of a table in /proc/net.
fn table(text: &str, tcp: bool) -> Vec<Socket> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = fields.get(1)?.split_once(':')?;
        let listens = !tcp || *fields.get(3)? == TCP_LISTEN;
        Some(Socket { tcp, address: ip(address)?, port: u16::from_str_radix(port, 16).ok()?, inode: fields.get(9)?.parse().ok()? })
            .filter(|_| listens)
    };
    text.lines().skip(1).filter_map(socket).collect()
}

/// An address as the kernel prints it: words of 32 bits in the machine's own order. Of IPv6, what takes IPv4 as well.
fn ip(hex: &str) -> Option<Ipv4Addr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok();
    match hex.len() {
        8 => Some(word(0)?.to_ne_bytes().into()),
        32 => match [word(0)?, word(8)?, word(16)?, word(24)?] {
            [0, 0, 0, 0] => Some(Ipv4Addr::UNSPECIFIED),
            [0, 0, mapped, last] if mapped == u32::from_ne_bytes([0, 0, 0xff, 0xff]) => Some(last.to_ne_bytes().into()),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a socket has the port of an endpoint, or a part of it.
fn concerns(row: &Endpoint, socket: &Socket) -> bool {
    let tcp = matches!(row.transport, Transport::Listen(_));
    let same = |one: Ipv4Addr, other: Ipv4Addr| one == other || one.is_unspecified() || other.is_unspecified();
    tcp == socket.tcp && row.address.port() == socket.port && same(*row.address.ip(), socket.address)
}

/// Which processes have these sockets open.
fn owners(sockets: &[Socket]) -> BTreeMap<u64, Vec<Owner>> {
    let mut owners: BTreeMap<u64, Vec<Owner>> = BTreeMap::new();
    if sockets.is_empty() {
        return owners;
    }
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok());
            let Some(inode) = inode.filter(|inode| sockets.iter().any(|socket| socket.inode == *inode)) else { continue };
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_string();
            let owner = Owner { pid, name };
            let all = owners.entry(inode).or_default();
            if !all.contains(&owner) {
                all.push(owner);
            }
        }
    }
    owners
}

fn judge(wanted: &[&Endpoint], sockets: &[Socket], owners: &BTreeMap<u64, Vec<Owner>>, daemon: Option<u32>, found: &mut Diagnosis) {
    let ours = |socket: &&Socket| owners.get(&socket.inode).is_some_and(|all| all.iter().any(|owner| Some(owner.pid) == daemon));
    let can_see = owners.len() == sockets.iter().map(|socket| socket.inode).collect::<std::collections::BTreeSet<_>>().len();
    let mut clear = true;
    for row in wanted {
        let own = sockets.iter().filter(|socket| concerns(row, socket)).any(|socket| ours(&socket));
        // Two may share a port where each is bound to its device.
        for socket in sockets.iter().filter(|socket| concerns(row, socket)).filter(|socket| !ours(socket)) {
            let hidden = owners.get(&socket.inode).is_none();
            if hidden && daemon.is_some() {
                continue;
            }
            clear = false;
            found.add(taken(row, socket, owners.get(&socket.inode), own));
        }
        if daemon.is_some() && can_see && !own && !sockets.iter().any(|socket| concerns(row, socket)) {
            clear = false;
            let what = format!("{} {} is in the config, and musterd does not have it", transport(row), row.address);
            found.add(
                Finding::new(CHECK, Severity::Look, what)
                    .on(row.service.name)
                    .remedy("restart musterd: the config was changed since it started"),
            );
        }
    }
    if clear {
        let what = match (daemon, can_see) {
            (Some(_), false) => format!("{} ports; run as root to see who has them", wanted.len()),
            (Some(_), true) => format!("musterd has all {} that it needs", wanted.len()),
            (None, _) => format!("all {} that musterd needs are free", wanted.len()),
        };
        found.fine(CHECK, what);
    }
}

fn transport(row: &Endpoint) -> &'static str {
    if matches!(row.transport, Transport::Listen(_)) { "TCP" } else { "UDP" }
}

fn taken(row: &Endpoint, socket: &Socket, owners: Option<&Vec<Owner>>, shared: bool) -> Finding {
    let who = match owners.and_then(|all| all.first()) {
        Some(Owner { pid, name }) => format!("{name}, pid {pid},"),
        None => "another program".into(),
    };
    let verdict = if row.required && !shared { Severity::Broken } else { Severity::Look };
    let kind = transport(row);
    let what = format!("{who} has {kind} {}:{}, which musterd needs ({kind} {})", socket.address, socket.port, row.address);
    Finding::new(CHECK, verdict, what).on(row.service.name).remedy(row.remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster::base::endpoint::Service;

    /// Of a machine with dnsmasq, systemd-resolved and a listener on all addresses.
    const UDP: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 1140: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 21011 2 0000000000000000 0
 1172: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 21012 2 0000000000000000 0
 1174: 0100360A:0045 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 21013 2 0000000000000000 0
";
    const UDP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 1140: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 22011 2 0000000000000000 0
 1141: 0000000000000000FFFF00000100360A:0045 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 22012 2 0000000000000000 0
 1142: 000080FE00000000FF005450EE32CEFE:0222 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 22013 2 0000000000000000 0
";
    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19123 1 0000000000000000 100 0 0 10 0
   1: 0100360A:0016 0200360A:D5F2 01 00000000:00000000 02:000A9D2F 00000000     0        0 21999 2 0000000000000000 20 4 1 10 -1
";

    fn row(port: u16, required: bool) -> Endpoint {
        let service = Service { id: 0, name: "dhcp" };
        let address = std::net::SocketAddrV4::new([10, 54, 0, 1].into(), port);
        Endpoint { service, transport: Transport::Udp, link: Some(0), address, required, remedy: "stop it" }
    }

    #[test]
    fn tables_of_the_kernel_are_read() {
        if cfg!(target_endian = "big") {
            return;
        }
        let udp = table(UDP, false);
        assert_eq!(udp[0], Socket { tcp: false, address: [127, 0, 0, 53].into(), port: 53, inode: 21011 });
        assert_eq!((udp[2].address, udp[2].port), ([10, 54, 0, 1].into(), 69));
        let wide = table(UDP6, false);
        assert_eq!(
            wide.iter().map(|socket| (socket.address, socket.port)).collect::<Vec<_>>(),
            [(Ipv4Addr::UNSPECIFIED, 53), ([10, 54, 0, 1].into(), 69)]
        );
        assert_eq!(table(TCP, true).len(), 1, "connections have no port of their own");
        assert!(table("nonsense\nmore 1:2\n", false).is_empty());
    }

    #[test]
    fn who_has_a_port_is_named() {
        if cfg!(target_endian = "big") {
            return;
        }
        let sockets = [table(UDP, false), table(UDP6, false)].concat();
        let rows = [row(67, true), row(69, true), row(53, false), row(20069, true)];
        let wanted: Vec<&Endpoint> = rows.iter().collect();
        let sockets: Vec<Socket> = sockets.into_iter().filter(|socket| wanted.iter().any(|row| concerns(row, socket))).collect();
        assert_eq!(
            sockets.iter().map(|socket| socket.inode).collect::<Vec<_>>(),
            [21012, 21013, 22011, 22012],
            "loopback's is nobody's of ours"
        );
        let owner = |pid, name: &str| vec![Owner { pid, name: name.into() }];
        let owners = BTreeMap::from([
            (21012, owner(5, "dnsmasq")),
            (21013, owner(9, "musterd")),
            (22011, owner(6, "named")),
            (22012, owner(9, "musterd")),
        ]);
        let lines = |daemon| {
            let mut found = Diagnosis::default();
            judge(&wanted, &sockets, &owners, daemon, &mut found);
            found.0.iter().map(Finding::line).collect::<Vec<_>>()
        };
        let lines_running = lines(Some(9));
        assert_eq!(
            lines_running[0],
            "broken port dhcp: dnsmasq, pid 5, has UDP 0.0.0.0:67, which musterd needs (UDP 10.54.0.1:67) (stop it)"
        );
        assert!(lines_running[1].starts_with("look   port dhcp: named, pid 6,"), "{lines_running:?}");
        assert!(lines_running[2].contains("20069 is in the config"), "{lines_running:?}");
        assert_eq!(lines(None).len(), 4, "each that is taken");
    }
}
