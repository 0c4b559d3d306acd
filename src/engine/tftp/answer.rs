//! What the server says besides data: options settled, OACK, ERROR.

use std::net::SocketAddrV4;

use crate::base::limits;
use crate::base::machine::Datagram;
use crate::base::outbox::Via;
use crate::config::Config;
use crate::engine::Ctx;
use crate::roll::kind::Kind;
use crate::wire::tftp::{self, ErrorCode};

use super::transfer::{Source, Transfer};
use super::{HEADERS, WINDOW_BYTES_MAX, head_of};

/// Turns the options that were asked for into those that are acknowledged: only what was asked, never a larger value (RFC 2347).
pub fn settle_options(transfer: &mut Transfer, config: &Config) {
    let lock_step = transfer.netascii.is_some() || matches!(transfer.source, Source::Made { .. });
    let mtu = config.links.get(usize::from(transfer.link)).map_or(1500, |link| link.mtu);
    let fits = if lock_step { limits::WRITE_MAX as u32 } else { mtu }.min(mtu).saturating_sub(HEADERS);
    let blksize_max = fits.clamp(tftp::BLKSIZE_MIN.into(), tftp::BLKSIZE_MAX.into()) as u16;
    let options = &mut transfer.options;
    options.blksize = options.blksize.map(|asked| asked.min(blksize_max));
    transfer.blksize = options.blksize.unwrap_or(tftp::BLKSIZE_DEFAULT);
    let window_max = (WINDOW_BYTES_MAX / usize::from(transfer.blksize)).clamp(1, config.tftp.windowsize.into()) as u16;
    options.windowsize = options.windowsize.filter(|_| !lock_step).map(|asked| asked.min(window_max));
    transfer.windowsize = options.windowsize.unwrap_or(1);
    // The length of a netascii text is known only when it has been sent: no size is better than a wrong one.
    let size = transfer.size();
    let options = &mut transfer.options;
    options.tsize = options.tsize.filter(|_| transfer.netascii.is_none()).map(|_| size);
    // RFC 2349: who acknowledges the interval keeps to it. U-Boot asks for the 5 s of its own retry, does not look for the answer, and survives
    // duplicates (`net/tftp.c`): every loss would cost it 5 s.
    options.timeout = options.timeout.filter(|_| transfer.kind != Kind::UBoot);
    if transfer.netascii.is_none() {
        transfer.blocks = size / u64::from(transfer.blksize) + 1;
    }
}

/// Sends a packet of a transfer.
pub fn send(ctx: &mut Ctx<'_>, transfer: &Transfer, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
    let from = SocketAddrV4::new(head_of(ctx, transfer.link), transfer.port);
    ctx.out.datagram(ctx.endpoints.udp(transfer.link, transfer.port), from, transfer.peer, transfer.via(), write);
}

pub fn error_to(ctx: &mut Ctx<'_>, transfer: &Transfer, code: ErrorCode, text: &str) {
    send(ctx, transfer, |buf| tftp::emit_error(buf, code, text));
}

/// Answers a request that begins no transfer, from the port that it came to.
pub fn error(ctx: &mut Ctx<'_>, request: &Datagram<'_>, code: ErrorCode, text: &str) {
    let via = request.mac.filter(|mac| mac.is_individual()).map_or(Via::Kernel, Via::Mac);
    ctx.out.datagram(request.endpoint, request.dst, request.src, via, |buf| tftp::emit_error(buf, code, text));
}
