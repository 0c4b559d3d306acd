//! Netascii under trouble: what was lost, what is cold, and reads that overtake each other. Text is read block by block, and an
//! answer to a read does not say which read it answers.

use super::*;

/// A text without line feeds, each 512 bytes of it another letter.
fn letters(blocks: u8) -> Vec<u8> {
    (0..blocks).flat_map(|n| [b'a' + n; 512]).collect()
}

/// Begins a netascii transfer of this text; gives the first read.
fn begin(world: &mut World, peer: &mut Peer, text: &[u8]) -> Vec<String> {
    assert_eq!(peer.ask_in(world, "readme", Mode::Netascii, NOTHING), ["open readme"]);
    peer.opened(world, text.len() as u64)
}

/// Answers a read at this offset; gives the block that is sent and the letter that it begins with.
fn answer(world: &mut World, peer: &mut Peer, text: &[u8], offset: usize) -> Vec<(u16, char)> {
    let bytes = &text[offset..text.len().min(offset + 512)];
    let got = world.handle(Input::Bytes { token: peer.token, bytes });
    peer.hear(&got);
    let block = |got: &Got| match got {
        Got::Datagram { body, .. } => match tftp::parse(body) {
            Ok(Packet::Data { block, data }) => Some((block, data.first().copied().unwrap_or(b'-').into())),
            other => panic!("{other:?}"),
        },
        _ => None,
    };
    got.iter().filter_map(block).collect()
}

#[test]
fn reads_that_overlap_mix_no_blocks() {
    let mut world = World::new(&config());
    let (mut peer, text) = (Peer::new(), letters(4));
    assert_eq!(begin(&mut world, &mut peer, &text), ["read 0+512"]);
    assert_eq!(answer(&mut world, &mut peer, &text, 0), [(1, 'a')]);
    assert_eq!(peer.ack(&mut world, 1), ["read 512+512"]);
    assert_eq!(answer(&mut world, &mut peer, &text, 512), [(2, 'b')]);
    peer.wait(&mut world, 200);
    // The client's own retry crosses block 2, so its two ACKs come in one batch, before a read is answered.
    assert_eq!(peer.ack(&mut world, 1), ["read 512+512"]);
    assert_eq!(peer.ack(&mut world, 2), ["read 1024+512"]);
    let mut sent = answer(&mut world, &mut peer, &text, 512);
    sent.extend(answer(&mut world, &mut peer, &text, 1024));
    assert_eq!(sent, [(3, 'c')], "block 3 never bears the bytes of block 2");
    assert_eq!(peer.ack(&mut world, 3), ["read 1536+512"]);
    assert_eq!(answer(&mut world, &mut peer, &text, 1536), [(4, 'd')]);
}

#[test]
fn a_lost_block_is_read_and_sent_again() {
    let mut world = World::new(&config());
    let (mut peer, text) = (Peer::new(), letters(2));
    begin(&mut world, &mut peer, &text);
    assert_eq!(answer(&mut world, &mut peer, &text, 0), [(1, 'a')]);
    assert_eq!(peer.wait(&mut world, 520), ["read 0+512"]);
    assert_eq!(answer(&mut world, &mut peer, &text, 0), [(1, 'a')]);
    assert_eq!(peer.ack(&mut world, 1), ["read 512+512"]);
    assert_eq!(answer(&mut world, &mut peer, &text, 512), [(2, 'b')]);
    assert_eq!(peer.ack(&mut world, 2), ["read 1024+512"], "a full last block is followed by an empty one");
    assert_eq!(answer(&mut world, &mut peer, &text, 1024), [(3, '-')]);
    assert_eq!(peer.ack(&mut world, 3), ["close 7"]);
}

#[test]
fn a_cold_text_is_read_again_soon() {
    let mut world = World::new(&config());
    let (mut peer, text) = (Peer::new(), letters(2));
    begin(&mut world, &mut peer, &text);
    for _ in 0..3 {
        assert_eq!(world.handle(Input::Cold { token: peer.token }), []);
        assert_eq!(peer.wait(&mut world, 100), [""; 0], "not before it is there");
        let got = world.handle(Input::Warm { token: peer.token });
        assert_eq!(peer.hear(&got), ["read 0+512"]);
    }
    assert_eq!(answer(&mut world, &mut peer, &text, 0), [(1, 'a')]);
    assert_eq!((peer.ack(&mut world, 1), world.count(Counter::TftpCold)), (vec!["read 512+512".to_string()], 3));
}

#[test]
fn a_changed_text_ends_with_an_error() {
    let mut world = World::new(&config());
    let (mut peer, text) = (Peer::new(), letters(2));
    begin(&mut world, &mut peer, &text);
    let got = world.handle(Input::Changed { token: peer.token });
    assert_eq!(peer.hear(&got), ["error 0 the file was changed while it was being sent: ask again", "close 7"]);
    assert_eq!(answer(&mut world, &mut peer, &text, 0), [], "bytes that come too late");
}

#[test]
fn a_rom_gets_few_oacks_too() {
    let mut world = World::settled(&config());
    let mut peer = Peer::leased(&mut world, &Ask::rom(mac(1)));
    assert_eq!(peer.begin(&mut world, 5_000, TftpOptions { blksize: Some(1456), ..NOTHING }), ["oack blksize=1456"]);
    assert_eq!(peer.wait(&mut world, 20_000).len(), 2, "as many as of a block");
    assert_eq!(peer.ack(&mut world, 0), ["data 1..1 1456B"]);
    assert_eq!(peer.wait(&mut world, 20_000).len(), 2, "progress gives them back");
}

#[test]
fn a_cold_read_that_was_overtaken_asks_for_nothing() {
    let mut world = World::new(&config());
    let (mut peer, text) = (Peer::new(), letters(3));
    begin(&mut world, &mut peer, &text);
    assert_eq!(answer(&mut world, &mut peer, &text, 0), [(1, 'a')]);
    peer.wait(&mut world, 200);
    let (block, read) = (peer.ask_in(&mut world, "readme", Mode::Netascii, NOTHING), peer.ack(&mut world, 1));
    assert_eq!((block, read), (vec!["read 0+512".to_string()], vec!["read 512+512".to_string()]), "a repeated request, and its ACK");
    assert_eq!(world.handle(Input::Cold { token: peer.token }), []);
    assert_eq!(answer(&mut world, &mut peer, &text, 512), [(2, 'b')]);
    assert_eq!(peer.wait(&mut world, 100), [""; 0], "block 2 is under way: no read is owed");
}
