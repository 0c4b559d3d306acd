//! What was looked for, and whose it is.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// A page of machines and numbers that were looked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundPage {
    /// One each; numbers come first.
    pub rows: Vec<FoundRow>,
    /// Where the next page begins; None at the end.
    pub next: Option<u32>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundRow {
    /// None: it is a guest.
    pub number: Option<u32>,
    /// The node's name; `guest` for one without a number.
    pub name: String,
    /// The MAC or client-id that was heard last; empty when none was.
    pub id: String,
    /// The address that it has, else that of its number.
    pub address: Option<Ipv4Addr>,
    /// Where its boot stands; of one that was not heard what its number is.
    pub stage: String,
    /// Which of its properties was meant: `mac`, `retired mac`, `address`, `number`, `uuid`, `serial`, `switch port`.
    pub what: String,
    /// The property, whole.
    pub value: String,
}
