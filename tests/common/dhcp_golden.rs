//! Golden messages of the DHCP codec's differential test; written by hand from the RFCs, none is a capture.

use muster::wire::dhcp::{FIXED, Header, MessageBuilder};

use super::{FILE, SNAME};

pub type Golden = (u8, u8, &'static [u8]);

/// What the machines of a cluster send, in the layout of PXE ROMs (RFC 4578), UEFI, iPXE, a system's client and a relay agent, and one reply
/// that is overloaded: op, the last byte of the relay's address, option bytes.
pub const GOLDEN: [Golden; 7] = [
    (
        1,
        0,
        b"\x35\x01\x01\x39\x02\x04\xec\x37\x18\x01\x02\x03\x04\x05\x06\x0b\x0c\x0d\x0f\x10\x11\x12\x2b\x36\x3c\x43\x80\x81\x82\x83\x84\x85\x86\
          \x61\x11\x00\x31\x32\x33\x34\x35\x36\x37\x38\x39\x30\x61\x62\x63\x64\x65\x66\x5d\x02\x00\x00\x5e\x03\x01\x02\x01\
          \x3c\x20PXEClient:Arch:00000:UNDI:002001\xff\x00\x00\x00",
    ),
    (
        1,
        0,
        b"\x35\x01\x03\x36\x04\x0a\x00\x00\x01\x32\x04\x0a\x00\x00\x11\x39\x02\x05\xc0\x61\x11\x00\x31\x32\x33\x34\x35\x36\x37\x38\x39\x30\x61\x62\
          \x63\x64\x65\x66\x5e\x03\x01\x03\x10\x5d\x02\x00\x07\x3c\x20PXEClient:Arch:00007:UNDI:003016\xff",
    ),
    (
        1,
        0,
        b"\x35\x01\x01\x39\x02\x05\xc0\x5d\x02\x00\x07\x5e\x03\x01\x03\x0a\x3c\x20PXEClient:Arch:00007:UNDI:003010\x4d\x04iPXE\x37\x05\x01\x03\x06\x43\xaf\
          \xaf\x0d\xb1\x05\x01\x80\x86\x10\x0e\x21\x01\x01\x13\x01\x01\x3d\x07\x01\x52\x54\x00\x12\x34\x56\xff",
    ),
    (1, 0, b"\x35\x01\x03\x3d\x13\xff\x12\x34\x56\x78\x00\x02\x00\x00\xab\x11\x01\x02\x03\x04\x05\x06\x07\x08\x37\x04\x01\x03\x0c\x79\x0c\x03n17\xff",),
    (1, 254, b"\x35\x01\x01\x0c\x03n17\x52\x12\x01\x04eth0\x02\x04sw-3\x05\x04\x0a\x01\x00\x00\xff",),
    (2, 0, b"\x35\x01\x02\x36\x04\x0a\x00\x00\x01\x33\x04\x00\x00\x0e\x10\x01\x04\xff\xff\x00\x00\x34\x01\x03\x2b\x03\x06\x01\x08\xff",),
    (1, 0, b"\x35\x01\x08\x2b\x02ab\x3c\x09HTTPClien\x2b\x02cd\x3c\x01t",),
];

pub fn golden(&(op, relay, options): &Golden) -> Vec<u8> {
    let chaddr = [0x52, 0x54, 0, 0x12, 0x34, 0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let h = Header {
        op,
        hops: relay.min(1),
        xid: 0x1234_5601,
        secs: 4,
        giaddr: [relay.min(10), 0, 0, relay].into(),
        chaddr,
        ..Header::default()
    };
    let mut buf = [0; 300];
    MessageBuilder::new(&mut buf, &h, 300).expect("room").finish(None);
    if op == 2 {
        // Overloaded: `file` and `sname` hold options 67, 43 and 66 (RFC 2132, 9.3).
        buf[FILE][..14].copy_from_slice(b"\x43\x05x.efi\x2b\x03\x0a\x01\x01\xff\x00");
        buf[SNAME][..11].copy_from_slice(b"\x42\x0810.0.0.1\xff");
    }
    [&buf[..FIXED + 4], options].concat()
}

/// Messages at each limit and one beyond: op, hlen, length, and the bytes that split options may have in all.
pub fn at_the_limits() -> Vec<Vec<u8>> {
    let good = golden(&GOLDEN[0]);
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let split = |len: usize| {
        let parts = vec![7; len];
        let parts = parts.chunks(255).flat_map(|part| [&[43, part.len() as u8], part].concat());
        good[..FIXED + 4].iter().copied().chain(parts).collect()
    };
    let fields = [(0, 0), (0, 1), (0, 2), (0, 3), (2, 16), (2, 17)].map(|(at, value)| with(at, value));
    let lengths = [0, 1, FIXED - 1, FIXED, FIXED + 3, FIXED + 4].map(|len| good[..len].to_vec());
    [&fields[..], &lengths[..], &[255, 256, 2048, 2049].map(split)[..]].concat()
}
