//! What the server says besides data: options settled, OACK, ERROR.

use crate::base::limits;
use crate::base::machine::Datagram;
use crate::base::outbox::Via;
use crate::engine::Ctx;
use crate::roll::kind::FirmwareKind;
use crate::wire::tftp::{self, ErrorCode};

use super::transfer::{Settled, Transfer, TransferSource};
use super::{HEADERS, WINDOW_BYTES_MAX};

/// Turns the options that were asked for into those that are acknowledged: only what was asked, never a larger value (RFC 2347).
pub fn settle(transfer: &Transfer, ctx: &Ctx<'_>) -> Settled {
    let (session, content) = (transfer.session(), transfer.content());
    let netascii = content.netascii().is_some();
    let lock_step = netascii || matches!(content.source(), TransferSource::Made { .. });
    let mtu = ctx.links.mtu(ctx.config, session.link(), *session.peer().ip());
    let fits = if lock_step { limits::WRITE_MAX as u32 } else { mtu }.min(mtu).saturating_sub(HEADERS);
    let blksize_max = fits.clamp(tftp::BLKSIZE_MIN.into(), tftp::BLKSIZE_MAX.into()) as u16;
    let mut options = *session.options();
    options.blksize = options.blksize.map(|asked| asked.min(blksize_max));
    let blksize = options.blksize.unwrap_or(tftp::BLKSIZE_DEFAULT);
    let window_max = (WINDOW_BYTES_MAX / usize::from(blksize)).clamp(1, ctx.config.tftp.windowsize.into()) as u16;
    options.windowsize = options.windowsize.filter(|_| !lock_step).map(|asked| asked.min(window_max));
    // The length of a netascii text is known only when it has been sent: no size is better than a wrong one.
    options.tsize = options.tsize.filter(|_| !netascii).map(|_| content.size());
    // RFC 2349: who acknowledges the interval keeps to it. U-Boot asks for the 5 s of its own retry, does not look for the answer, and survives
    // duplicates (`net/tftp.c`): every loss would cost it 5 s.
    options.timeout = options.timeout.filter(|_| session.kind() != FirmwareKind::UBoot);
    let blocks = if netascii { u64::MAX } else { content.size() / u64::from(blksize) + 1 };
    Settled { options, blksize, windowsize: options.windowsize.unwrap_or(1), blocks }
}

/// Sends a packet of a transfer.
pub fn send(ctx: &mut Ctx<'_>, transfer: &Transfer, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
    let (session, from) = (transfer.session(), transfer.session().server());
    ctx.out.datagram(ctx.endpoints.udp(session.link(), session.port()), from, session.peer(), transfer.via(), write);
}

pub fn error_to(ctx: &mut Ctx<'_>, transfer: &Transfer, code: ErrorCode, text: &str) {
    send(ctx, transfer, |buf| tftp::emit_error(buf, code, text));
}

/// Answers a request that begins no transfer, from the port that it came to.
pub fn error(ctx: &mut Ctx<'_>, request: &Datagram<'_>, code: ErrorCode, text: &str) {
    let via = request.mac.filter(|mac| mac.is_individual()).map_or(Via::Kernel, Via::Mac);
    ctx.out.datagram(request.endpoint, request.dst, request.src, via, |buf| tftp::emit_error(buf, code, text));
}
