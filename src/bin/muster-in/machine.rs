//! What the machine is made of, as its report tells it: the MACs of its cards, its UUID and its serial number.

use std::fs;
use std::path::{Path, PathBuf};

use muster::base::addr::Mac;
use muster::shell::interface::Interface;
use muster::wire::report::{MACS_MAX, Report, ReportMacs, ReportText, ReportVerdict};

/// What firmware says when nobody has set anything, in lower case.
const EMPTY_WORDS: [&str; 12] = [
    "not specified",
    "to be filled by o.e.m.",
    "to be filled by o.e.m",
    "default string",
    "system serial number",
    "serial number",
    "none",
    "unknown",
    "not applicable",
    "n/a",
    "invalid",
    "0123456789",
];

/// Where the kernel tells it: `/sys`, and another folder in tests.
pub struct Sysfs(pub PathBuf);

impl Sysfs {
    fn text(&self, file: &str) -> Option<String> {
        // Device trees end texts with NUL.
        let text = fs::read(self.0.join(file)).ok()?;
        let text = String::from_utf8_lossy(&text).trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_string();
        Some(text).filter(|text| !text.is_empty())
    }

    fn class(&self, interface: &Interface) -> PathBuf {
        self.0.join("class/net").join(&interface.name)
    }

    /// Whether it is a card of this machine: there is a device behind it. Bonds, VLANs, bridges and the like have none. Left out are
    /// virtual functions, whose addresses are invented at each start, and cards on USB with an invented address: a BMC's way to talk
    /// to its host, often with the same address in every machine.
    fn is_card(&self, interface: &Interface) -> bool {
        let device = self.class(interface).join("device");
        let Ok(target) = fs::canonicalize(&device) else { return false };
        let on_usb = target.components().any(|part| part.as_os_str().to_string_lossy().starts_with("usb"));
        let is_function = device.join("physfn").exists();
        let is_of_bmc = on_usb && is_invented(self.permanent(interface));
        !is_function && !is_of_bmc
    }

    /// The address that a card was made with. A bond gives its members the address of one of them.
    pub fn permanent(&self, interface: &Interface) -> Mac {
        let told_by_bond = || fs::read_to_string(self.class(interface).join("bonding_slave/perm_hwaddr")).ok()?.trim().parse().ok();
        interface.permanent.or_else(told_by_bond).unwrap_or(interface.mac)
    }

    /// The machine's cards: those with these names, or the physical ones.
    pub fn cards(&self, all: &[Interface], named: &[String]) -> Result<Vec<Interface>, String> {
        if named.is_empty() {
            return Ok(all.iter().filter(|interface| self.is_card(interface)).cloned().collect());
        }
        let find = |name: &String| all.iter().find(|interface| interface.name == *name).cloned();
        named
            .iter()
            .map(|name| find(name).ok_or_else(|| format!("there is no Ethernet interface {name}: ip link lists the interfaces")))
            .collect()
    }

    /// The report; the MAC of the interface that asks is the first.
    pub fn report(&self, cards: &[Interface], asking: &Interface, verdict: ReportVerdict) -> Report {
        let mut macs = ReportMacs::NONE;
        let own = cards.iter().filter(|card| card.index == asking.index);
        let others = cards.iter().filter(|card| card.index != asking.index);
        for card in own.chain(others) {
            let mac = self.permanent(card);
            if !macs.push(mac) && !macs.contains(mac) {
                log::warn!("{}: {mac} is not reported (it is not a card's address, or there are more than {MACS_MAX})", card.name);
            }
        }
        Report { macs, uuid: self.uuid(), serial: self.serial(), verdict }
    }

    fn uuid(&self) -> Option<[u8; 16]> {
        uuid(&self.text("class/dmi/id/product_uuid")?)
    }

    fn serial(&self) -> Option<ReportText> {
        let told = ["class/dmi/id/product_serial", "firmware/devicetree/base/serial-number"];
        told.iter().filter_map(|file| self.text(file)).find_map(|text| serial(&text))
    }
}

/// Locally administered (IEEE 802): made up by software.
fn is_invented(mac: Mac) -> bool {
    mac.0.first().is_some_and(|octet| octet & 2 != 0)
}

/// The bytes of a UUID in the order of its text. None for one that is all zeros or all ones.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let number = u128::from_str_radix(&digits, 16).ok()?;
    (number != 0 && number != u128::MAX).then_some(number.to_be_bytes())
}

/// None for what firmware says when it has no serial number.
fn serial(text: &str) -> Option<ReportText> {
    let lower = text.trim().to_ascii_lowercase();
    let filler = lower.chars().all(|c| matches!(c, '0' | '-' | '.' | ' ' | ':'))
        || lower.chars().all(|c| matches!(c, 'f' | '-' | ' '))
        || lower.chars().all(|c| c == 'x');
    if filler || EMPTY_WORDS.contains(&lower.as_str()) { None } else { ReportText::lossy(text) }
}

/// The address that the kernel's command line says the machine was booted from: `BOOTIF=01-52-54-00-12-34-56`, as pxelinux writes it
/// (the hardware type first), or without the type, as iPXE scripts do.
pub fn boot_mac(command_line: &str) -> Option<Mac> {
    let value = command_line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("BOOTIF=")).next_back()?;
    let value = value.trim_matches('"');
    let typed = value.strip_prefix("01-").or_else(|| value.strip_prefix("01:")).and_then(|mac| mac.parse().ok());
    typed.or_else(|| value.parse().ok()).filter(|mac: &Mac| mac.is_individual())
}

/// The kernel's command line; empty when it cannot be read.
pub fn command_line() -> String {
    fs::read_to_string(Path::new("/proc/cmdline")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn interface(index: u32, name: &str, last: u8) -> Interface {
        let mac = Mac([0x52, 0x54, 0, 0, 0, last]);
        Interface { index, name: name.into(), mac, permanent: None, mtu: 1500, up: true, carrier: true }
    }

    /// A folder that is removed again.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("muster-in-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// An interface with a device behind it.
        fn card(&self, name: &str, device: &str) {
            let device = self.0.join("devices").join(device);
            let class = self.0.join("class/net").join(name);
            fs::create_dir_all(&device).unwrap();
            fs::create_dir_all(&class).unwrap();
            symlink(&device, class.join("device")).unwrap();
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn physical_cards_are_reported_with_the_addresses_they_were_made_with() {
        let folder = Folder::new("cards");
        folder.card("eth0", "pci0/0");
        folder.card("eth1", "pci0/1");
        folder.card("vf0", "pci0/2");
        folder.card("bmc0", "pci0/usb1/1-1");
        folder.write("devices/pci0/2/physfn/vendor", "x");
        folder.write("class/net/bond0/bonding/slaves", "eth0 eth1");
        folder.write("class/net/eth1/bonding_slave/perm_hwaddr", "00:25:90:00:00:02\n");
        let sysfs = Sysfs(folder.0.clone());
        let permanent = Some(Mac([0, 0x25, 0x90, 0, 0, 1]));
        let eth0 = Interface { permanent, ..interface(1, "eth0", 9) };
        let all = [eth0, interface(2, "eth1", 9), interface(3, "vf0", 3), interface(4, "bmc0", 4), interface(5, "bond0", 9)];
        let cards = sysfs.cards(&all, &[]).unwrap();
        assert_eq!(cards.iter().map(|card| card.name.as_str()).collect::<Vec<_>>(), ["eth0", "eth1"]);
        let report = sysfs.report(&cards, &all[1], ReportVerdict::Passed);
        assert_eq!(report.macs.as_slice(), [Mac([0, 0x25, 0x90, 0, 0, 2]), Mac([0, 0x25, 0x90, 0, 0, 1])], "the asking one first");
        assert_eq!((report.uuid, report.serial), (None, None));
        let named = sysfs.cards(&all, &["bond0".into()]).unwrap();
        assert_eq!(named.len(), 1);
        assert!(sysfs.cards(&all, &["eth9".into()]).unwrap_err().contains("eth9"));
    }

    #[test]
    fn more_cards_than_a_report_holds() {
        let folder = Folder::new("many");
        let cards: Vec<Interface> = (0..20).map(|n| interface(n, &format!("eth{n}"), n as u8)).collect();
        let report = Sysfs(folder.0.clone()).report(&cards, &cards[19], ReportVerdict::Untested);
        assert_eq!((report.macs.as_slice().len(), report.macs.as_slice()[0]), (16, cards[19].mac));
    }

    #[test]
    fn uuid_and_serial_are_told_when_they_say_something() {
        let folder = Folder::new("dmi");
        let sysfs = Sysfs(folder.0.clone());
        let told = |uuid: &str, serial: &str| {
            folder.write("class/dmi/id/product_uuid", uuid);
            folder.write("class/dmi/id/product_serial", serial);
            (sysfs.uuid(), sysfs.serial().map(|name| name.to_string()))
        };
        let (uuid, serial) = told("00112233-4455-6677-8899-AABBccddeeff\n", " C0FFE-1 \n");
        assert_eq!((uuid.unwrap()[1], uuid.unwrap()[15], serial), (0x11, 0xff, Some("C0FFE-1".into())));
        for (uuid, serial) in [
            ("00000000-0000-0000-0000-000000000000", "Not Specified"),
            ("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "To be filled by O.E.M."),
            ("Not Settable", "0000000"),
            ("+0112233-4455-6677-8899-AABBccddeef", "xxxxxxxxx"),
            ("", "   \n"),
        ] {
            assert_eq!(told(uuid, serial), (None, None), "{uuid} {serial}");
        }
        folder.write("firmware/devicetree/base/serial-number", "10000000abcdef01\0");
        assert_eq!(sysfs.serial().map(|name| name.to_string()), Some("10000000abcdef01".into()));
    }

    #[test]
    fn the_command_line_says_what_was_booted_from() {
        let mac = Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
        for line in
            ["quiet BOOTIF=01-52-54-00-12-34-56 x", "BOOTIF=52:54:00:12:34:56", "BOOTIF=01:52:54:00:12:34:56", "BOOTIF=52-54-00-12-34-56"]
        {
            assert_eq!(boot_mac(line), mac, "{line}");
        }
        for line in ["", "xBOOTIF=01-52-54-00-12-34-56", "BOOTIF=20-52-54-00-12-34-56", "BOOTIF=eth0", "BOOTIF=01-ff-ff-ff-ff-ff-ff"] {
            assert_eq!(boot_mac(line), None, "{line}");
        }
    }
}
