//! A question that is broadcast into networks, and who answers: for programs that look at a machine (`muster doctor`). The daemon's own sockets are
//! neither used nor disturbed: a frame that leaves this machine is not shown to its packet sockets (PACKET_IGNORE_OUTGOING).

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{MsgFlags, send};

use crate::base::addr::Mac;
use crate::base::endpoint::{Endpoint, Service, Transport};
use crate::base::facts::{Hardware, LinkFacts};
use crate::base::machine::Input;
use crate::wire::ether;

use super::ShellError;
use super::packet::PacketSocket;
use super::sys::Receiver;

/// One of those who answered.
#[derive(Clone, Debug)]
pub struct InquiryAnswer {
    /// The place in the list of links of the one where it was heard.
    pub link: usize,
    /// Whose frame it came in.
    pub mac: Option<Mac>,
    /// Whom it came from.
    pub from: SocketAddrV4,
    /// What was said.
    pub payload: Vec<u8>,
}

/// Broadcasts a datagram on each Ethernet link, from port `from` to port `to`, and collects what is sent to `from` until the time is over. Gives the
/// answers, and for each link why it could not be asked.
pub fn inquire(asked: &[(LinkFacts, Vec<u8>)], (from, to): (u16, u16), wait: Duration) -> (Vec<InquiryAnswer>, Vec<(usize, ShellError)>) {
    let (mut sockets, mut failures) = (Vec::new(), Vec::new());
    for (at, (link, payload)) in asked.iter().enumerate() {
        match ask(link, payload, from, to) {
            Ok(socket) => sockets.push((at, socket)),
            Err(why) => failures.push((at, why)),
        }
    }
    (hear(&sockets, Instant::now() + wait), failures)
}

fn ask(link: &LinkFacts, payload: &[u8], from: u16, to: u16) -> Result<PacketSocket, ShellError> {
    if link.hardware != Hardware::Ethernet {
        return Err(ShellError::new(format!("{}: only Ethernet can be asked", link.name)));
    }
    let service = Service { id: 0, name: "inquiry" };
    let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, from);
    let row = Endpoint { service, transport: Transport::Overheard, link: Some(0), address, required: true, remedy: "" };
    let socket = PacketSocket::server((0, link), &[row], 1, false)?;
    let mut frame = [0; 1514];
    let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, to);
    let len = ether::emit_udp(&mut frame, link.mac, Mac::BROADCAST, address, everybody, 0, payload);
    let sent = match len.and_then(|len| frame.get(..len)) {
        Some(frame) => send(socket.fd.as_raw_fd(), frame, MsgFlags::empty()).map_err(io::Error::from),
        None => Err(io::ErrorKind::InvalidInput.into()),
    };
    sent.map_err(|error| ShellError::system(format_args!("{}: cannot send", link.name), error, ""))?;
    Ok(socket)
}

fn hear(sockets: &[(usize, PacketSocket)], end: Instant) -> Vec<InquiryAnswer> {
    /// A network that floods us is not listened to for ever.
    const ANSWERS_MAX: usize = 256;
    let (mut receiver, mut answers) = (Receiver::default(), Vec::new());
    while answers.len() < ANSWERS_MAX {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || sockets.is_empty() {
            break;
        }
        let mut watched: Vec<PollFd<'_>> = sockets.iter().map(|(_, it)| PollFd::new(it.fd.as_fd(), PollFlags::POLLIN)).collect();
        // Rounded up: a time-out of zero would spin.
        if poll(&mut watched, u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX)).is_err() {
            break;
        }
        for (at, socket) in sockets {
            let got = receiver.receive(socket.fd.as_fd()).unwrap_or(0);
            for received in (0..got).map(|place| receiver.get(place)) {
                if let Ok(Input::Datagram(datagram)) = socket.input(0, &received) {
                    let (mac, from, payload) = (datagram.mac, datagram.src, datagram.payload.to_vec());
                    answers.push(InquiryAnswer { link: *at, mac, from, payload });
                }
            }
        }
    }
    answers
}
