//! What is counted of DHCP, of the numbers that machines get by it, and of who else claims their addresses.

crate::counters! {
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
    /// What this machine asks by one interface and hears by another: the question whether another server is there.
    DhcpOwn = "dhcp dropped: from the head itself",
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
    DhcpJournal = "dhcp dropped: journal queue is full",
    ReportMalformed = "report of a machine dropped: malformed",
    Enlisted = "machine got its number",
    /// It took an offer, and new numbers are given more slowly than that.
    NumberDelayed = "number held back: more machines pass than new-numbers lets in",
    NumberConflict = "report held back: it names a node without evidence",
    ArpProbe = "arp probe sent",
    ArpConflict = "address found in use",
    /// A claim of an address of ours for which nobody had asked.
    ArpUnasked = "arp claim dropped: nobody asked",
    /// The answer of a machine that answers for everybody, or for a node that it is not.
    ArpNotBelieved = "arp answer dropped: not believed",
    ForeignServer = "foreign dhcp server seen",
    LogLeftOut = "log line of a machine left out",
}
