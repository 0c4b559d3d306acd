//! Virtual files: what iPXE, GRUB and pxelinux read next, made from kernel, initrd and args for the machine that asks.
//!
//! A file of the same name in the root always goes before them, and each answers to one name only, the **last** of the series that its
//! loader asks for. A virtual `pxelinux.cfg/01-…` would spare its client some questions, and would hide a `pxelinux.cfg/default`, or one
//! for a whole subnet, that the operator wrote. What the loaders ask for:
//!
//! - iPXE: `muster.ipxe`, as DHCP tells it. (Newer ones ask for `autoexec.ipxe` first, before they have an address by DHCP; it is not
//!   made, so that they go on to DHCP.)
//! - GRUB (`grub_net_search_config_file` in grub-core/net/net.c): `grub.cfg-` and the UUID, then `grub.cfg-01-52-54-00-12-34-56`,
//!   `grub.cfg-0A360111`, and so on down to `grub.cfg-0`, then `grub.cfg`, all in the folder of its prefix; Debian's grubnetx64.efi asks for
//!   `/grub/grub.cfg` at once.
//! - pxelinux (`pxe_open_config` in core/fs/pxe/pxe.c): in `pxelinux.cfg/` beside itself the UUID, `01-52-54-00-12-34-56`, `0A360111` and so on
//!   down to `0`, then `default`.

use std::fmt::{self, Write};
use std::net::Ipv4Addr;

use crate::config::Config;
use crate::roll::client::Client;
use crate::roll::plan::NodeNames;

use super::text::{TextWriter, Words, expand};

/// The name of the virtual file that holds a machine's iPXE script.
pub const SCRIPT: &str = "muster.ipxe";

/// A file that is made for whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// `muster.ipxe`
    Ipxe,
    /// `grub.cfg` in any folder.
    Grub,
    /// `pxelinux.cfg/default` in any folder.
    Pxelinux,
}

/// What goes into all of them.
struct Recipe<'a> {
    names: &'a NodeNames,
    client: &'a Client,
    head: Ipv4Addr,
    kernel: &'a str,
    initrd: &'a [String],
    args: &'a str,
}

impl Made {
    /// The file of this name, as [`requested_name`](super::requested_name) gives it.
    pub fn of(name: &[u8]) -> Option<Made> {
        let mut parts = name.rsplit(|&byte| byte == b'/');
        match (parts.next(), parts.next()) {
            _ if name == SCRIPT.as_bytes() => Some(Made::Ipxe),
            (Some(b"grub.cfg"), _) => Some(Made::Grub),
            (Some(b"default"), Some(b"pxelinux.cfg")) => Some(Made::Pxelinux),
            _ => None,
        }
    }

    /// Writes it for a machine that knows the server as `head`; gives its length. None where there is no kernel to boot, or no room.
    pub fn write(self, config: &Config, client: &Client, head: Ipv4Addr, buf: &mut [u8]) -> Option<usize> {
        let (number, names) = (client.number(), config.plan.names());
        let kernel = super::kernel(config, number)?;
        let recipe = Recipe { names, client, head, kernel, initrd: super::initrd(config, number), args: super::args(config, number) };
        let mut text = TextWriter::new(buf);
        let written = match self {
            Made::Ipxe => recipe.ipxe(&mut text),
            Made::Grub => recipe.grub(&mut text),
            Made::Pxelinux => recipe.pxelinux(&mut text),
        };
        written.ok().map(|()| text.len())
    }
}

impl Recipe<'_> {
    fn ipxe(&self, text: &mut TextWriter<'_>) -> fmt::Result {
        let Recipe { names, client, head, kernel, initrd, args } = *self;
        write!(text, "#!ipxe\n:start\nkernel tftp://{head}/{kernel}")?;
        for path in initrd {
            // An EFI kernel finds its initrd by this argument; a BIOS kernel does not look at it.
            write!(text, " initrd={}", path.rsplit('/').next().unwrap_or(path))?;
        }
        text.write_str(" ")?;
        expand(text, args, client, (names, head))?;
        text.write_str(" || goto retry\n")?;
        for path in initrd {
            writeln!(text, "initrd tftp://{head}/{path} || goto retry")?;
        }
        text.write_str("boot || goto retry\n:retry\nimgfree\necho muster: could not load the kernel, trying again\nsleep 5\ngoto start\n")
    }

    fn grub(&self, text: &mut TextWriter<'_>) -> fmt::Result {
        let Recipe { names, client, head, kernel, initrd, args } = *self;
        self.title(text)?;
        let file = |text: &mut TextWriter<'_>, path: &str| write!(text, " '(tftp,{head})/").and_then(|()| escaped(text, path));
        text.write_str("while true; do\n  if linux")?;
        file(text, kernel)?;
        let mut words = Words::new(text);
        expand(&mut words, args, client, (names, head))?;
        words.end()?;
        text.write_str("; then\n    if ")?;
        text.write_str(if initrd.is_empty() { "true" } else { "initrd" })?;
        initrd.iter().try_for_each(|path| file(text, path))?;
        text.write_str("; then\n      boot\n    fi\n  fi\n  echo 'muster: could not load the kernel, trying again'\n  sleep 5\ndone\n")
    }

    fn pxelinux(&self, text: &mut TextWriter<'_>) -> fmt::Result {
        let Recipe { names, client, head, kernel, initrd, args } = *self;
        self.title(text)?;
        // Two colons: beneath the root, whatever folder pxelinux came from.
        write!(text, "DEFAULT linux\nPROMPT 0\nLABEL linux\nLINUX ::{kernel}\nAPPEND")?;
        // The first `initrd=` is the one that pxelinux loads.
        for (at, path) in initrd.iter().enumerate() {
            write!(text, "{}::{path}", if at == 0 { " initrd=" } else { "," })?;
        }
        text.write_str(" ")?;
        expand(text, args, client, (names, head))?;
        text.write_str("\n")
    }

    fn title(&self, text: &mut TextWriter<'_>) -> fmt::Result {
        text.write_str("# made by musterd for ")?;
        match self.client.number() {
            Some(number) => writeln!(text, "{}", self.names.of(number)),
            None => writeln!(text, "a guest"),
        }
    }
}

/// The rest of a word in single quotes.
fn escaped(text: &mut TextWriter<'_>, word: &str) -> fmt::Result {
    for (at, part) in word.split('\'').enumerate() {
        write!(text, "{}{part}", if at == 0 { "" } else { "'\\''" })?;
    }
    text.write_str("'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::addr::Mac;
    use crate::base::slab::Key;
    use crate::base::time::Instant;
    use crate::roll::client::Identity;
    use crate::roll::lot::{AssignedBy, Fingerprint, Lot};
    use crate::roll::plan::Number;
    use crate::roll::registry::{Promise, Registry};

    /// A roll of one machine, which has an address, and maybe a number.
    fn roll(number: Option<u32>) -> (Registry, Key<Client>) {
        let (mac, mut roll) = (Mac([2, 0, 0, 0, 0, 1]), Registry::new(4, crate::engine::testing::config().plan, 1, Instant::ZERO));
        if let Some(number) = number {
            let fingerprint = Fingerprint { macs: [mac].into_iter().collect(), ..Fingerprint::default() };
            roll.set_lot(Number(number), Lot::default().occupied(fingerprint, AssignedBy::Passed, 1), Promise::default()).unwrap();
        }
        let key = roll.admit(Instant::ZERO, Identity::Mac(mac)).unwrap();
        assert!(roll.bind(key, [10, 54, 1, 17].into()));
        (roll, key)
    }

    fn config() -> Config {
        let mut config = crate::engine::testing::config();
        config.boot.initrd = vec!["images/initrd.img".to_string(), "extra.cpio".to_string()];
        config.boot.args = "console=ttyS0 muster.node={node} {x} n={name} ip={ip} mac={mac} h={head} dyndbg=\"file a +p\"".into();
        config
    }

    fn made(what: Made, config: &Config, number: Option<u32>) -> String {
        let mut buf = [0; 900];
        let (roll, key) = roll(number);
        let len = what.write(config, roll.get(key).unwrap(), [10, 54, 0, 1].into(), &mut buf).unwrap();
        std::str::from_utf8(&buf[..len]).unwrap().to_string()
    }

    #[test]
    fn names_of_made_files() {
        for (name, what) in [
            ("muster.ipxe", Some(Made::Ipxe)),
            ("x/muster.ipxe", None),
            ("autoexec.ipxe", None),
            ("grub.cfg", Some(Made::Grub)),
            ("grub/grub.cfg", Some(Made::Grub)),
            ("boot/grub/x86_64-efi/grub.cfg", Some(Made::Grub)),
            ("EFI/BOOT/grub.cfg", Some(Made::Grub)),
            ("grub/grub.cfg-01-52-54-00-12-34-56", None),
            ("grub/grub.cfg-0A360111", None),
            ("mygrub.cfg", None),
            ("pxelinux.cfg/default", Some(Made::Pxelinux)),
            ("bios/pxelinux.cfg/default", Some(Made::Pxelinux)),
            ("pxelinux.cfg/01-52-54-00-12-34-56", None),
            ("pxelinux.cfg/0A360111", None),
            ("default", None),
            ("default/pxelinux.cfg", None),
            ("", None),
            ("/", None),
        ] {
            assert_eq!(Made::of(name.as_bytes()), what, "{name}");
        }
    }

    #[test]
    fn a_script_for_each_node() {
        let expected = "#!ipxe\n:start\nkernel tftp://10.54.0.1/vmlinuz initrd=initrd.img initrd=extra.cpio console=ttyS0 muster.node=17 {x} \
                        n=n17 ip=10.54.1.17 mac=02:00:00:00:00:01 h=10.54.0.1 dyndbg=\"file a +p\" || goto retry\n\
                        initrd tftp://10.54.0.1/images/initrd.img || goto retry\ninitrd tftp://10.54.0.1/extra.cpio || goto retry\n\
                        boot || goto retry\n";
        let script = made(Made::Ipxe, &config(), Some(17));
        assert!(script.starts_with(expected), "{script}");
    }

    #[test]
    fn a_grub_config_for_each_node() {
        let expected = "# made by musterd for n17\nwhile true; do\n  if linux '(tftp,10.54.0.1)/vmlinuz' 'console=ttyS0' 'muster.node=17' '{x}' \
                        'n=n17' 'ip=10.54.1.17' 'mac=02:00:00:00:00:01' 'h=10.54.0.1' 'dyndbg=file a +p'; then\n    \
                        if initrd '(tftp,10.54.0.1)/images/initrd.img' '(tftp,10.54.0.1)/extra.cpio'; then\n      boot\n    fi\n  fi\n  \
                        echo 'muster: could not load the kernel, trying again'\n  sleep 5\ndone\n";
        assert_eq!(made(Made::Grub, &config(), Some(17)), expected);
        let mut bare = config();
        (bare.boot.initrd, bare.boot.args, bare.boot.kernel) = (Vec::new(), "x={node}".into(), Some("it's/a kernel".into()));
        let text = made(Made::Grub, &bare, None);
        assert!(
            text.contains("made by musterd for a guest\n") && text.contains("/it'\\''s/a kernel' 'x=-'; then\n    if true; then"),
            "{text}"
        );
    }

    #[test]
    fn a_pxelinux_config_for_each_node() {
        let expected = "# made by musterd for n17\nDEFAULT linux\nPROMPT 0\nLABEL linux\nLINUX ::vmlinuz\n\
                        APPEND initrd=::images/initrd.img,::extra.cpio console=ttyS0 muster.node=17 {x} n=n17 ip=10.54.1.17 \
                        mac=02:00:00:00:00:01 h=10.54.0.1 dyndbg=\"file a +p\"\n";
        assert_eq!(made(Made::Pxelinux, &config(), Some(17)), expected);
        let mut bare = config();
        (bare.boot.initrd, bare.boot.args) = (Vec::new(), "quiet".into());
        assert!(made(Made::Pxelinux, &bare, None).ends_with("LINUX ::vmlinuz\nAPPEND quiet\n"));
    }

    #[test]
    fn nothing_is_made_without_a_kernel_or_without_room() {
        let mut config = config();
        let (roll, key) = roll(None);
        let client = roll.get(key).unwrap();
        let write = |config: &Config, buf: &mut [u8]| {
            [Made::Ipxe, Made::Grub, Made::Pxelinux].map(|what| what.write(config, client, [10, 54, 0, 1].into(), buf))
        };
        assert_eq!(write(&config, &mut [0; 40]), [None; 3]);
        config.boot.kernel = None;
        assert_eq!(write(&config, &mut [0; 900]), [None; 3]);
    }
}
