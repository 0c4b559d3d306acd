//! Why a machine was lost. Failure is final, as it is for a machine that stops at "PXE-E32" with nobody at its console.

use std::fmt;

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Cause { $($(#[$doc])* $name,)* }

        impl Cause {
            pub const ALL: &'static [Cause] = &[$(Cause::$name,)*];

            pub const fn name(self) -> &'static str {
                match self { $(Cause::$name => $text,)* }
            }
        }
    };
}

causes! {
    NoOffer = "no offer",
    NoAck = "no DHCP ACK",
    Nak = "NAK",
    LeaseExpired = "lease expired",
    /// The lease names no file, or no server, or a name longer than 255 bytes.
    NoFile = "no boot file named",
    /// The file server, or the router to it, does not answer ARP.
    NoArp = "file server does not answer ARP",
    RrqTimeout = "time-out of the request",
    DataTimeout = "time-out of a block",
    Duplicates = "duplicates of a block",
    WrongBlock = "wrong block",
    /// A duplicate made it acknowledge what it does not have.
    Hung = "hung after a duplicate",
    /// An option that was not asked for, or a larger value.
    OackRefused = "OACK refused",
    /// A block longer than agreed upon.
    TooLong = "block too long",
    /// Fewer or more bytes than the announced size.
    WrongSize = "size differs from tsize",
    NotFound = "server says: not found",
    Refused = "server sent an ERROR",
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
