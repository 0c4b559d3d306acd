//! Tells the service manager that started us how we are: `sd_notify(3)`, a datagram to the socket in `$NOTIFY_SOCKET`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Everything is open: units that wait for this one may start.
pub const READY: &str = "READY=1";
/// We leave because of a signal.
pub const STOPPING: &str = "STOPPING=1";

/// Says so, where there is a manager that wants to hear it. Nothing waits: a manager whose socket is full hears nothing.
pub fn tell(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, state) {
        log::warn!("service manager: cannot send {state}: {error} (with Type=notify it will stop musterd; use Type=exec)");
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<usize> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let from = UnixDatagram::unbound()?;
    from.set_nonblocking(true)?;
    from.send_to_addr(state.as_bytes(), &address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_hears_it_by_a_path_or_an_abstract_name() {
        let path = std::env::temp_dir().join(format!("muster-notify-{}", std::process::id()));
        let name = format!("muster-notify-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let mut buf = [0; 64];
        for (socket, text) in [(&by_path, path.clone().into_os_string()), (&by_name, format!("@{name}").into())] {
            send(&text, READY).unwrap();
            socket.set_nonblocking(true).unwrap();
            let len = socket.recv(&mut buf).unwrap();
            assert_eq!(&buf[..len], b"READY=1");
        }
        std::fs::remove_file(path).unwrap();
        assert!(send(std::ffi::OsStr::new("/nonexistent/socket"), READY).is_err());
    }
}
