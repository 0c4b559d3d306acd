//! Machines in QEMU, which boot from firmware that nobody here wrote.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;

use super::{Lab, image, stop, tail, text, wait};

/// What the firmware says when it has found nothing to boot from.
const GAVE_UP: [&str; 2] = ["No bootable device", "Shell>"];

/// What a machine runs when its power comes on.
#[derive(Clone, Copy, Debug)]
pub enum Firmware {
    /// SeaBIOS, and the iPXE of QEMU's own network ROM.
    BiosIpxe,
    /// OVMF and its own PXE client: the network card brings no ROM.
    Ovmf,
}

/// A machine that has been powered on. It is switched off when this is dropped; its console is shown when a test fails.
pub struct Machine {
    child: Child,
    console: PathBuf,
    power_on: Instant,
    _turn: Flock<File>,
}

impl Machine {
    /// Powers a machine with one network card on the lab's switch. Emulation takes a whole core: one machine runs at a time, in all
    /// tests of this checkout, and the others wait here.
    pub fn power_on(lab: &mut Lab, mac: &str, firmware: Firmware) -> Self {
        Self::with_cards(lab, &[mac], mac, firmware)
    }

    /// Powers a machine that has a disk, which it does not boot from.
    pub fn with_disk(lab: &mut Lab, mac: &str, disk: &Path) -> Self {
        let drive = format!("if=none,id=disk,format=raw,file={}", disk.display());
        Self::with(lab, &[mac], mac, Firmware::BiosIpxe, &["-drive", &drive, "-device", "virtio-blk-pci,drive=disk"])
    }

    /// Powers a machine with these network cards on the lab's switch, of which it boots from one.
    pub fn with_cards(lab: &mut Lab, cards: &[&str], boots: &str, firmware: Firmware) -> Self {
        Self::with(lab, cards, boots, firmware, &[])
    }

    fn with(lab: &mut Lab, cards: &[&str], boots: &str, firmware: Firmware, more: &[&str]) -> Self {
        let turn = turn();
        let console = lab.dir().join(format!("console-{}.log", boots.replace(':', "")));
        // Of its boot before this one.
        let _ = fs::remove_file(&console);
        let mut command = lab.switch().command("qemu-system-x86_64");
        command.args(["-accel", "tcg", "-machine", "q35", "-m", "512", "-nographic", "-monitor", "none", "-no-reboot"]);
        command.arg("-serial").arg(format!("file:{}", console.display()));
        command.args(["-smbios", &format!("type=1,serial=LAB{}", cards.concat().replace(':', ""))]);
        command.args(["-device", "virtio-rng-pci"]).args(more);
        for (at, mac) in cards.iter().enumerate() {
            let (tap, order) = (lab.tap(), if *mac == boots { 1 } else { at + 2 });
            command.args(["-netdev", &format!("tap,id=net{at},ifname={tap},script=no,downscript=no")]);
            let rom = if matches!(firmware, Firmware::Ovmf) { ",romfile=" } else { "" };
            command.args(["-device", &format!("virtio-net-pci,netdev=net{at},mac={mac},bootindex={order}{rom}")]);
        }
        match firmware {
            Firmware::BiosIpxe => {}
            Firmware::Ovmf => {
                let variables = lab.dir().join(format!("variables-{}.fd", boots.replace(':', "")));
                fs::copy(ovmf("VARS"), &variables).expect("copy OVMF's variables");
                command.args(["-drive", &format!("if=pflash,format=raw,unit=0,readonly=on,file={}", ovmf("CODE").display())]);
                command.args(["-drive", &format!("if=pflash,format=raw,unit=1,file={}", variables.display())]);
            }
        }
        let errors = File::create(lab.dir().join("qemu.log")).expect("a log file in the lab's folder");
        command.stdout(Stdio::null()).stderr(errors);
        let power_on = Instant::now();
        let child = command.spawn().expect("start QEMU");
        Self { child, console, power_on, _turn: turn }
    }

    /// When its power came on.
    pub fn power_on_at(&self) -> Instant {
        self.power_on
    }

    /// What it has printed on its serial console.
    pub fn console(&self) -> String {
        text(&self.console)
    }

    /// Waits for a line on the console that contains the word, and gives it; a failure shows the end of the console.
    pub fn expect(&mut self, seconds: u64, word: &str) -> String {
        let find = |console: &str| console.lines().find(|line| line.contains(word)).map(str::to_owned);
        let found = wait(seconds, || match find(&self.console()) {
            None if self.is_off() || GAVE_UP.iter().any(|words| self.console().contains(words)) => Some(find(&self.console())),
            None => None,
            found => Some(found),
        });
        found.flatten().unwrap_or_else(|| panic!("the machine never said {word:?}"))
    }

    /// Waits for a line that contains the word, and for the end of that line.
    pub fn expect_line(&mut self, seconds: u64, word: &str) -> String {
        let begun = self.expect(seconds, word);
        let whole =
            |console: &str| console.split_inclusive('\n').find(|line| line.contains(word) && line.ends_with('\n')).map(str::to_owned);
        wait(10, || whole(&self.console())).unwrap_or_else(|| panic!("a line that never ended: {begun}"))
    }

    fn is_off(&mut self) -> bool {
        self.child.try_wait().expect("wait for a child of ours").is_some()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        stop(&mut self.child, Signal::SIGKILL);
        if std::thread::panicking() {
            let printable: String = self.console().chars().filter(|c| !c.is_control() || *c == '\n').collect();
            eprintln!("---- the end of the machine's console:\n{}\n----", tail(&printable, 40));
            eprintln!("---- QEMU said:\n{}\n----", text(&self.console.with_file_name("qemu.log")));
        }
    }
}

/// A folder with what a whole cluster needs to boot, under the names that `musterd` looks for without a config.
pub fn boot_root(lab: &Lab) -> PathBuf {
    let root = lab.dir().join("tftp");
    fs::create_dir_all(&root).expect("a boot folder");
    for name in ["vmlinuz", "initrd.img", "undionly.kpxe", "snponly.efi"] {
        let from = image().join(name);
        fs::copy(&from, root.join(name)).unwrap_or_else(|error| panic!("cannot copy {} ({error}): run scripts/setup", from.display()));
    }
    root
}

/// The machines take turns.
fn turn() -> Flock<File> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("machine.lock");
    let file = File::create(path).expect("a lock file in cargo's folder for tests");
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("lock a file")
}

fn ovmf(part: &str) -> PathBuf {
    let path = PathBuf::from(format!("/usr/share/OVMF/OVMF_{part}_4M.fd"));
    assert!(path.exists(), "{} isn't there: run scripts/setup as root first", path.display());
    path
}
