//! What is counted of DNS.

crate::counters! {
    DnsQuery = "dns query",
    DnsAnswer = "dns answered from the plan",
    /// Names that are asked of nobody (RFC 6761, RFC 6303).
    DnsLocal = "dns answered: a name that stays here",
    DnsForwarded = "dns forwarded",
    DnsForwardedAnswer = "dns answer of an upstream forwarded",
    DnsRefused = "dns refused",
    DnsFailed = "dns failed: no upstream has answered",
    /// Shorter than a header, or a response.
    DnsNoQuery = "dns dropped: not a query",
    DnsMalformed = "dns refused: malformed",
    /// An opcode other than QUERY or a meta type that is not served (RFC 1035, 4.1.1: NOTIMP), or a version of EDNS above 0 (RFC 6891, 6.1.3: BADVERS).
    DnsUnsupported = "dns refused: unsupported",
    DnsTableFull = "dns failed: upstream queue is full",
    /// Their sender has many questions waiting, and the table is half full.
    DnsShare = "dns failed: more than its share",
    DnsRepeated = "dns dropped: query is pending already",
    /// From nobody who was asked, or not what was asked.
    DnsStray = "dns dropped: not an answer to us",
    DnsRetried = "dns asked an upstream again",
    DnsTransfer = "dns zone transfer",
    DnsTransferRefused = "dns zone transfer refused",
}
