//! What the kernel wakes the loop for, packed into its token.

use mio::Token;

const KIND: u32 = 24;
const AT: usize = (1 << KIND) - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventSource {
    /// A link's packet socket, or a UDP socket behind those.
    Socket(usize),
    Door(usize),
    Conn(usize),
    Reader(usize),
    Clerk,
    Journal,
    Signals,
    Links,
    Timer,
}

impl From<EventSource> for Token {
    fn from(source: EventSource) -> Token {
        let (kind, at) = match source {
            EventSource::Socket(at) => (0, at),
            EventSource::Door(at) => (1, at),
            EventSource::Conn(at) => (2, at),
            EventSource::Reader(at) => (3, at),
            EventSource::Clerk => (4, 0),
            EventSource::Journal => (5, 0),
            EventSource::Signals => (6, 0),
            EventSource::Links => (7, 0),
            EventSource::Timer => (8, 0),
        };
        Token(kind << KIND | at)
    }
}

impl From<Token> for EventSource {
    fn from(token: Token) -> EventSource {
        let at = token.0 & AT;
        match token.0 >> KIND {
            0 => EventSource::Socket(at),
            1 => EventSource::Door(at),
            2 => EventSource::Conn(at),
            3 => EventSource::Reader(at),
            4 => EventSource::Clerk,
            5 => EventSource::Journal,
            6 => EventSource::Signals,
            7 => EventSource::Links,
            _ => EventSource::Timer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_come_back() {
        let sources = [
            EventSource::Socket(1000),
            EventSource::Door(0),
            EventSource::Conn(4095),
            EventSource::Reader(7),
            EventSource::Clerk,
            EventSource::Journal,
        ];
        for source in sources.into_iter().chain([EventSource::Signals, EventSource::Links, EventSource::Timer]) {
            assert_eq!(EventSource::from(Token::from(source)), source);
        }
    }
}
