//! What is counted of DNS.

crate::counters! {
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
}
