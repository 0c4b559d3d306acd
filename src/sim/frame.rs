//! DATA frames of the modelled head: headers first, bytes when they arrive. Their UDP checksum is 0, none (RFC 768): the model
//! does not corrupt bytes, and adding them up took more time than all else.

use std::net::SocketAddrV4;

use crate::base::addr::Mac;

/// Ethernet, IPv4 and UDP headers, and TFTP's own.
pub const HEADERS: usize = 14 + 20 + 8 + 4;
/// The longest frame: a block of the largest blksize, which no client of ours asks for.
pub const FRAME_MAX: usize = HEADERS + 65_464;
/// The shortest frame without its check sequence.
const FRAME_MIN: usize = 60;

/// Where a frame comes from and goes to.
#[derive(Clone, Copy)]
pub struct FrameEnds {
    pub src_mac: Mac,
    pub dst_mac: Mac,
    pub src: SocketAddrV4,
    pub dst: SocketAddrV4,
}

/// The headers of a DATA frame with a block of `len` bytes, which fits into a datagram; `own` is TFTP's.
pub fn headers(ends: &FrameEnds, ident: u16, own: [u8; 4], len: usize) -> [u8; HEADERS] {
    let udp = (8 + 4 + len) as u16;
    let ip = 20 + udp;
    let mut head = [0; HEADERS];
    head[..6].copy_from_slice(&ends.dst_mac.0);
    head[6..12].copy_from_slice(&ends.src_mac.0);
    head[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    head[16..18].copy_from_slice(&ip.to_be_bytes());
    head[18..20].copy_from_slice(&ident.to_be_bytes());
    head[22..24].copy_from_slice(&[64, 17]);
    head[26..30].copy_from_slice(&ends.src.ip().octets());
    head[30..34].copy_from_slice(&ends.dst.ip().octets());
    let sum = head[14..34].chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    head[24..26].copy_from_slice(&sum.to_be_bytes());
    head[34..36].copy_from_slice(&ends.src.port().to_be_bytes());
    head[36..38].copy_from_slice(&ends.dst.port().to_be_bytes());
    head[38..40].copy_from_slice(&udp.to_be_bytes());
    head[42..46].copy_from_slice(&own);
    head
}

/// Bytes of the frame, padding included.
pub const fn bytes(len: usize) -> usize {
    if HEADERS + len < FRAME_MIN { FRAME_MIN } else { HEADERS + len }
}

/// Lays the frame down; `fill` lays its block.
pub fn lay<'a>(buf: &'a mut [u8; FRAME_MAX], headers: &[u8; HEADERS], len: usize, fill: impl FnOnce(&mut [u8])) -> &'a [u8] {
    buf[..HEADERS].copy_from_slice(headers);
    fill(&mut buf[HEADERS..HEADERS + len]);
    buf[HEADERS + len..bytes(len)].fill(0);
    &buf[..bytes(len)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ether::{Checksum, Frame, parse};

    #[test]
    fn frames_can_be_read() {
        let ends = FrameEnds {
            src_mac: Mac([2, 0, 0, 0, 0, 1]),
            dst_mac: Mac([2, 0, 0, 0, 0, 2]),
            src: "10.54.0.1:20069".parse().unwrap(),
            dst: "10.54.255.254:2070".parse().unwrap(),
        };
        for (len, ident) in [(0, 0), (1, 65_535), (1468, 0x1234), (512, 7)] {
            let mut room = [9; FRAME_MAX];
            let buf = lay(&mut room, &headers(&ends, ident, [0, 3, 0xab, 0xcd], len), len, |payload| payload.fill(5));
            let Ok(Frame::Udp(frame)) = parse(buf, Checksum::Verify) else { panic!("{len}: {buf:?}") };
            assert_eq!((frame.src_mac, frame.dst_mac, frame.src, frame.dst), (ends.src_mac, ends.dst_mac, ends.src, ends.dst));
            assert_eq!((&frame.payload[..4], frame.payload.len()), (&[0, 3, 0xab, 0xcd][..], 4 + len));
            assert!(frame.payload[4..].iter().all(|&byte| byte == 5) && buf.len() == (46 + len).max(60));
        }
    }
}
