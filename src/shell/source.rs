//! What the kernel wakes the loop for, packed into its token.

use mio::Token;

const KIND: u32 = 24;
const AT: usize = (1 << KIND) - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A link's packet socket, or a UDP socket behind those.
    Socket(usize),
    Door(usize),
    Conn(usize),
    Reader(usize),
    Clerk,
    Journal,
    Signals,
    Timer,
}

impl From<Source> for Token {
    fn from(source: Source) -> Token {
        let (kind, at) = match source {
            Source::Socket(at) => (0, at),
            Source::Door(at) => (1, at),
            Source::Conn(at) => (2, at),
            Source::Reader(at) => (3, at),
            Source::Clerk => (4, 0),
            Source::Journal => (5, 0),
            Source::Signals => (6, 0),
            Source::Timer => (7, 0),
        };
        Token(kind << KIND | at)
    }
}

impl From<Token> for Source {
    fn from(token: Token) -> Source {
        let at = token.0 & AT;
        match token.0 >> KIND {
            0 => Source::Socket(at),
            1 => Source::Door(at),
            2 => Source::Conn(at),
            3 => Source::Reader(at),
            4 => Source::Clerk,
            5 => Source::Journal,
            6 => Source::Signals,
            _ => Source::Timer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_come_back() {
        let sources = [Source::Socket(1000), Source::Door(0), Source::Conn(4095), Source::Reader(7), Source::Clerk, Source::Journal];
        for source in sources.into_iter().chain([Source::Signals, Source::Timer]) {
            assert_eq!(Source::from(Token::from(source)), source);
        }
    }
}
