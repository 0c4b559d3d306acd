//! What happened, counted by name: every drop has a reason, every reason a counter (law 3).

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A thing that is counted. The text is its name in logs and in state.json.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            pub const ALL: &'static [Counter] = &[$(Counter::$name,)*];

            pub fn name(self) -> &'static str {
                match self { $(Counter::$name => $text,)* }
            }
        }
    };
}

counters! {
    Discover = "dhcp discover",
    Request = "dhcp request",
    Inform = "dhcp inform",
    Decline = "dhcp decline",
    Release = "dhcp release",
    Bootp = "bootp request",
    Offer = "dhcp offer sent",
    Ack = "dhcp ack sent",
    Nak = "dhcp nak sent",
    /// Not a DHCP message, or one that breaks the RFC.
    DhcpMalformed = "dhcp dropped: malformed",
    /// op 2, or a message type that only servers send.
    DhcpNotARequest = "dhcp dropped: not a request",
    DhcpNoIdentity = "dhcp dropped: neither MAC nor client-id",
    DhcpNoNetwork = "dhcp dropped: from a network that is not ours",
    DhcpNoAddress = "dhcp dropped: guest pool is empty",
    DhcpTableFull = "dhcp dropped: client table is full",
    DhcpOtherServer = "dhcp dropped: meant for another server",
    DhcpUnknown = "dhcp dropped: no record, not authoritative",
    DhcpTooLong = "dhcp dropped: reply does not fit",
    /// In the name of a machine whose frames come another way.
    DhcpNotItself = "dhcp dropped: in another machine's name",
    /// Asked for by an address of none of our networks.
    DhcpOutside = "dhcp dropped: reply would leave our networks",
    /// A machine that has caused more records of the journal than its share.
    DhcpRecords = "dhcp dropped: more records than its share",
    /// As many records as there may be wait for the disk.
    DhcpJournal = "dhcp dropped: too much waits for the journal",
    ReportMalformed = "report of a machine dropped: malformed",
    Enlisted = "machine got its number",
    /// It took an offer, and new numbers are given more slowly than that.
    NumberDelayed = "number held back: more machines pass than new-numbers lets in",
    NumberConflict = "report held back: it names a node without evidence",
    JournalRecord = "journal record written",
    Rrq = "tftp read request",
    RrqRepeated = "tftp read request repeated",
    TftpMalformed = "tftp dropped: malformed",
    TftpStranger = "tftp dropped: address is not of our networks",
    TftpWrite = "tftp refused: write request",
    TftpOption = "tftp refused: absurd option",
    TftpTableFull = "tftp dropped: transfer table is full",
    TftpEvicted = "tftp ended: silent or never acknowledged, another needed its place",
    /// From another card than the one on record.
    TftpForged = "tftp from a MAC that is not the machine's",
    TftpFilesBusy = "tftp dropped: file table is full",
    TftpNoTransfer = "tftp dropped: no such transfer",
    TftpEarlyAck = "tftp dropped: early duplicate ACK",
    TftpStaleAck = "tftp dropped: ACK outside the window",
    TftpNotFound = "tftp not found",
    TftpRefused = "tftp refused: not served",
    TftpDone = "tftp transfer done",
    TftpProbe = "tftp size probe",
    TftpAborted = "tftp ended by the client",
    TftpGaveUp = "tftp gave up",
    TftpChanged = "tftp ended: file changed",
    TftpResent = "tftp packet sent again",
    TftpRetry = "tftp retry of a client",
    TftpCold = "tftp waited for the disk",
    DataPackets = "tftp data packets sent",
    DataBytes = "tftp data bytes sent",
    DnsQuery = "dns query",
    DnsAnswer = "dns answered from the plan",
    DnsForwarded = "dns forwarded",
    DnsForwardedAnswer = "dns answer of an upstream handed on",
    DnsRefused = "dns refused",
    DnsFailed = "dns failed: no upstream has answered",
    /// Shorter than a header, or a response.
    DnsNoQuery = "dns dropped: not a query",
    DnsMalformed = "dns refused: malformed",
    DnsNotImplemented = "dns refused: not implemented",
    DnsTableFull = "dns failed: too many wait for upstreams",
    DnsRepeated = "dns dropped: asked already",
    /// From nobody who was asked, or not what was asked.
    DnsStray = "dns dropped: not an answer to us",
    DnsRetried = "dns asked an upstream again",
    DnsTransfer = "dns zone transfer",
    DnsTransferRefused = "dns zone transfer refused",
    RouterAdvert = "router advertisement sent",
    ArpProbe = "arp probe sent",
    ArpConflict = "address found in use",
    /// A claim of an address of ours for which nobody had asked.
    ArpUnasked = "arp claim dropped: nobody asked",
    /// The answer of a machine that answers for everybody, or for a node that it is not.
    ArpNotBelieved = "arp answer dropped: not believed",
    ForeignServer = "foreign dhcp server seen",
    LogLeftOut = "log line of a machine left out",
}

#[derive(Clone, Debug)]
pub struct Stats([u64; Counter::ALL.len()]);

impl Default for Stats {
    fn default() -> Stats {
        Stats([0; Counter::ALL.len()])
    }
}

impl Stats {
    pub fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    pub fn add(&mut self, counter: Counter, n: u64) {
        self.0[counter as usize] += n;
    }

    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// All counters that are not zero.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> + '_ {
        Counter::ALL.iter().map(|&counter| (counter, self.get(counter))).filter(|&(_, n)| n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_name() {
        let mut stats = Stats::default();
        stats.count(Counter::Offer);
        stats.add(Counter::DataBytes, 1468);
        assert_eq!(stats.iter().map(|(c, n)| (c.name(), n)).collect::<Vec<_>>(), [("dhcp offer sent", 1), ("tftp data bytes sent", 1468)]);
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Counter::ALL.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Counter::ALL.len());
    }
}
