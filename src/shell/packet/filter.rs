//! The filter in the kernel by which a packet socket receives what the endpoints of its link need, and nothing else.

use std::net::Ipv4Addr;

use crate::base::endpoint::{Endpoint, Transport};
use crate::base::machine::Link;
use crate::shell::sys::Filter;

const fn step(code: u16, k: u32, jt: u8, jf: u8) -> Filter {
    Filter { code, jt, jf, k }
}
const fn load_byte(at: u32) -> Filter {
    step(0x30, at, 0, 0)
}
const fn load_half(at: u32) -> Filter {
    step(0x28, at, 0, 0)
}
/// Jumps forward by `jt` or `jf` steps.
const fn equal(k: u32, jt: u8, jf: u8) -> Filter {
    step(0x15, k, jt, jf)
}
const fn any_bit(k: u32, jt: u8, jf: u8) -> Filter {
    step(0x45, k, jt, jf)
}
/// x = 4 * (low nibble of the byte at `at`): the length of an IPv4 header.
const fn header_length(at: u32) -> Filter {
    step(0xb1, at, 0, 0)
}
/// Loads the 16 bits at x + `at`.
const fn load_half_behind(at: u32) -> Filter {
    step(0x48, at, 0, 0)
}
const ACCEPT: Filter = step(0x06, u32::MAX, 0, 0);
const DROP: Filter = step(0x06, 0, 0, 0);

const fn load_word(at: u32) -> Filter {
    step(0x20, at, 0, 0)
}

/// What one link's filter lets in.
#[derive(Debug, Default)]
pub struct Ports {
    /// UDP ports whoever the frame is for.
    any: Vec<u16>,
    /// Ranges of UDP ports of the own addresses, in frames to this machine alone.
    own: Vec<(u16, u16)>,
}

impl Ports {
    /// Those of a link's endpoints.
    pub fn of(table: &[Endpoint], link: Link) -> Ports {
        let mut ports = Ports::default();
        for row in table.iter().filter(|row| row.link == Some(link)) {
            let port = row.address.port();
            match row.transport {
                Transport::Udp => match ports.own.last_mut().filter(|(_, last)| last.checked_add(1) == Some(port)) {
                    Some((_, last)) => *last = port,
                    None => ports.own.push((port, port)),
                },
                Transport::Broadcast | Transport::Overheard => ports.any.push(port),
                _ => {}
            }
        }
        ports
    }

    /// Whether they are a server's.
    pub fn is_server(&self) -> bool {
        !self.own.is_empty()
    }

    /// ARP; unfragmented IPv4 UDP to these ports; and of a server, ICMPv6 type 133. Jumps forward skip as many steps as they say. None:
    /// more than one filter may hold.
    pub fn ethernet(&self, own: &[Ipv4Addr]) -> Option<Vec<Filter>> {
        // The ports; then to drop, the check of the address, that of IPv6, and the ends.
        let (ports, behind) = (self.any.len() + 2 * self.own.len(), 10);
        let (drop, host) = (behind + ports, behind + ports + 1);
        let ipv6 = host + own.len() + 4;
        let (accept, last) = (ipv6 + 4, ipv6 + 5);
        let to = |from: usize, to: usize| u8::try_from(to - from - 1).ok();
        let mut program = vec![
            load_half(12),
            equal(0x0806, to(1, accept)?, 0),
            equal(0x86dd, to(2, if self.is_server() { ipv6 } else { last })?, 0),
            equal(0x0800, 0, to(3, last)?),
            load_byte(23),
            equal(17, 0, to(5, last)?), // not UDP
            load_half(20),
            any_bit(0x3fff, to(7, last)?, 0), // a fragment
            header_length(14),
            load_half_behind(16),
        ];
        for port in &self.any {
            program.push(equal((*port).into(), to(program.len(), accept)?, 0));
        }
        for (first, last) in &self.own {
            program.push(at_least((*first).into(), 0, 1));
            program.push(greater((*last).into(), 0, to(program.len(), host)?));
        }
        debug_assert_eq!(program.len(), drop);
        program.extend([DROP, load_word(30)]);
        for address in own {
            program.push(equal(address.to_bits(), to(program.len(), host + own.len() + 2)?, 0));
        }
        program.extend([
            DROP,
            load_word(SKF_PACKET_TYPE),
            equal(PACKET_HOST, to(ipv6 - 1, accept)?, to(ipv6 - 1, last)?), // for others
            load_byte(20),                                                  // next header
            equal(58, 0, 3),                                                // not ICMPv6
            load_byte(54),
            equal(133, 0, 1), // router solicitation
            ACCEPT,
            DROP,
        ]);
        Some(program)
    }

    /// The same for a cooked socket, IPv4 only and of what is broadcast: the frame begins with the IP header, the protocol comes from the
    /// kernel's notes.
    pub fn cooked(table: &[Endpoint], link: Link) -> Option<Vec<Filter>> {
        let own = |row: &&Endpoint| row.link == Some(link) && row.transport == Transport::Broadcast;
        let ports: Vec<u16> = table.iter().filter(own).map(|row| row.address.port()).collect();
        let drop = u8::try_from(8 + ports.len()).ok()?;
        let mut program = vec![
            load_half(SKF_PROTOCOL),
            equal(0x0800, 0, drop - 2),
            load_byte(9),
            equal(17, 0, drop - 4),
            load_half(6),
            any_bit(0x3fff, drop - 6, 0),
            header_length(0),
            load_half_behind(2),
        ];
        program.extend((0..).zip(&ports).map(|(at, port)| equal((*port).into(), drop - 8 - at, 0)));
        program.extend([DROP, ACCEPT]);
        Some(program)
    }
}

/// Jumps by `jt` when the value is at least `k`.
const fn at_least(k: u32, jt: u8, jf: u8) -> Filter {
    step(0x35, k, jt, jf)
}
/// Jumps by `jt` when the value is greater than `k`.
const fn greater(k: u32, jt: u8, jf: u8) -> Filter {
    step(0x25, k, jt, jf)
}

/// SKF_AD_OFF + SKF_AD_PROTOCOL of `linux/filter.h`.
const SKF_PROTOCOL: u32 = (-0x1000i32) as u32;

/// SKF_AD_OFF + SKF_AD_PKTTYPE.
const SKF_PACKET_TYPE: u32 = (-0x1000i32 + 4) as u32;
/// The frame is for this machine alone (`linux/if_packet.h`).
const PACKET_HOST: u32 = 0;

/// Nothing passes: for sockets that only hold a port.
pub const DROP_ALL: [Filter; 1] = [DROP];
