//! The client's side of RFC 2131 for one machine: what it sends, what it takes, when it tries again and when it gives up.
//!
//! [`DhcpClient`] receives the time and messages and gives a [`DhcpStep`]; it sends nothing itself. Decisions are pure functions of the state.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::Name;
use super::cause::Cause;
use super::firmware::{DhcpHabits, Pick};
use crate::base::addr::Mac;
use crate::base::time::Instant;
use crate::wire::dhcp::{Header, Message, MessageBuilder, MessageType, SubOptions, code};

/// RFC 2131, 4.4.5: a renewal is not repeated faster than this.
const RENEWAL_WAIT: Duration = Duration::from_secs(60);
/// Bytes that a DHCP message of ours may need.
pub const MESSAGE_MAX: usize = 576;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DhcpState {
    Off,
    Selecting,
    Requesting,
    /// Asks whether the address of an earlier life may be kept: RFC 2131's INIT-REBOOT, once the REQUEST is out.
    Rebooting,
    Bound,
    Renewing,
    Rebinding,
}

/// What an OFFER or an ACK gives.
#[derive(Clone, Copy, Debug)]
pub struct DhcpLease {
    pub address: Ipv4Addr,
    pub mask: Ipv4Addr,
    pub router: Option<Ipv4Addr>,
    /// Option 54.
    pub server: Ipv4Addr,
    /// siaddr.
    pub next_server: Ipv4Addr,
    /// Empty when none is named.
    pub file: Name,
    /// Seconds; all ones never end. 0 in an ACK to no lease.
    pub seconds: u32,
    /// Who sent it, by IP and by hardware: a router, for a server behind a relay.
    pub from: (Ipv4Addr, Mac),
    /// It says that no other offer need be waited for.
    marked: bool,
    /// It has the menu item that a Raspberry Pi looks for.
    menu: bool,
}

impl DhcpLease {
    const NONE: DhcpLease = DhcpLease {
        address: Ipv4Addr::UNSPECIFIED,
        mask: Ipv4Addr::UNSPECIFIED,
        router: None,
        server: Ipv4Addr::UNSPECIFIED,
        next_server: Ipv4Addr::UNSPECIFIED,
        file: Name::EMPTY,
        seconds: 0,
        from: (Ipv4Addr::UNSPECIFIED, Mac::ZERO),
        marked: false,
        menu: false,
    };

    fn read(message: &Message<'_>, habits: &DhcpHabits, from: (Ipv4Addr, Mac)) -> DhcpLease {
        let ip = |option: u8| message.option(option).and_then(|bytes| bytes.first_chunk::<4>()).map(|&octets| Ipv4Addr::from(octets));
        let pxe = message.vendor_class().is_some_and(|class| class.starts_with(b"PXEClient"));
        let no_pxedhcp =
            message.option(code::ETHERBOOT).is_some_and(|raw| SubOptions(raw).any(|(option, value)| option == 176 && value == [1]));
        let menu = message.option(code::VENDOR_SPECIFIC).is_some_and(|raw| raw.windows(17).any(|part| part == b"Raspberry Pi Boot"));
        DhcpLease {
            address: message.header.yiaddr,
            mask: ip(code::SUBNET_MASK).unwrap_or(Ipv4Addr::UNSPECIFIED),
            router: ip(code::ROUTER),
            server: message.server_id().unwrap_or(Ipv4Addr::UNSPECIFIED),
            next_server: message.header.siaddr,
            file: file(message, habits.needs_nul).unwrap_or(Name::EMPTY),
            seconds: message.lease_time().unwrap_or(0),
            from,
            marked: pxe || no_pxedhcp,
            menu,
        }
    }

    /// Whether `ip` is on the machine's own subnet.
    pub fn is_local(&self, ip: Ipv4Addr) -> bool {
        let mask = self.mask.to_bits();
        mask != 0 && self.address.to_bits() & mask == ip.to_bits() & mask
    }
}

/// The boot file: the fixed field, else option 67. Some ROMs ask for one byte too many when its NUL is missing.
fn file(message: &Message<'_>, needs_nul: bool) -> Option<Name> {
    if !message.file.is_empty() {
        return Name::new(message.file);
    }
    let option = message.option(code::BOOTFILE).filter(|bytes| !bytes.is_empty())?;
    match option.iter().position(|&byte| byte == 0) {
        Some(end) => Name::new(option.get(..end)?),
        None if !needs_nul => Name::new(option),
        None => {
            let mut bytes = [0xff; 255];
            bytes.get_mut(..option.len())?.copy_from_slice(option);
            Name::new(bytes.get(..option.len() + 1)?)
        }
    }
}

/// What is to be done after a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DhcpStep {
    pub send: Option<MessageType>,
    /// When to call [`DhcpClient::expire`]; None leaves the timer off.
    pub wake: Option<Instant>,
    pub end: Option<Result<(), Cause>>,
    /// `send` repeats what was not answered.
    pub retry: bool,
    /// What was heard is of no use.
    pub ignored: bool,
}

impl DhcpStep {
    fn lost(cause: Cause) -> DhcpStep {
        DhcpStep { end: Some(Err(cause)), ..DhcpStep::default() }
    }
}

#[derive(Clone, Debug)]
pub struct DhcpClient {
    habits: &'static DhcpHabits,
    state: DhcpState,
    xid: u32,
    /// Messages sent since the first DISCOVER, by type.
    discovers: u8,
    requests: u8,
    started: Instant,
    bound: Instant,
    /// When the wait that is running ends.
    wake: Option<Instant>,
    /// The offer chosen, then the lease.
    lease: Option<DhcpLease>,
}

/// What a message means to a client (RFC 2131, figure 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DhcpMeaning {
    Nothing,
    /// An offer to think about.
    Offered,
    /// The lease is ours.
    Given,
    /// Begin again.
    Denied,
}

fn meaning(state: DhcpState, kind: Option<MessageType>, from_chosen: bool) -> DhcpMeaning {
    use MessageType::{Ack, Nak, Offer};
    match (state, kind, from_chosen) {
        (DhcpState::Selecting, Some(Offer), _) => DhcpMeaning::Offered,
        (DhcpState::Requesting, Some(Ack), true) => DhcpMeaning::Given,
        (DhcpState::Requesting, Some(Nak), true) => DhcpMeaning::Denied,
        (DhcpState::Rebooting | DhcpState::Renewing | DhcpState::Rebinding, Some(Ack), _) => DhcpMeaning::Given,
        (DhcpState::Rebooting | DhcpState::Renewing | DhcpState::Rebinding, Some(Nak), _) => DhcpMeaning::Denied,
        _ => DhcpMeaning::Nothing,
    }
}

impl DhcpClient {
    pub fn new(habits: &'static DhcpHabits) -> DhcpClient {
        DhcpClient {
            habits,
            state: DhcpState::Off,
            xid: 0,
            discovers: 0,
            requests: 0,
            started: Instant::ZERO,
            bound: Instant::ZERO,
            wake: None,
            lease: None,
        }
    }

    pub fn state(&self) -> DhcpState {
        self.state
    }

    pub fn xid(&self) -> u32 {
        self.xid
    }

    /// DISCOVERs sent in this round, and REQUESTs since the last of them.
    pub fn tries(&self) -> (u8, u8) {
        (self.discovers, self.requests)
    }

    /// The lease that is held, or that was offered.
    pub fn lease(&self) -> Option<&DhcpLease> {
        self.lease.as_ref()
    }

    /// When [`expire`](DhcpClient::expire) is due, if ever.
    pub fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// When the first DISCOVER of this round went out.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The first DISCOVER.
    pub fn start(&mut self, now: Instant, xid: u32) -> DhcpStep {
        *self = DhcpClient { state: DhcpState::Selecting, xid, started: now, ..DhcpClient::new(self.habits) };
        self.discover(now)
    }

    /// Asks for the address of an earlier lease again (RFC 2131, 3.2). Who is not answered, or denied it, begins from nothing.
    pub fn reboot(&mut self, now: Instant, xid: u32, held: DhcpLease) -> DhcpStep {
        *self = DhcpClient { state: DhcpState::Rebooting, xid, started: now, lease: Some(held), ..DhcpClient::new(self.habits) };
        self.ask_again(now)
    }

    fn ask_again(&mut self, now: Instant) -> DhcpStep {
        let Some(&wait) = self.habits.request.get(usize::from(self.requests)) else {
            return DhcpStep { retry: true, ..self.discover(now) };
        };
        self.requests += 1;
        self.wake = Some(now + wait);
        DhcpStep { send: Some(MessageType::Request), wake: self.wake, retry: self.requests > 1, ..DhcpStep::default() }
    }

    fn discover(&mut self, now: Instant) -> DhcpStep {
        let Some(&wait) = self.habits.discover.get(usize::from(self.discovers)) else { return DhcpStep::lost(Cause::NoOffer) };
        (self.state, self.requests, self.lease) = (DhcpState::Selecting, 0, None);
        self.discovers += 1;
        self.wake = Some(now + wait);
        DhcpStep { send: Some(MessageType::Discover), wake: self.wake, retry: self.discovers > 1, ..DhcpStep::default() }
    }

    fn request(&mut self, now: Instant) -> DhcpStep {
        let Some(&wait) = self.habits.request.get(usize::from(self.requests)) else { return DhcpStep::lost(Cause::NoAck) };
        self.state = DhcpState::Requesting;
        self.requests += 1;
        self.wake = Some(now + wait);
        DhcpStep { send: Some(MessageType::Request), wake: self.wake, retry: self.requests > 1, ..DhcpStep::default() }
    }

    /// The wait is over.
    pub fn expire(&mut self, now: Instant) -> DhcpStep {
        match self.state {
            DhcpState::Off => DhcpStep::default(),
            DhcpState::Selecting if self.lease.is_some_and(|offer| self.takes_late(&offer, now)) => self.request(now),
            DhcpState::Selecting => self.rediscover(now),
            DhcpState::Requesting => self.request(now),
            DhcpState::Rebooting => self.ask_again(now),
            DhcpState::Bound | DhcpState::Renewing | DhcpState::Rebinding => self.renew(now),
        }
    }

    /// Sends DISCOVER again and keeps the offer that is still being thought about.
    fn rediscover(&mut self, now: Instant) -> DhcpStep {
        let offer = self.lease;
        let step = self.discover(now);
        self.lease = offer;
        step
    }

    /// Whether an offer is taken the moment it comes.
    fn takes_now(&self, offer: &DhcpLease, now: Instant) -> bool {
        match self.habits.pick {
            Pick::AtOnce | Pick::Menu => true,
            Pick::WaitEnds => false,
            Pick::Marked { proxy } => offer.marked || now.since(self.started) > proxy,
        }
    }

    /// Whether it is taken when a wait ends.
    fn takes_late(&self, offer: &DhcpLease, now: Instant) -> bool {
        self.habits.pick == Pick::WaitEnds || self.takes_now(offer, now)
    }

    /// A reply with our transaction id.
    pub fn receive(&mut self, now: Instant, message: &Message<'_>, from: (Ipv4Addr, Mac)) -> DhcpStep {
        let ignored = DhcpStep { wake: self.wake, ignored: true, ..DhcpStep::default() };
        if message.header.op != 2 || message.header.xid != self.xid {
            return ignored;
        }
        let from_chosen = self.lease.is_some_and(|lease| message.server_id() == Some(lease.server));
        match meaning(self.state, message.message_type(), from_chosen) {
            DhcpMeaning::Nothing => ignored,
            DhcpMeaning::Offered => self.offered(now, DhcpLease::read(message, self.habits, from)).unwrap_or(ignored),
            DhcpMeaning::Given => self.given(now, DhcpLease::read(message, self.habits, from)).unwrap_or(ignored),
            DhcpMeaning::Denied if matches!(self.state, DhcpState::Requesting | DhcpState::Rebooting) => match self.discover(now) {
                DhcpStep { end: Some(_), .. } => DhcpStep::lost(Cause::Nak),
                step => step,
            },
            DhcpMeaning::Denied => DhcpStep::lost(Cause::Nak),
        }
    }

    fn offered(&mut self, now: Instant, offer: DhcpLease) -> Option<DhcpStep> {
        let sound = !offer.address.is_unspecified() && !offer.server.is_unspecified();
        if !sound || (self.habits.pick == Pick::Menu && !offer.menu) {
            return None;
        }
        // The first offer stays, but one that ends the waiting is better.
        let better = self.lease.is_none_or(|held| offer.marked && !held.marked);
        let chosen = if better { offer } else { self.lease? };
        self.lease = Some(chosen);
        match self.takes_now(&chosen, now) {
            true => Some(self.request(now)),
            false => Some(DhcpStep { wake: self.wake, ignored: !better, ..DhcpStep::default() }),
        }
    }

    fn given(&mut self, now: Instant, mut lease: DhcpLease) -> Option<DhcpStep> {
        let held = self.lease?;
        if lease.address != held.address {
            return None;
        }
        if lease.file.is_empty() {
            (lease.file, lease.next_server) = (held.file, held.next_server);
        }
        (self.state, self.bound, self.lease) = (DhcpState::Bound, now, Some(lease));
        // All ones never end (RFC 2131, 3.3).
        self.wake = (self.habits.renews && lease.seconds != u32::MAX).then(|| self.renewal().0);
        Some(DhcpStep { wake: self.wake, end: Some(Ok(())), ..DhcpStep::default() })
    }

    /// T1, T2 and the end of the lease (RFC 2131, 4.4.5).
    fn renewal(&self) -> (Instant, Instant, Instant) {
        let lease = Duration::from_secs(self.lease.map_or(0, |lease| lease.seconds).into());
        (self.bound + lease / 2, self.bound + lease * 7 / 8, self.bound + lease)
    }

    fn renew(&mut self, now: Instant) -> DhcpStep {
        let (_, t2, end) = self.renewal();
        if now >= end {
            return DhcpStep::lost(Cause::LeaseExpired);
        }
        let retry = self.state != DhcpState::Bound;
        let (state, until) = if now < t2 { (DhcpState::Renewing, t2) } else { (DhcpState::Rebinding, end) };
        self.state = state;
        // Half of what is left, but no less than a minute.
        let wake = (now + (until.since(now) / 2).max(RENEWAL_WAIT)).min(until);
        self.wake = Some(wake);
        DhcpStep { send: Some(MessageType::Request), wake: self.wake, retry, ..DhcpStep::default() }
    }

    /// Writes a message; gives its length. None when it does not fit `buf`, which holds [`MESSAGE_MAX`] bytes.
    pub fn write(&self, buf: &mut [u8], kind: MessageType, now: Instant, mac: Mac) -> Option<usize> {
        let renewing = matches!(self.state, DhcpState::Renewing | DhcpState::Rebinding);
        let held = self.lease.unwrap_or(DhcpLease::NONE);
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&mac.0);
        let header = Header {
            xid: self.xid,
            secs: now.since(self.started).as_secs().min(u64::from(u16::MAX)) as u16,
            flags: if self.habits.broadcast && !renewing { Header::BROADCAST } else { 0 },
            ciaddr: if renewing { held.address } else { Ipv4Addr::UNSPECIFIED },
            chaddr,
            ..Header::default()
        };
        let mut builder = MessageBuilder::new(buf, &header, MESSAGE_MAX)?;
        builder.message_type(kind);
        if kind == MessageType::Request && !renewing {
            builder.ip(code::REQUESTED_IP, held.address);
            // A client that reboots does not know who gave it the address (RFC 2131, 4.3.2).
            if self.state != DhcpState::Rebooting {
                builder.ip(code::SERVER_ID, held.server);
            }
        }
        builder.option(code::PARAMETER_LIST, self.habits.parameters);
        builder.option(code::MAX_MESSAGE_SIZE, &self.habits.max_size.to_be_bytes());
        self.write_firmware_options(&mut builder, mac);
        Some(builder.finish(None))
    }

    fn write_firmware_options(&self, builder: &mut MessageBuilder<'_>, mac: Mac) {
        let [a, b, c, d, e, f] = mac.0;
        if self.habits.client_id {
            builder.option(code::CLIENT_ID, &[1, a, b, c, d, e, f]);
        }
        if let Some(arch) = self.habits.arch {
            builder.option(code::ARCHITECTURE, &arch.to_be_bytes());
            // UNDI 2.1 (RFC 4578, 2.2); a UUID made from the MAC.
            builder.option(code::INTERFACE_ID, &[1, 2, 1]);
            builder.option(code::MACHINE_UUID, &[0, b'm', b'u', b's', b't', b'e', b'r', 0, 0, 0, 0, a, b, c, d, e, f]);
        }
        if let Some(class) = self.habits.vendor_class {
            builder.option(code::VENDOR_CLASS, class);
        }
        if let Some(class) = self.habits.user_class {
            builder.option(code::USER_CLASS, class);
        }
        if let Some(features) = self.habits.features {
            builder.option(code::ETHERBOOT, features);
        }
    }
}

#[cfg(test)]
mod tests;
