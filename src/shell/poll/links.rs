//! What becomes of sockets when something becomes of a link.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use mio::Interest;
use mio::unix::SourceFd;

use super::super::source::EventSource;
use super::super::udp;
use super::Shell;

impl Shell {
    /// The endpoints with the address `from` are at `to` from now on. One that cannot be opened there is said, and stays where it was.
    pub(super) fn readdress(&mut self, from: Ipv4Addr, to: Ipv4Addr) {
        for at in 0..self.table.len() {
            let Some(row) = self.table.get_mut(at).filter(|row| *row.address.ip() == from) else { continue };
            row.address.set_ip(to);
            let reopened = if row.transport.streams().is_some() {
                self.conns.move_door(self.poll.registry(), at as u16, row.address)
            } else {
                self.reopen_socket(at as u16)
            };
            if let (Err(error), Some(row)) = (reopened, self.table.get(at)) {
                log::error!("{}: not served on {}: {error} ({})", row.service.name, row.address, udp::remedy(row, &error));
            }
        }
    }

    /// Opens the socket of an endpoint again, as its row is now.
    fn reopen_socket(&mut self, endpoint: u16) -> std::io::Result<()> {
        let Some(row) = self.table.get(usize::from(endpoint)) else { return Ok(()) };
        let Some(at) = self.sockets.iter().position(|socket| socket.endpoint == endpoint) else { return Ok(()) };
        let facts = row.link.and_then(|link| self.facts.get(usize::from(link)));
        let socket = udp::open(endpoint, row, facts)?;
        let source = self.links.len() + at;
        if !socket.mute {
            self.poll.registry().register(&mut SourceFd(&socket.fd.as_raw_fd()), EventSource::Socket(source).into(), Interest::READABLE)?;
        }
        if let Some(place) = self.sockets.get_mut(at) {
            // Closing the old one ends its registration.
            *place = socket;
        }
        Ok(())
    }
}
