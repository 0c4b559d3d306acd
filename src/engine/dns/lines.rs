//! Lines to other servers: connections, and sockets that are connected for one question and have a port of their own (RFC 5452, 9.2).
//! The kernel takes nothing on them but what comes from the server, and says when nobody listens there.
//!
//! A place is asked for, given, used for one question, hung up, and free again when the world says so.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::base::machine::ConnId;
use crate::base::outbox::Output;
use crate::base::slab::Key;
use crate::wire::dns;

use super::super::Ctx;
use super::PORT;
use super::forward::UpstreamQuestion;

/// Whose a line is: a question's, to one of its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub question: Key<UpstreamQuestion>,
    pub server: usize,
}

/// The place of a line.
pub type LineId = u16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Free,
    /// The world was asked for it. None: nobody wants it any more.
    Dialled(Option<Owner>),
    Open(Owner, ConnId),
    /// Until the world says that it has gone.
    Ending(ConnId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Datagrams,
    Stream,
}

/// All lines: those by connections first.
pub struct Lines {
    places: Box<[Line]>,
}

impl Lines {
    pub fn new() -> Lines {
        Lines { places: vec![Line::Free; dns::CALLS + dns::TALKS].into() }
    }

    /// Asks the world for a line. None: there is none free.
    pub fn dial(&mut self, ctx: &mut Ctx<'_>, by: By, to: Ipv4Addr, owner: Owner) -> Option<LineId> {
        let (first, places) = match by {
            By::Stream => (0, self.places.get_mut(..dns::CALLS)?),
            By::Datagrams => (dns::CALLS, self.places.get_mut(dns::CALLS..)?),
        };
        let at = places.iter().position(|line| *line == Line::Free)?;
        let endpoint = match by {
            By::Stream => ctx.endpoints.dial(),
            By::Datagrams => ctx.endpoints.asker(),
        };
        let line = first + at;
        let put = ctx.out.put(Output::Connect { endpoint, to: SocketAddrV4::new(to, PORT), token: line as u64 });
        put.then(|| {
            places[at] = Line::Dialled(Some(owner));
            line as LineId
        })
    }

    /// A line was given; whose it is. One that nobody wants any more is hung up.
    pub fn opened(&mut self, ctx: &mut Ctx<'_>, conn: ConnId, token: u64) -> Option<Owner> {
        let place = usize::try_from(token).ok().and_then(|at| self.places.get_mut(at))?;
        let Line::Dialled(owner) = *place else { return None };
        match owner {
            Some(owner) => *place = Line::Open(owner, conn),
            None => {
                *place = Line::Ending(conn);
                ctx.out.put(Output::Close { conn, at_once: true });
            }
        }
        owner
    }

    /// Whose an open line is.
    pub fn owner(&self, conn: ConnId) -> Option<Owner> {
        self.places.iter().find_map(|line| match line {
            Line::Open(owner, own) if *own == conn => Some(*owner),
            _ => None,
        })
    }

    /// The connection of an open line.
    pub fn conn(&self, line: LineId) -> Option<ConnId> {
        match self.places.get(usize::from(line)) {
            Some(Line::Open(_, conn)) => Some(*conn),
            _ => None,
        }
    }

    /// A line has gone, and its place is free. Gives whose it was, and whether a place by connections was freed.
    pub fn closed(&mut self, conn: ConnId) -> (Option<Owner>, bool) {
        let own = |line: &Line| matches!(line, Line::Open(_, own) | Line::Ending(own) if *own == conn);
        let Some(at) = self.places.iter().position(own) else { return (None, false) };
        let owner = match std::mem::replace(&mut self.places[at], Line::Free) {
            Line::Open(owner, _) => Some(owner),
            _ => None,
        };
        (owner, at < dns::CALLS)
    }

    /// Nobody wants a line any more.
    pub fn hang_up(&mut self, ctx: &mut Ctx<'_>, line: LineId) {
        let Some(place) = self.places.get_mut(usize::from(line)) else { return };
        match *place {
            Line::Dialled(_) => *place = Line::Dialled(None),
            Line::Open(_, conn) => {
                *place = Line::Ending(conn);
                ctx.out.put(Output::Close { conn, at_once: true });
            }
            Line::Free | Line::Ending(_) => {}
        }
    }
}
