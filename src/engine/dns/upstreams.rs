//! Which of the configured servers is asked first. Pure.
//!
//! It is the first of the list, unless that one was silent while another one answered: then the other one is first, and the list's first
//! is asked beside it once in a while, so that it comes back when it answers again. Nobody waits for that.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::time::Instant;
use crate::config::limits::DNS_UPSTREAMS_MAX as SERVERS;

/// How often the list's first server is asked beside the one that answers.
const LOOK: Duration = Duration::from_secs(10);

/// The servers of a question, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamOrder {
    servers: [Ipv4Addr; SERVERS],
    len: usize,
    /// The first two are asked at once.
    pub both: bool,
}

impl UpstreamOrder {
    pub fn as_slice(&self) -> &[Ipv4Addr] {
        self.servers.get(..self.len).unwrap_or_default()
    }
}

pub struct Upstreams {
    known: UpstreamOrder,
    /// Those that do not keep the case of a question's letters.
    plain: [bool; SERVERS],
    first: usize,
    look: Instant,
}

impl Upstreams {
    pub fn new(now: Instant) -> Upstreams {
        let known = UpstreamOrder { servers: [Ipv4Addr::UNSPECIFIED; SERVERS], len: 0, both: false };
        Upstreams { known, plain: [false; SERVERS], first: 0, look: now }
    }

    /// The order for a question of now. A list that was changed begins anew.
    pub fn order(&mut self, configured: &[Ipv4Addr], now: Instant) -> UpstreamOrder {
        if self.known.as_slice() != configured {
            *self = Upstreams::new(now);
            self.known.len = configured.len().min(SERVERS);
            self.known.servers.iter_mut().zip(configured).for_each(|(to, from)| *to = *from);
        }
        let mut order = self.known;
        if let Some(begin) = order.servers.get_mut(..=self.first) {
            begin.rotate_right(1);
        }
        if self.first > 0 && self.look <= now {
            (order.both, self.look) = (true, now + LOOK);
        }
        order
    }

    /// A server has answered; `late`: the first one was asked before, and has said nothing. True when another one is first from now on.
    pub fn answered(&mut self, now: Instant, server: Ipv4Addr, late: bool) -> bool {
        let Some(at) = self.at(server) else { return false };
        let better = at < self.first || (at > self.first && late);
        if better {
            (self.first, self.look) = (at, now + LOOK);
        }
        better
    }

    /// The server that is first now.
    pub fn is_first(&self, server: Ipv4Addr) -> bool {
        self.at(server) == Some(self.first)
    }

    /// Whether the letters of a question to it may have any case (draft-vixie-dnsext-dns0x20).
    pub fn keeps_case(&self, server: Ipv4Addr) -> bool {
        self.at(server).and_then(|at| self.plain.get(at)).is_some_and(|plain| !plain)
    }

    /// A server has answered with other letters than those of the question.
    pub fn changes_case(&mut self, server: Ipv4Addr) {
        if let Some(plain) = self.at(server).and_then(|at| self.plain.get_mut(at)) {
            *plain = true;
        }
    }

    fn at(&self, server: Ipv4Addr) -> Option<usize> {
        self.known.as_slice().iter().position(|known| *known == server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    const C: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);

    #[test]
    fn the_one_that_answers_is_first_until_an_earlier_one_does() {
        let begin = Instant::ZERO;
        let mut upstreams = Upstreams::new(begin);
        let order = |upstreams: &mut Upstreams, seconds| {
            let order = upstreams.order(&[A, B, C], begin + Duration::from_secs(seconds));
            (order.as_slice().to_vec(), order.both)
        };
        assert_eq!(order(&mut upstreams, 0), (vec![A, B, C], false));
        assert!(!upstreams.answered(begin, C, false), "it was asked because another one refused");
        assert!(upstreams.answered(begin, C, true) && upstreams.is_first(C));
        assert_eq!(order(&mut upstreams, 1), (vec![C, A, B], false));
        assert_eq!(order(&mut upstreams, 10), (vec![C, A, B], true));
        assert_eq!(order(&mut upstreams, 11), (vec![C, A, B], false), "once in a while");
        assert!(upstreams.answered(begin, A, false));
        assert_eq!(order(&mut upstreams, 12), (vec![A, B, C], false));
        upstreams.changes_case(B);
        assert_eq!([A, B].map(|server| upstreams.keeps_case(server)), [true, false]);
        assert_eq!(upstreams.order(&[B], begin).as_slice(), [B]);
        assert!(upstreams.keeps_case(B), "another list");
    }
}
