//! The one table of keys. The reader, the defaults, what `musterd -t` prints, the difference that a reload logs, and what needs a restart
//! all follow from it; a test holds the manual and the example against it.
//!
//! A new key is a line here, and a use of it. In `[tftp]`, `[dhcp]`, `[dns]` and `[server]` a line is a field of the
//! [`Config`](super::Config) at once; in the other sections, whose values depend on others, resolution makes one of it.

mod kind;
mod section;

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;

use super::error::Errors;
use super::value::{KeyName, KeySlot, Origin, Set};
use crate::base::limits;
use crate::roll::lot;
use crate::roll::plan::NodeNames;
pub(super) use kind::is_user_name;
use kind::*;
use section::Usual::{Derived, Is, Required};
pub(super) use section::{Applies, KeySpec, Section, SetKey, Usual, filled, unknown};
use section::{get, section, usual};

/// The sections of the file, in the order of the manual.
pub(super) const SECTIONS: [(&str, &[KeySpec]); 10] = [
    (ClusterKeys::HEADER, ClusterKeys::KEYS),
    (NetworkKeys::HEADER, NetworkKeys::KEYS),
    (SegmentKeys::HEADER, SegmentKeys::KEYS),
    (NodeKeys::HEADER, NodeKeys::KEYS),
    (BootKeys::HEADER, BootKeys::KEYS),
    (ForKeys::HEADER, ForKeys::KEYS),
    (TftpKeys::HEADER, TftpKeys::KEYS),
    (DhcpKeys::HEADER, DhcpKeys::KEYS),
    (DnsKeys::HEADER, DnsKeys::KEYS),
    (ServerKeys::HEADER, ServerKeys::KEYS),
];

/// A lease: a minute to ten years.
type LeaseTime = Seconds<60, { 3650 * 86_400 }>;
/// 2 ms are 160 full frames at 1 Gbit/s, less than a small switch's queue.
type QueueDelay = Millis<1, 50>;
type IpList = List<Address, 16>;
/// The least that every IPv4 host takes (RFC 791) to the largest there is.
type Mtu = Count<u16, 576, 65_535>;
/// A minute: by default, a thousand machines that pass within a minute and a half wait for nothing; the most is one a millisecond.
type NewNumbers = Count<u32, 1, 60_000>;
/// The site-specific options (RFC 3942) but for the last: the one behind the report's carries the names.
type ReportOption = Count<u8, 224, 253>;
type Initrds = List<LoaderFile, 8>;
type NodeCount = Count<u32, 1, { limits::CAPACITY_MAX as u64 }>;
type Capacity = Count<usize, { limits::CAPACITY_MIN as u64 }, { limits::CAPACITY_MAX as u64 }>;

section! {
    /// `[cluster]`: names and numbers.
    ClusterKeys "[cluster]" {
        name "name": DomainName, Is("\"cluster\""), Reload, "The cluster's name, a domain name.";
        prefix "prefix": Prefix, Is("\"n\""), Reload, "What precedes the number in a node's name.";
        digits "digits": Count<u8, 1, { NodeNames::DIGITS_MAX as u64 }>, Is("1"), Reload, "Digits of a name at least, by leading zeros.";
        node0 "node0": Address, Derived, Reload, "The address of node 0; node n has node0 + n.";
        nodes "nodes": NodeCount, Derived, Reload, "How many numbers there are, from 0 on.";
        guests "guests": Guests, Derived, Reload, "Addresses of machines without a number, in the network that holds them.";
        numbering "numbering": How, Is("\"automatic\""), Reload, "How a machine that passes its test gets a number.";
        new_numbers "new-numbers": NewNumbers, Is("600"), Reload, "New numbers a minute, a fifth of them at once.";
        ignore "ignore": List<Pattern, 64>, Is("[]"), Reload, "MAC addresses that get no number, such as those of BMCs.";
    }
}

section! {
    /// `[[network]]`: a network that is served, an interface's own or one behind a relay.
    NetworkKeys "[[network]]" {
        interface "interface": Interface, Derived, Restart, "A boot interface, whose own network this is.";
        head "head": Address, Derived, Reload, "Which of the interface's addresses is the head's.";
        subnet "subnet": Net, Derived, Reload, "A subnet behind a DHCP relay.";
        guests "guests": Guests, Derived, Reload, "Addresses of machines without a number.";
        guest_lease "guest-lease": LeaseTime, Derived, Reload, "The lease of machines without a number.";
        lease "lease": LeaseTime, Derived, Reload, "The lease of machines with a number.";
        router "router": IpList, Derived, Reload, "Routers, DHCP option 3.";
        dns "dns": IpList, Derived, Reload, "Name servers, DHCP option 6.";
        ntp "ntp": IpList, Is("[]"), Reload, "Time servers, DHCP option 42.";
        domain "domain": DomainName, Derived, Reload, "The domain, DHCP option 15.";
        link_rate "link-rate": Rate, Derived, Reload,
            "The rate of the path to the nodes, if it is lower than the interface's.";
        queue_delay "queue-delay": QueueDelay, Is("\"2ms\""), Reload, "The queue on the path to the nodes that pacing aims at.";
        mtu "mtu": Mtu, Derived, Reload, "The largest IP packet that the nodes and the path to them take.";
        options "options": Options, Derived, Reload, "More DHCP options, by number.";
    }
}

section! {
    /// `[[segment]]`: numbers with addresses of their own.
    SegmentKeys "[[segment]]" {
        nodes "nodes": Run, Required, Reload, "The first and the last number.";
        first "first": Address, Required, Reload, "The address of the first one.";
    }
}

section! {
    /// `[[node]]`: a machine that is known.
    NodeKeys "[[node]]" {
        number "number": Count<u32, 0, { limits::CAPACITY_MAX as u64 - 1 }>, Required, Reload, "Its number.";
        macs "macs": List<MacAddress, { lot::MACS_MAX }>, Required, Reload, "All MAC addresses it may boot from.";
    }
}

section! {
    /// `[boot]`: what machines boot.
    BootKeys "[boot]" {
        root "root": Folder, Is("\"/srv/tftp\""), Reload, "The folder that TFTP serves.";
        allow "allow": List<Folder, { crate::config::limits::ALLOW_MAX }>, Is("[]"), Restart, "More folders into which links may lead.";
        program "program": Programs, Derived, Reload, "Boot programs by architecture.";
        script "script": Script, Derived, Reload, "What iPXE runs instead of a script generated from kernel, initrd and args.";
        kernel "kernel": LoaderFile, Derived, Reload, "The kernel.";
        initrd "initrd": Initrds, Derived, Reload, "Initial RAM disks.";
        args "args": Args, Is("\"\""), Reload, "The kernel's arguments.";
    }
}

section! {
    /// `[[for]]`: exceptions by number.
    ForKeys "[[for]]" {
        nodes "nodes": Numbers, Required, Reload, "Which nodes.";
        program "program": Programs, Derived, Reload, "Their boot programs, by architecture.";
        script "script": Script, Derived, Reload, "Their script.";
        kernel "kernel": LoaderFile, Derived, Reload, "Their kernel.";
        initrd "initrd": Initrds, Derived, Reload, "Their initial RAM disks.";
        args "args": Args, Derived, Reload, "Their kernel's arguments.";
        lease "lease": LeaseTime, Derived, Reload, "Their lease.";
        options "options": Options, Derived, Reload, "Their DHCP options, by number.";
    }
}

section! {
    /// `[tftp]`: transfers.
    settled Tftp, TftpKeys "[tftp]" {
        ports "ports": Ports, (u16, u16), Is("\"20069-20084\""), Restart, "The server's ports, bound on every link.";
        windowsize "windowsize": Count<u16, 1, { crate::config::limits::WINDOWSIZE_MAX as u64 }>, u16, Is("16"), Reload,
            "The largest window (RFC 7440) that a client is granted.";
        give_up "give-up": Seconds<2, 3600>, Duration, Is("\"30s\""), Reload, "A transfer ends when its client is silent for this long.";
    }
}

section! {
    /// `[dhcp]`: addresses.
    settled Dhcp, DhcpKeys "[dhcp]" {
        authoritative "authoritative": Flag, bool, Is("false"), Reload,
            "Whether a request for an unknown address of the right network gets a NAK.";
        lease "lease": LeaseTime, Duration, Is("\"12h\""), Reload, "The lease of machines with a number, in networks that set none.";
        guest_lease "guest-lease": LeaseTime, Duration, Is("\"10m\""), Reload,
            "The lease of machines without a number, in networks that set none.";
        probe "probe": Flag, bool, Is("true"), Reload, "Whether a guest's address is asked for by ARP before it is given.";
        report_option "report-option": ReportOption, u8, Is("224"), Reload,
            "The DHCP option by which a machine reports; the next one carries the cluster's names.";
    }
}

section! {
    /// `[dns]`: names.
    settled Dns, DnsKeys "[dns]" {
        enabled "enabled": Flag, bool, Is("true"), Restart, "Whether names are served, on port 53 of the head.";
        listen "listen": List<Address, { crate::config::limits::DNS_LISTEN_MAX }>, Vec<Ipv4Addr>, Is("[]"), Restart,
            "More addresses of the head to listen on.";
        upstream "upstream": List<Address, { crate::config::limits::DNS_UPSTREAMS_MAX }>, Vec<Ipv4Addr>, Is("[]"), FirstOrLast,
            "Name servers for all other names.";
        forward_unknown "forward-unknown": Flag, bool, Is("false"), Reload,
            "Whether upstream is asked for names of the domain and for private addresses that the plan does not name.";
        transfer "transfer": List<Address, { crate::config::limits::DNS_TRANSFER_MAX }>, Vec<Ipv4Addr>, Is("[]"), Reload,
            "Secondary name servers, which may have whole zones.";
    }
}

section! {
    /// `[server]`: the daemon itself.
    settled Server, ServerKeys "[server]" {
        capacity "capacity": Capacity, usize, Is("4096"), Restart, "How many machines can have a record, with and without a number.";
        run_dir "run-dir": Folder, PathBuf, Is("\"/run/muster\""), Restart, "The folder of the pid file and of state.json.";
        state_dir "state-dir": Folder, PathBuf, Is("\"/var/lib/muster\""), Restart, "The folder of the journal.";
        user "user": UserName, String, Is("\"muster\""), Restart, "Whom it runs as when root starts it.";
        router_adverts "router-adverts": Flag, bool, Is("true"), Reload,
            "Whether IPv6 router solicitations are answered with no router here.";
    }
}
