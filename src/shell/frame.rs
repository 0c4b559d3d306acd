//! Parts of files as frames of our own making: the headers around a part that already lies in its place.
//!
//! It is read from the file straight into the frame, so `wire::ether`, which copies a payload, does not serve here; the tests
//! compare the two. Ethernet, IPv4 without options (RFC 791), UDP with its checksum (RFC 768: some ROMs dislike none), and a header of the
//! service's own.

use std::net::SocketAddrV4;

use crate::base::addr::Mac;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
/// Bytes before the service's own header.
pub const HEADERS: usize = ETHERNET + IPV4 + UDP;
const TTL: u8 = 64;
const PROTOCOL: u8 = 17;

/// Where frames go, and in whose name.
#[derive(Clone, Copy, Debug)]
pub struct FrameAddresses {
    pub src_mac: Mac,
    pub dst_mac: Mac,
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
}

/// Writes the headers of a datagram, the service's own among them, whose `len` bytes of the file already stand behind those in `buf`. Gives
/// the length of the frame, None when it does not fit. Short frames are padded by the device, as those of the kernel's own stack are.
pub fn data(buf: &mut [u8], way: &FrameAddresses, ident: u16, own: &[u8], len: usize) -> Option<usize> {
    let whole = HEADERS + own.len() + len;
    let frame = buf.get_mut(..whole)?;
    let udp_len = u16::try_from(UDP + own.len() + len).ok()?;
    let ip_len = udp_len.checked_add(IPV4 as u16)?;
    frame.get_mut(HEADERS..HEADERS + own.len())?.copy_from_slice(own);
    let (headers, _) = frame.split_first_chunk_mut::<HEADERS>()?;
    headers[0..6].copy_from_slice(&way.dst_mac.0);
    headers[6..12].copy_from_slice(&way.src_mac.0);
    headers[12..16].copy_from_slice(&[0x08, 0, 0x45, 0]);
    headers[16..18].copy_from_slice(&ip_len.to_be_bytes());
    headers[18..20].copy_from_slice(&ident.to_be_bytes());
    headers[20..26].copy_from_slice(&[0, 0, TTL, PROTOCOL, 0, 0]);
    headers[26..30].copy_from_slice(&way.from.ip().octets());
    headers[30..34].copy_from_slice(&way.to.ip().octets());
    let header_sum = fold(sum(&headers[ETHERNET..ETHERNET + IPV4]));
    headers[24..26].copy_from_slice(&(!header_sum).to_ne_bytes());
    headers[34..36].copy_from_slice(&way.from.port().to_be_bytes());
    headers[36..38].copy_from_slice(&way.to.port().to_be_bytes());
    headers[38..40].copy_from_slice(&udp_len.to_be_bytes());
    headers[40..42].fill(0);
    let pseudo = sum(&headers[26..34]) + u64::from(udp_len.to_be()) + u64::from(u16::from(PROTOCOL).to_be());
    let checksum = match !fold(pseudo + sum(frame.get(ETHERNET + IPV4..)?)) {
        0 => 0xffff,
        checksum => checksum,
    };
    frame.get_mut(40..42)?.copy_from_slice(&checksum.to_ne_bytes());
    Some(whole)
}

/// The one's complement sum of RFC 1071, not folded yet, in the machine's own byte order. For less than 2^32 words.
fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    let sum: u64 = words.by_ref().map(|word| u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))).sum();
    let mut rest = [0; 4];
    rest.iter_mut().zip(words.remainder()).for_each(|(to, from)| *to = *from);
    sum + u64::from(u32::from_ne_bytes(rest))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ether;

    const OWN: usize = 4;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const WAY: FrameAddresses = FrameAddresses {
        src_mac: Mac([2, 0, 0, 0, 0, 1]),
        dst_mac: Mac([2, 0, 0, 0, 0, 2]),
        from: SocketAddrV4::new(Ipv4Addr::new(10, 54, 0, 1), 20_069),
        to: SocketAddrV4::new(Ipv4Addr::new(255, 254, 255, 253), 65_535),
    };

    proptest! {
        #[test]
        fn frames_are_those_of_the_codec(payload in proptest::collection::vec(any::<u8>(), 0..1468), ident: u16, own: [u8; OWN]) {
            let mut buf = [0xaa; 1514];
            buf[HEADERS + OWN..HEADERS + OWN + payload.len()].copy_from_slice(&payload);
            let len = data(&mut buf, &WAY, ident, &own, payload.len());
            let packet = [&own[..], &payload].concat();
            let mut expected = [0; 1514];
            let whole = ether::emit_udp(&mut expected, WAY.src_mac, WAY.dst_mac, WAY.from, WAY.to, ident, &packet);
            prop_assert_eq!(len.map(|len| len.max(60)), whole);
            prop_assert_eq!(&buf[..HEADERS + OWN + payload.len()], &expected[..HEADERS + OWN + payload.len()]);
        }
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_its_other_form() {
        let mut buf = [0; HEADERS + 2];
        data(&mut buf, &WAY, 0, &[], 2);
        let checksum = [buf[40], buf[41]];
        // A block that makes the sum come out at zero.
        buf[HEADERS..].copy_from_slice(&checksum);
        data(&mut buf, &WAY, 0, &[], 2);
        assert_eq!(buf[40..42], [0xff, 0xff]);
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let mut buf = vec![0; 70_000];
        assert_eq!(data(&mut buf[..HEADERS + OWN + 5], &WAY, 0, &[0; OWN], 6), None);
        assert_eq!(data(&mut buf, &WAY, 0, &[0; OWN], 65_504), None, "longer than IPv4");
        assert_eq!(data(&mut buf, &WAY, 0, &[0; OWN], 65_503), Some(HEADERS + OWN + 65_503));
    }
}
