//! DNS messages (RFC 1035, 4): a query's bytes -> its meaning, an answer's meaning -> bytes. By the crate `domain`, over fixed buffers:
//! nothing is allocated.
//!
//! Reading takes whole messages and judges: what is no query at all is an `Err`, a query that breaks the rules is one with `sound` false,
//! so that it can still be answered. Writing compresses names (RFC 1035, 4.1.4) and keeps the case of the question. Pointers reach 16 KiB
//! far: no message that is written here is longer than [`PIECE_MAX`].

use std::net::Ipv4Addr;

use domain::base::iana::{Class, Opcode, OptRcode, Rcode};
use domain::base::message::RecordSection;
use domain::base::message_builder::{AnswerBuilder, MessageBuilder, StaticCompressor};
use domain::base::name::{NameBuilder, ToLabelIter, ToName};
use domain::base::record::ComposeRecord;
use domain::base::wire::Composer;
use domain::base::{Message, ParsedName, ParsedRecord, Serial, Ttl};
use domain::dep::octseq::array::Array;
use domain::dep::octseq::builder::{OctetsBuilder, ShortBuf, Truncate};
use domain::rdata::{A, Ns, Ptr, Soa};

use crate::base::limits;

/// Codes of the header's rcode (RFC 1035, 4.1.1; RFC 2136, 2.2; RFC 6891, 9).
pub mod rcode {
    /// The answer is good.
    pub const NOERROR: u16 = 0;
    /// The query cannot be read.
    pub const FORMERR: u16 = 1;
    /// The server failed.
    pub const SERVFAIL: u16 = 2;
    /// There is no such name.
    pub const NXDOMAIN: u16 = 3;
    /// The server does not do that.
    pub const NOTIMP: u16 = 4;
    /// The server does not want to.
    pub const REFUSED: u16 = 5;
    /// The server has no authority for the zone.
    pub const NOTAUTH: u16 = 9;
    /// The version of EDNS is not known.
    pub const BADVERS: u16 = 16;
}

/// Types of records and of questions (RFC 1035, 3.2.2 and 3.2.3; RFC 6891; RFC 1995).
pub mod rtype {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// A name server of a zone.
    pub const NS: u16 = 2;
    /// The start of a zone's authority.
    pub const SOA: u16 = 6;
    /// The name that an address points to.
    pub const PTR: u16 = 12;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// How a zone is signed: its parent's record.
    pub const DS: u16 = 43;
    /// The pseudo-record of EDNS.
    pub const OPT: u16 = 41;
    /// A transfer of what has changed in a zone.
    pub const IXFR: u16 = 251;
    /// A transfer of a whole zone.
    pub const AXFR: u16 = 252;
    /// All records of a name.
    pub const ANY: u16 = 255;
}

/// The Internet (RFC 1035, 3.2.4).
pub const CLASS_IN: u16 = 1;
/// QUERY (RFC 1035, 4.1.1).
pub const OPCODE_QUERY: u8 = 0;
/// The length of a header.
pub const HEADER: usize = 12;
/// What a client without EDNS takes by UDP (RFC 1035, 4.2.1).
pub const UDP_MIN: usize = 512;
/// What passes every link of IPv6 and Ethernet unfragmented: no datagram of ours is longer (RFC 9715).
pub const UDP_MAX: usize = 1232;
/// The longest message that is written piece by piece.
pub const PIECE_MAX: usize = 4096;

/// A message: of a client's, and the longest there is (RFC 1035, 4.2.2: its length has 16 bits).
pub const QUERY_MAX: usize = 2048;
/// The longest message, in bytes.
pub const MESSAGE_MAX: usize = 65_535;

/// TCP connections of clients, at once.
pub const CONNECTIONS: usize = 32;
/// TCP connections to other servers, at once.
pub const CALLS: usize = 4;
/// Sockets from which other servers are asked, at once: each for one question, connected, with a port of the kernel's choice.
pub const TALKS: usize = 512;
/// How many of them may have an answer waiting in a buffer.
pub const TALK_BUFFERS: usize = 32;
/// The longest answer by a datagram: no server was told that more is taken than [`UDP_MAX`].
pub const ANSWER_MAX: usize = 4096;
/// Questions that wait for the answers of other servers.
pub const PENDING: usize = 256;
/// Clients that wait for the answers of other servers.
pub const WAITERS: usize = 512;

const _: () = {
    assert!(MESSAGE_MAX <= limits::BYTES_PER_CALL && QUERY_MAX <= limits::RECEIVE_MAX);
    assert!(PENDING.is_power_of_two() && CALLS + TALKS <= u16::MAX as usize && TALKS >= PENDING);
};
/// An OPT record without options.
const OPT_LEN: usize = 11;

type Flat = domain::base::Name<Array<255>>;

/// A domain name in its case, uncompressed, at most 255 bytes.
#[derive(Clone)]
pub struct DnsName(Flat);

impl DnsName {
    /// A name of these labels beneath an origin; None when it would be too long, or a label is empty.
    pub fn beneath<'l>(labels: impl IntoIterator<Item = &'l [u8]>, origin: &DnsName) -> Option<DnsName> {
        begun(labels)?.append_origin(&origin.0).ok().map(DnsName)
    }

    /// A name of these labels alone, likewise.
    pub fn of<'l>(labels: impl IntoIterator<Item = &'l [u8]>) -> Option<DnsName> {
        begun(labels)?.into_name().ok().map(DnsName)
    }

    /// A host name's text, without a dot at the end: `n23.cluster`.
    pub fn of_text(text: &str) -> Option<DnsName> {
        DnsName::of(text.split('.').map(str::as_bytes))
    }

    /// The labels, the root's not among them.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
        self.0.iter_labels().map(|label| label.as_slice()).filter(|label| !label.is_empty())
    }

    /// Equal but for the case of its letters (RFC 4343).
    pub fn is(&self, other: &DnsName) -> bool {
        self.0.name_eq(&other.0)
    }
}

impl std::fmt::Display for DnsName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Debug for DnsName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

fn begun<'l>(labels: impl IntoIterator<Item = &'l [u8]>) -> Option<NameBuilder<Array<255>>> {
    let mut builder = NameBuilder::new();
    for label in labels {
        if label.is_empty() {
            return None;
        }
        builder.append_label(label).ok()?;
    }
    Some(builder)
}

/// What is asked (RFC 1035, 4.1.2).
#[derive(Clone, Debug)]
pub struct Question {
    /// The name that is asked about.
    pub name: DnsName,
    /// The type of record, one of [`rtype`] or any other.
    pub rtype: u16,
    /// The class; [`CLASS_IN`] for the Internet.
    pub class: u16,
}

impl Question {
    /// Whether it asks for the same, whatever the case of its letters.
    pub fn is(&self, other: &Question) -> bool {
        (self.rtype, self.class) == (other.rtype, other.class) && self.name.is(&other.name)
    }
}

/// What an OPT record says (RFC 6891, 6.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The largest datagram that its sender takes, in bytes.
    pub size: u16,
    /// The version of EDNS; 0 is the only one.
    pub version: u8,
    /// DO (RFC 3225).
    pub dnssec: bool,
}

/// A message that is no response.
#[derive(Clone, Debug)]
pub struct Query {
    /// The client's choice, for its answer.
    pub id: u16,
    /// What kind of query it is; [`OPCODE_QUERY`] for names.
    pub opcode: u8,
    /// RD and CD (RFC 1035, 4.1.1; RFC 4035, 3.2.2).
    pub recursion: bool,
    /// CD: the client wants data that was not validated.
    pub checking_disabled: bool,
    /// AD: the client wants to know whether it was (RFC 6840, 5.7).
    pub authentic: bool,
    /// One question, well-formed records, at most one OPT record and that in its place. Of other opcodes than QUERY nothing is asked.
    pub sound: bool,
    /// What is asked, where that can be read.
    pub question: Option<Question>,
    /// What its OPT record says, if it has one.
    pub edns: Option<Edns>,
    /// The serial of the zone that a client has already, in its question for what has changed since (IXFR: RFC 1995, 3).
    pub serial: Option<u32>,
}

impl Query {
    /// A plain question of a client that wants the whole answer (RD).
    #[cfg(test)]
    pub fn for_test(id: u16, question: Question) -> Query {
        let question = Some(question);
        let (recursion, sound, edns, serial) = (true, true, None, None);
        Query { id, opcode: OPCODE_QUERY, recursion, checking_disabled: false, authentic: false, sound, question, edns, serial }
    }

    /// How long a datagram to whoever asked may be, in bytes.
    pub fn udp_limit(&self) -> usize {
        self.edns.map_or(UDP_MIN, |edns| usize::from(edns.size).clamp(UDP_MIN, UDP_MAX))
    }
}

/// It is no query: a response, or shorter than a header. To answer it could go round in circles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoQuery;

/// Reads a query.
pub fn parse(bytes: &[u8]) -> Result<Query, NoQuery> {
    let message = Message::from_octets(bytes).map_err(|_| NoQuery)?;
    let header = message.header();
    if header.qr() {
        return Err(NoQuery);
    }
    let mut query = Query {
        id: header.id(),
        opcode: header.opcode().to_int(),
        recursion: header.rd(),
        checking_disabled: header.cd(),
        authentic: header.ad(),
        sound: true,
        question: None,
        edns: None,
        serial: None,
    };
    if query.opcode == OPCODE_QUERY {
        query.sound = read(&message, &mut query).is_some() && query.question.is_some();
    }
    Ok(query)
}

/// Reads the sections as far as they are good. None where they are not.
fn read(message: &Message<&[u8]>, query: &mut Query) -> Option<()> {
    if message.header_counts().qdcount() != 1 {
        return None;
    }
    let mut questions = message.question();
    let asked = questions.next()?.ok()?;
    let name = DnsName(asked.qname().try_to_name().ok()?);
    query.question = Some(Question { name, rtype: asked.qtype().to_int(), class: asked.qclass().to_int() });
    let mut section: RecordSection<'_, &[u8]> = questions.next_section().ok()?;
    let mut additional = 2;
    loop {
        for record in &mut section {
            let record = record.ok()?;
            if record.rtype().to_int() == rtype::SOA && asked.qtype().to_int() == rtype::IXFR {
                let soa = record.to_record::<Soa<ParsedName<&[u8]>>>().ok().flatten();
                query.serial = soa.map(|soa| soa.data().serial().into_int());
            }
            if record.rtype().to_int() == rtype::OPT {
                let alone = query.edns.is_none() && additional == 0 && record.owner().is_root();
                query.edns = Some(edns(&record)).filter(|_| alone);
                query.edns?;
            }
        }
        let Some(next) = section.next_section().ok()? else { return Some(()) };
        (section, additional) = (next, additional - 1);
    }
}

fn edns(record: &ParsedRecord<'_, &[u8]>) -> Edns {
    let [_, version, flags, _] = record.ttl().as_secs().to_be_bytes();
    Edns { size: record.class().to_int(), version, dnssec: flags & 0x80 != 0 }
}

/// Of a response: what an answer to a forwarded query must have, and what is looked at.
#[derive(Clone, Debug)]
pub struct Response {
    /// The id that the query had.
    pub id: u16,
    /// The code of its header, one of [`rcode`].
    pub rcode: u16,
    /// TC: the answer did not fit, so it must be asked for by TCP.
    pub truncated: bool,
    /// The question that it answers; some errors have none.
    pub question: Option<Question>,
}

/// Reads a response's header and question; None when it is none, or has more than one question, or one that cannot be read.
pub fn parse_response(bytes: &[u8]) -> Option<Response> {
    let message = Message::from_octets(bytes).ok()?;
    let header = message.header();
    let questions = message.header_counts().qdcount();
    if !header.qr() || header.opcode() != Opcode::QUERY || questions > 1 {
        return None;
    }
    let question = match message.question().next() {
        Some(asked) => {
            let asked = asked.ok()?;
            let name = DnsName(asked.qname().try_to_name().ok()?);
            Some(Question { name, rtype: asked.qtype().to_int(), class: asked.qclass().to_int() })
        }
        None => None,
    };
    Some(Response { id: header.id(), rcode: header.rcode().to_int().into(), truncated: header.tc(), question })
}

/// Changes the case of those letters of a message's question that are drawn: whoever answers without having seen it has to guess them
/// (draft-vixie-dnsext-dns0x20).
pub fn mix_case(message: &mut [u8], drawn: u64) {
    if let Some(name) = message.get_mut(HEADER..) {
        mix_name(name, drawn);
    }
}

fn mix_name(name: &mut [u8], drawn: u64) {
    let (mut at, mut bit) = (0, 0);
    while let Some(len @ 1..=63) = name.get(at).copied().map(usize::from) {
        let letters = name.get_mut(at + 1..at + 1 + len).into_iter().flatten().filter(|byte| byte.is_ascii_alphabetic());
        for letter in letters {
            if drawn.rotate_right(bit) & 1 != 0 {
                *letter ^= 0x20;
            }
            bit += 1;
        }
        at += 1 + len;
    }
}

/// Whether a message's question has this name, with the case of those letters changed that are drawn.
pub fn has_case(message: &[u8], name: &DnsName, drawn: u64) -> bool {
    let (mut expected, plain) = ([0; 255], name.0.as_slice());
    let Some(expected) = expected.get_mut(..plain.len()) else { return false };
    expected.copy_from_slice(plain);
    mix_name(expected, drawn);
    message.get(HEADER..HEADER + plain.len()) == Some(&*expected)
}

/// Makes a response that was forwarded the answer to this query: its id, and its question in the letters of whoever asked. The server that
/// forwards has no authority for it (AA), and forwards (RA).
pub fn make_forwarded(message: &mut [u8], query: &Query) {
    const AA: u8 = 0x04;
    const RA: u8 = 0x80;
    if let Some([id_high, id_low, flags, more, ..]) = message.get_mut(..HEADER) {
        [*id_high, *id_low] = query.id.to_be_bytes();
        (*flags, *more) = (*flags & !AA, *more | RA);
    }
    let Some(asked) = query.question.as_ref().map(|question| question.name.0.as_slice()) else { return };
    let theirs = message.get_mut(HEADER..HEADER + asked.len());
    if let Some(theirs) = theirs.filter(|theirs| theirs.eq_ignore_ascii_case(asked)) {
        theirs.copy_from_slice(asked);
    }
}

/// A record of the Internet class.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The name that has the record.
    pub owner: &'a DnsName,
    /// In seconds.
    pub ttl: u32,
    /// What the record says.
    pub data: Data<'a>,
}

/// The contents of a record, by its type.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// An IPv4 address (RFC 1035, 3.4.1).
    A(Ipv4Addr),
    /// The name of a name server (RFC 1035, 3.3.11).
    Ns(&'a DnsName),
    /// The name of an address (RFC 1035, 3.3.12).
    Ptr(&'a DnsName),
    /// The start of a zone's authority (RFC 1035, 3.3.13).
    Soa(&'a Authority),
}

/// The start of a zone's authority (RFC 1035, 3.3.13); times in seconds.
#[derive(Clone, Debug)]
pub struct Authority {
    /// MNAME: the primary name server.
    pub server: DnsName,
    /// RNAME: the mailbox of whoever is responsible.
    pub mailbox: DnsName,
    /// SERIAL: grows with each change.
    pub serial: u32,
    /// REFRESH: seconds until a secondary looks again.
    pub refresh: u32,
    /// RETRY: seconds until it looks again after a failure.
    pub retry: u32,
    /// EXPIRE: seconds until it gives up the zone.
    pub expire: u32,
    /// MINIMUM: seconds for which "no such name" is true (RFC 2308, 4).
    pub minimum: u32,
}

impl ComposeRecord for Record<'_> {
    fn compose_record<Target: Composer + ?Sized>(&self, target: &mut Target) -> Result<(), Target::AppendError> {
        let (owner, ttl) = (&self.owner.0, Ttl::from_secs(self.ttl));
        match self.data {
            Data::A(address) => {
                let [a, b, c, d] = address.octets();
                (owner, Class::IN, ttl, A::from_octets(a, b, c, d)).compose_record(target)
            }
            Data::Ns(name) => (owner, Class::IN, ttl, Ns::new(&name.0)).compose_record(target),
            Data::Ptr(name) => (owner, Class::IN, ttl, Ptr::new(&name.0)).compose_record(target),
            Data::Soa(soa) => {
                let [refresh, retry, expire, minimum] = [soa.refresh, soa.retry, soa.expire, soa.minimum].map(Ttl::from_secs);
                let data = Soa::new(&soa.server.0, &soa.mailbox.0, Serial(soa.serial), refresh, retry, expire, minimum);
                (owner, Class::IN, ttl, data).compose_record(target)
            }
        }
    }
}

/// A buffer that a message is written into.
struct Room<'b> {
    bytes: &'b mut [u8],
    len: usize,
}

impl OctetsBuilder for Room<'_> {
    type AppendError = ShortBuf;

    fn append_slice(&mut self, slice: &[u8]) -> Result<(), ShortBuf> {
        let end = self.len + slice.len();
        self.bytes.get_mut(self.len..end).ok_or(ShortBuf)?.copy_from_slice(slice);
        self.len = end;
        Ok(())
    }
}

impl Truncate for Room<'_> {
    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl AsRef<[u8]> for Room<'_> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl AsMut<[u8]> for Room<'_> {
    fn as_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }
}

impl Composer for Room<'_> {}

/// What is said in an answer's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseFlags {
    /// The response code, one of [`rcode`].
    pub rcode: u16,
    /// AA: the server speaks for the zone.
    pub authoritative: bool,
    /// Others' names are asked for elsewhere.
    pub recursive: bool,
}

/// A response in the making: answers first, then at most one record of authority, then the end.
pub struct ResponseBuilder<'b> {
    answers: AnswerBuilder<StaticCompressor<Room<'b>>>,
    edns: Option<Edns>,
    rcode: u16,
    limit: usize,
}

impl<'b> ResponseBuilder<'b> {
    /// Begins the response to a query, with its question; at most `limit` bytes long, but 12 at the least. None when the buffer does not
    /// even hold that.
    pub fn new(buf: &'b mut [u8], limit: usize, query: &Query, verdict: ResponseFlags) -> Option<ResponseBuilder<'b>> {
        let limit = limit.min(buf.len()).min(PIECE_MAX);
        let room = Room { bytes: buf.get_mut(..limit)?, len: 0 };
        let mut builder = MessageBuilder::from_target(StaticCompressor::new(room)).ok()?;
        let reserved = if query.edns.is_some() { OPT_LEN } else { 0 };
        // The library's limit is one that must not be reached.
        builder.set_push_limit(limit.saturating_sub(reserved) + 1);
        let header = builder.header_mut();
        header.set_id(query.id);
        header.set_qr(true);
        header.set_opcode(Opcode::from_int(query.opcode));
        header.set_rd(query.recursion);
        header.set_cd(query.checking_disabled);
        header.set_aa(verdict.authoritative);
        header.set_ra(verdict.recursive);
        header.set_rcode(Rcode::masked_from_int(verdict.rcode as u8));
        let mut questions = builder.question();
        if let Some(asked) = query.question.as_ref() {
            let question = (&asked.name.0, asked.rtype.into(), asked.class.into());
            if questions.push(question).is_err() {
                questions.as_builder_mut().header_mut().set_tc(true);
            }
        }
        let edns = query.edns;
        Some(ResponseBuilder { answers: questions.answer(), edns, rcode: verdict.rcode, limit })
    }

    /// False when there is no room for it; then nothing of it is written.
    pub fn answer(&mut self, record: &Record<'_>) -> bool {
        self.answers.push(record).is_ok()
    }

    /// Says that there was more to say, and leaves out what there is: half a set of records helps nobody (RFC 2181, 9).
    pub fn truncate(&mut self) {
        self.answers.rewind();
        self.answers.as_builder_mut().header_mut().set_tc(true);
    }

    /// Ends the message, with a record of authority, and with an OPT record for those who sent one (RFC 6891, 7). Gives its length in
    /// bytes.
    pub fn finish(self, authority: Option<&Record<'_>>) -> usize {
        let mut section = self.answers.authority();
        if let Some(record) = authority {
            if section.push(record).is_err() {
                section.as_builder_mut().header_mut().set_tc(true);
            }
        }
        let mut additional = section.additional();
        if let Some(edns) = self.edns {
            additional.as_builder_mut().set_push_limit(self.limit + 1);
            let rcode = OptRcode::masked_from_int(self.rcode);
            // There is room: it was kept free.
            let _ = additional.opt(|opt| {
                opt.set_udp_payload_size(UDP_MAX as u16);
                opt.set_rcode(rcode);
                opt.set_dnssec_ok(edns.dnssec);
                Ok(())
            });
        }
        additional.finish().as_slice().len()
    }
}

/// Writes a query for somebody else to answer: its question and nothing of its sender but RD, CD, DO and whether there was EDNS at all.
/// Gives its length in bytes; None when it does not fit.
pub fn write_query(buf: &mut [u8], id: u16, query: &Query) -> Option<usize> {
    let asked = query.question.as_ref()?;
    let room = Room { bytes: buf, len: 0 };
    let mut builder = MessageBuilder::from_target(StaticCompressor::new(room)).ok()?;
    let header = builder.header_mut();
    header.set_id(id);
    header.set_rd(true);
    header.set_cd(query.checking_disabled);
    header.set_ad(query.authentic);
    let mut questions = builder.question();
    questions.push((&asked.name.0, asked.rtype.into(), asked.class.into())).ok()?;
    let mut additional = questions.additional();
    if let Some(edns) = query.edns {
        let size = query.udp_limit() as u16;
        let written = additional.opt(|opt| {
            opt.set_udp_payload_size(size);
            opt.set_dnssec_ok(edns.dnssec);
            Ok(())
        });
        written.ok()?;
    }
    Some(additional.finish().as_slice().len())
}

#[cfg(test)]
mod tests;
