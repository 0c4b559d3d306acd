use super::*;
use crate::fleet::firmware::Firmware;

const PEER: u16 = 3000;

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn what(step: &DownloadStep) -> Vec<DownloadPacket> {
    step.sends.iter().flatten().map(|send| send.what).collect()
}

fn data(transfer: &mut Download, now: Instant, block: u16, bytes: usize) -> DownloadStep {
    transfer.receive(now, PEER, &Packet::Data { block, data: &vec![block as u8; bytes] })
}

/// A transfer whose options the server agreed to: it waits for block 1.
fn running(firmware: Firmware) -> Download {
    let mut transfer = Download::new(&firmware.profile().tftp, Asks::default());
    transfer.start(at(0), FIRST_PORT);
    if let Some((asked, _)) = firmware.profile().tftp.probe {
        let step = transfer.receive(at(0), PEER, &Packet::Oack(TftpOptions { tsize: Some(100_000), ..asked }));
        assert!(matches!(what(&step)[..], [DownloadPacket::Error(_), DownloadPacket::Rrq(_)]), "{firmware}");
    }
    let asked = firmware.profile().tftp.asks;
    let step = transfer.receive(at(0), PEER, &Packet::Oack(TftpOptions { tsize: asked.tsize.map(|_| 100_000), ..asked }));
    assert_eq!(what(&step), [DownloadPacket::Ack(0)], "{firmware}");
    transfer
}

/// The times at which something is sent, in milliseconds, until it gives up.
fn tries(mut transfer: Download, mut step: DownloadStep) -> (Vec<u64>, u64, Cause, Vec<u16>) {
    let (mut times, mut ports, mut now) = (Vec::new(), Vec::new(), at(0));
    loop {
        if let [Some(send), _] = step.sends {
            times.push(now.nanos() / 1_000_000);
            ports.push(send.from);
        }
        if let Some(end) = step.end {
            return (times, now.nanos() / 1_000_000, end.unwrap_err(), ports);
        }
        now = step.wake.expect("a transfer that runs has a timer");
        step = transfer.expire(now);
    }
}

fn asking(firmware: Firmware) -> (Vec<u64>, u64, Cause, Vec<u16>) {
    let mut transfer = Download::new(&firmware.profile().tftp, Asks::default());
    let step = transfer.start(at(0), FIRST_PORT);
    tries(transfer, step)
}

fn waiting(firmware: Firmware) -> (Vec<u64>, u64, Cause) {
    let mut transfer = running(firmware);
    let blksize = usize::from(transfer.blksize);
    let step = data(&mut transfer, at(0), 1, blksize);
    let step = if step.sends[0].is_none() { transfer.ack(at(0), 1) } else { step };
    let (times, end, cause, _) = tries(transfer, step);
    (times, end, cause)
}

#[test]
fn requests_and_when_they_give_up() {
    let rom = asking(Firmware::Rom);
    assert_eq!((&rom.0[..], rom.1, rom.2), (&[0, 5000, 10_000][..], 15_000, Cause::RrqTimeout));
    assert_eq!(rom.3, [2070, 2071, 2072], "each from a port of its own");
    assert_eq!(asking(Firmware::Edk2).0, [0, 4000, 8000, 12_000, 16_000, 20_000]);
    assert_eq!(asking(Firmware::Ipxe).0, [0, 250, 750, 1750, 3750, 7750]);
    assert_eq!(asking(Firmware::Ipxe).1, 15_750);
    let grub = asking(Firmware::Grub);
    assert_eq!((grub.0.len(), &grub.0[..3], grub.1), (40, &[0, 400, 820][..], 31_600));
    assert_eq!(asking(Firmware::UBoot).0.len(), 10);
    assert!(asking(Firmware::Ipxe).3.iter().all(|&port| port == FIRST_PORT));
}

#[test]
fn blocks_and_when_they_give_up() {
    assert_eq!(waiting(Firmware::Rom), (vec![0, 4000, 8000], 12_000, Cause::DataTimeout));
    assert_eq!(waiting(Firmware::Grub), (vec![0], 31_600, Cause::DataTimeout), "never an ACK twice");
    assert_eq!(waiting(Firmware::Ipxe), (vec![0, 250, 750, 1750, 3750, 7750], 15_750, Cause::DataTimeout));
    let (times, end, _) = waiting(Firmware::Pxelinux);
    assert_eq!((times.len(), times[1], end), (31, 109, 130_831));
}

#[test]
fn a_probe_is_an_error_and_a_second_request() {
    let mut transfer = Download::new(&Firmware::Rom.profile().tftp, Asks::default());
    transfer.start(at(0), FIRST_PORT);
    let step = transfer.receive(at(1), PEER, &Packet::Oack(TftpOptions { tsize: Some(3), ..TftpOptions::default() }));
    let [error, rrq] = step.sends.map(Option::unwrap);
    assert_eq!(error, DownloadSend { from: 2070, to: PEER, what: DownloadPacket::Error(ErrorCode::NotDefined) });
    assert_eq!(
        rrq,
        DownloadSend { from: 2071, to: 69, what: DownloadPacket::Rrq(TftpOptions { blksize: Some(1456), ..TftpOptions::default() }) }
    );
    assert!(transfer.expects(PEER + 1), "the second transfer has a port of its own");
    data(&mut transfer, at(2), 1, 4);
    assert_eq!(transfer.phase, DownloadPhase::Idle, "block 1 without an OACK is taken");
}

#[test]
fn sizes_are_compared() {
    for (bytes, end) in [(3, Ok(())), (4, Err(Cause::WrongSize))] {
        let mut transfer = Download::new(&Firmware::Ipxe.profile().tftp, Asks::default());
        transfer.start(at(0), FIRST_PORT);
        transfer.receive(at(1), PEER, &Packet::Oack(TftpOptions { tsize: Some(3), ..TftpOptions::default() }));
        assert_eq!(data(&mut transfer, at(2), 1, bytes).end, Some(end));
    }
}

#[test]
fn lock_step_to_the_end() {
    let mut transfer = running(Firmware::Rom);
    for block in 1..=68 {
        let step = data(&mut transfer, at(block), block as u16, 1456);
        assert_eq!((what(&step), step.end), (vec![DownloadPacket::Ack(block as u16)], None));
    }
    let step = data(&mut transfer, at(70), 69, 100_000 - 68 * 1456);
    assert_eq!((what(&step), step.end, transfer.hash().len()), (vec![DownloadPacket::Ack(69)], Some(Ok(())), 100_000));
    assert_eq!(step.gap, Some(Duration::from_millis(2)));
    assert_eq!(
        data(&mut transfer, at(71), 69, 0),
        DownloadStep { duplicate: true, ..DownloadStep { wake: transfer.wake, ..DownloadStep::default() } }
    );
}

#[test]
fn block_numbers_wrap() {
    let mut transfer = running(Firmware::UBoot);
    transfer.tsize = None;
    for block in 1..=70_000u64 {
        let step = data(&mut transfer, at(block), block as u16, 1468);
        assert_eq!(what(&step), [DownloadPacket::Ack(block as u16)]);
    }
    assert_eq!(data(&mut transfer, at(70_001), 70_001u64 as u16, 0).end, Some(Ok(())));
    assert_eq!(transfer.hash().len(), 70_000 * 1468);
}

#[test]
fn a_rom_dies_of_the_third_duplicate_and_of_any_other_block() {
    let mut transfer = running(Firmware::Rom);
    data(&mut transfer, at(1), 1, 1456);
    for _ in 0..2 {
        let step = data(&mut transfer, at(2), 1, 1456);
        assert_eq!((what(&step), step.end, step.duplicate), (vec![DownloadPacket::Ack(1)], None, true));
    }
    assert_eq!(data(&mut transfer.clone(), at(3), 2, 1456).end, None, "the right block still helps");
    assert_eq!(data(&mut transfer, at(3), 1, 1456).end, Some(Err(Cause::Duplicates)));
    for block in [0, 3, 4] {
        let mut transfer = running(Firmware::Rom);
        data(&mut transfer, at(1), 1, 1456);
        assert_eq!(data(&mut transfer, at(1), block, 1456).end, Some(Err(Cause::WrongBlock)), "{block}");
    }
}

#[test]
fn a_rom_counts_waits_and_duplicates_together() {
    let mut transfer = running(Firmware::Rom);
    data(&mut transfer, at(0), 1, 1456);
    assert!(transfer.expire(at(4000)).retry);
    data(&mut transfer, at(4500), 1, 1456);
    assert_eq!(data(&mut transfer, at(4600), 1, 1456).end, Some(Err(Cause::Duplicates)));
}

#[test]
fn a_raspberry_pi_hangs_on_a_duplicate() {
    let mut transfer = running(Firmware::RaspberryPi);
    data(&mut transfer, at(1), 1, 1024);
    let step = data(&mut transfer, at(2), 1, 1024);
    assert_eq!((what(&step), step.end), (vec![DownloadPacket::Ack(2)], Some(Err(Cause::Hung))));
}

#[test]
fn u_boot_ignores_and_grub_acknowledges_what_is_old() {
    let mut transfer = running(Firmware::UBoot);
    data(&mut transfer, at(1), 1, 1468);
    for block in [1, 0, 3] {
        assert_eq!(what(&data(&mut transfer, at(2), block, 1468)), []);
    }
    let mut transfer = running(Firmware::Grub);
    for block in 1..=3 {
        data(&mut transfer, at(1), block, 1024);
    }
    for (block, answer) in [(3, Some(3)), (1, Some(1)), (0xffff, Some(0xffff)), (5, None)] {
        let expected: Vec<_> = answer.map(DownloadPacket::Ack).into_iter().collect();
        assert_eq!(what(&data(&mut transfer, at(2), block, 1024)), expected, "{block}");
    }
}

#[test]
fn edk2_in_windows() {
    let mut transfer = running(Firmware::Edk2);
    for block in 1..=4 {
        let step = data(&mut transfer, at(1), block, 1468);
        assert_eq!(what(&step), if block == 4 { vec![DownloadPacket::Ack(4)] } else { vec![] });
    }
    // Block 5 is lost: each of the others brings the same ACK.
    for block in 6..=8 {
        assert_eq!(what(&data(&mut transfer, at(2), block, 1468)), [DownloadPacket::Ack(4)]);
    }
    // Again from 5, the last one of the window lost: silence until 4 s after its last ACK.
    for block in 5..=7 {
        let step = data(&mut transfer, at(3), block, 1468);
        assert_eq!((what(&step), step.wake), (vec![], Some(at(4002))));
    }
    let step = transfer.expire(at(4002));
    assert_eq!((what(&step), step.retry, step.wake), (vec![DownloadPacket::Ack(7)], true, Some(at(8002))));
    // Reordered: 9 before 8.
    assert_eq!(what(&data(&mut transfer, at(4003), 9, 1468)), [DownloadPacket::Ack(7)]);
    assert_eq!(what(&data(&mut transfer, at(4003), 8, 1468)), []);
}

#[test]
fn an_oack_that_says_too_much() {
    let given = |firmware: Firmware, options: TftpOptions| {
        let mut transfer = Download::new(&firmware.profile().tftp, Asks::default());
        transfer.start(at(0), FIRST_PORT);
        (transfer.phase, transfer.tries, transfer.port) = (DownloadPhase::Asking, 1, 2071);
        transfer.receive(at(1), PEER, &Packet::Oack(options))
    };
    let options = |blksize, tsize, windowsize| TftpOptions { blksize, tsize, windowsize, timeout: None };
    let refused =
        |step: DownloadStep| step.end == Some(Err(Cause::OackRefused)) && what(&step) == [DownloadPacket::Error(ErrorCode::OptionRefused)];
    assert!(!refused(given(Firmware::Edk2, options(Some(1468), None, Some(4)))));
    assert!(!refused(given(Firmware::Edk2, options(Some(1024), None, Some(2)))));
    assert!(refused(given(Firmware::Edk2, options(Some(1468), Some(9), Some(4)))), "tsize was asked for in the probe only");
    assert!(refused(given(Firmware::Edk2, options(Some(1469), None, None))));
    assert!(refused(given(Firmware::Edk2, options(None, None, Some(5)))));
    assert!(refused(given(Firmware::Ipxe, options(Some(1468), None, None))), "larger is fatal for everybody");
    assert!(!refused(given(Firmware::Rom, options(Some(1456), Some(9), None))), "only EDK2 minds what it did not ask for");
}

#[test]
fn an_oack_twice_is_acknowledged_twice() {
    let oack = Packet::Oack(TftpOptions { blksize: Some(1432), ..TftpOptions::default() });
    let mut transfer = running(Firmware::Ipxe);
    assert_eq!(what(&transfer.receive(at(1), PEER, &oack)), [DownloadPacket::Ack(0)]);
    data(&mut transfer, at(2), 1, 1432);
    assert_eq!(what(&transfer.receive(at(3), PEER, &oack)), []);
}

#[test]
fn errors_and_other_ports() {
    let error = |code| Packet::Error { code, message: b"" };
    let mut transfer = Download::new(&Firmware::Ipxe.profile().tftp, Asks::default());
    transfer.start(at(0), FIRST_PORT);
    assert_eq!(transfer.clone().receive(at(1), PEER, &error(1)).end, Some(Err(Cause::NotFound)));
    assert_eq!(transfer.receive(at(1), PEER, &error(2)).end, Some(Err(Cause::Refused)));
    let mut transfer = running(Firmware::Ipxe);
    assert_eq!(transfer.receive(at(1), PEER + 1, &error(0)), transfer.ignored(), "from another port");
    assert_eq!(data(&mut transfer, at(1), 1, 1433).end, Some(Err(Cause::TooLong)));
}

#[test]
fn the_hash_does_not_see_blocks() {
    let bytes: Vec<u8> = (0..5000u32).map(|n| ((n * 7) >> 2) as u8).collect();
    let hash = |size: usize| {
        let mut hash = Hash::default();
        bytes.chunks(size).for_each(|part| hash.add(part));
        (hash.len(), hash.finish())
    };
    for size in [1, 3, 8, 11, 31, 32, 33, 512, 1456, 1468] {
        assert_eq!(hash(size), hash(5000), "{size}");
    }
    let mut zeros = [Hash::default(), Hash::default()];
    zeros[0].add(&[0; 8]);
    zeros[1].add(&[0; 9]);
    assert_ne!(zeros[0].finish(), zeros[1].finish());
}

#[test]
fn options_can_be_put_in_place_of_the_firmwares() {
    let asked = |firmware: Firmware, asks| {
        let mut transfer = Download::new(&firmware.profile().tftp, asks);
        let first = transfer.start(at(0), FIRST_PORT);
        let probed = transfer.receive(at(1), PEER, &Packet::Oack(TftpOptions { tsize: Some(1), ..TftpOptions::default() }));
        let rrqs = what(&first).into_iter().chain(what(&probed)).filter_map(|what| match what {
            DownloadPacket::Rrq(options) => Some((options.blksize, options.windowsize)),
            _ => None,
        });
        rrqs.collect::<Vec<_>>()
    };
    let windows = Asks { blksize: None, windowsize: Some(16) };
    assert_eq!(asked(Firmware::Rom, windows), [(None, None), (Some(1456), Some(16))], "the probe is for the size alone");
    assert_eq!(asked(Firmware::Edk2, windows), [(Some(1468), Some(16)); 2]);
    assert_eq!(asked(Firmware::Edk2, Asks { blksize: Some(1024), windowsize: Some(1) }), [(Some(1024), None); 2]);
}

#[test]
fn the_silence_that_kills_is_a_gap() {
    let mut transfer = running(Firmware::Rom);
    data(&mut transfer, at(100), 1, 1456);
    let steps = [4100, 8100, 12_100].map(|millis| transfer.expire(at(millis)));
    assert_eq!(steps[2].end, Some(Err(Cause::DataTimeout)));
    assert_eq!(steps.map(|step| step.gap), [None, None, Some(Duration::from_secs(12))]);
}
