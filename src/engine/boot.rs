//! What a machine is given to boot: the program that its firmware loads, and the script that iPXE runs.
//!
//! The config's `[boot]` section says it for all, `[[for]]` sections for some numbers; later sections win. Nothing is stored: the
//! answer is computed from the config and the client's record whenever it is asked for.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::base::slab::Key;
use crate::config::{Config, Network, Special};
use crate::roll::client::Client;
use crate::roll::kind::{Arch, Kind};
use crate::roll::plan::Number;

use super::Ctx;

/// The name of the virtual file that holds a machine's iPXE script.
pub const SCRIPT: &[u8] = b"muster.ipxe";

/// The sections that speak of a number, the one that wins first.
fn sections(config: &Config, number: Option<Number>) -> impl Iterator<Item = &Special> {
    let speaks =
        move |section: &&Special| number.is_some_and(|number| section.nodes.iter().any(|(first, last)| (*first..=*last).contains(&number)));
    config.special.iter().rev().filter(speaks)
}

/// The boot program of an architecture.
fn program(config: &Config, number: Option<Number>, arch: Arch) -> Option<&str> {
    let of = |programs: &'_ [(Arch, String)]| programs.iter().position(|(a, _)| *a == arch);
    let special = sections(config, number).find_map(|section| of(&section.program).map(|at| section.program[at].1.as_str()));
    special.or_else(|| of(&config.boot.program).map(|at| config.boot.program[at].1.as_str()))
}

fn kernel(config: &Config, number: Option<Number>) -> Option<&str> {
    sections(config, number).find_map(|section| section.kernel.as_deref()).or(config.boot.kernel.as_deref())
}

/// The file that a client is told to load, as the DHCP `file` field names it. None: it gets an address and no program.
pub fn file<'a>(config: &'a Config, client: &Client) -> Option<&'a str> {
    match client.kind {
        // The kernel's own client wants no program.
        Kind::Other => None,
        Kind::Ipxe => {
            let special = sections(config, client.number).find_map(|section| section.script.as_deref());
            let script = special.or(config.boot.script.as_deref());
            script.or_else(|| kernel(config, client.number).and(std::str::from_utf8(SCRIPT).ok()))
        }
        // A Pi asks for names of its own, whatever it is told; it only wants to be told something.
        Kind::RaspberryPi => program(config, client.number, client.arch?).or(Some("bootcode.bin")),
        _ => program(config, client.number, client.arch?),
    }
}

/// The lease of a numbered node.
pub fn lease(config: &Config, network: &Network, number: Option<Number>) -> Duration {
    sections(config, number).find_map(|section| section.lease).unwrap_or(network.lease)
}

/// The operator's own DHCP options for a client, each code once.
pub fn options<'a>(config: &'a Config, network: &'a Network, number: Option<Number>) -> impl Iterator<Item = (u8, &'a [u8])> {
    let all = move || sections(config, number).map(|section| &section.options).chain([&network.options]);
    let flat = move || all().enumerate().flat_map(|(rank, options)| options.iter().map(move |(code, bytes)| (rank, *code, bytes)));
    flat().filter(move |(rank, code, _)| !flat().any(|(r, c, _)| r < *rank && c == *code)).map(|(_, code, bytes)| (code, bytes.as_slice()))
}

/// A file name as clients ask for it: a leading slash and the 0xff of ROMs that read past option 67 are no part of it.
pub fn requested_name(name: &[u8]) -> &[u8] {
    let start = name.iter().take_while(|&&byte| byte == b'/').count();
    let end = name.len() - name.iter().rev().take_while(|&&byte| byte == 0xff).count();
    name.get(start..end).unwrap_or(&[])
}

/// Loaders probe series of config files; a missing one is no news.
pub fn asks_in_series(name: &[u8]) -> bool {
    [b"pxelinux.cfg/".as_slice(), b"grub", b"boot/grub", b"EFI/", b"ldlinux"].iter().any(|start| name.starts_with(start))
        || name.windows(9).any(|part| part == b"grub.cfg-")
}

/// Writes the iPXE script of the machine that asks for `name` at `head`. None when `name` is no virtual file, or when there is no
/// kernel to boot, or when the script does not fit.
pub fn script(ctx: &Ctx<'_>, name: &[u8], client: Option<Key<Client>>, head: SocketAddrV4, buf: &mut [u8]) -> Option<usize> {
    if name != SCRIPT {
        return None;
    }
    let client = ctx.roll.get(client?)?;
    let kernel = kernel(ctx.config, client.number)?;
    let initrd = sections(ctx.config, client.number).find_map(|s| s.initrd.as_deref()).unwrap_or(&ctx.config.boot.initrd);
    let args = sections(ctx.config, client.number).find_map(|s| s.args.as_deref()).unwrap_or(&ctx.config.boot.args);
    let mut text = Text { buf, len: 0 };
    write_script(&mut text, client, *head.ip(), kernel, initrd, args).ok()?;
    Some(text.len)
}

fn write_script(text: &mut Text<'_>, client: &Client, head: Ipv4Addr, kernel: &str, initrd: &[String], args: &str) -> fmt::Result {
    let base = |path: &str| path.rsplit('/').next().map_or(0, |name| path.len() - name.len());
    write!(text, "#!ipxe\n:start\nkernel tftp://{head}/{kernel}")?;
    for path in initrd {
        // An EFI kernel finds its initrd by this argument; a BIOS kernel does not look at it.
        write!(text, " initrd={}", &path[base(path)..])?;
    }
    text.write_str(" ")?;
    expand(text, args, client, head)?;
    text.write_str(" || goto retry\n")?;
    for path in initrd {
        writeln!(text, "initrd tftp://{head}/{path} || goto retry")?;
    }
    text.write_str("boot || goto retry\n:retry\nimgfree\necho muster: could not load the kernel, trying again\nsleep 5\ngoto start\n")
}

/// The placeholders of kernel arguments; the config refuses others.
pub const PLACEHOLDERS: [&str; 5] = ["{node}", "{name}", "{ip}", "{mac}", "{head}"];

/// Fills in the placeholders of kernel arguments. A guest's number is `-`.
fn expand(text: &mut Text<'_>, args: &str, client: &Client, head: Ipv4Addr) -> fmt::Result {
    let mut rest = args;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        text.write_str(before)?;
        let found = PLACEHOLDERS.iter().find(|placeholder| from.starts_with(**placeholder));
        match (found.copied(), client.number) {
            (Some("{node}"), Some(Number(n))) => write!(text, "{n}")?,
            (Some("{name}"), Some(number)) => write!(text, "{number}")?,
            (Some("{node}" | "{name}"), None) => text.write_str("-")?,
            (Some("{ip}"), _) => write!(text, "{}", client.address.unwrap_or(Ipv4Addr::UNSPECIFIED))?,
            (Some("{mac}"), _) => write!(text, "{}", client.mac)?,
            (Some(_), _) => write!(text, "{head}")?,
            (None, _) => text.write_str("{")?,
        }
        rest = from.get(found.map_or(1, |placeholder| placeholder.len())..).unwrap_or("");
    }
    text.write_str(rest)
}

struct Text<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let to = self.buf.get_mut(self.len..self.len + s.len()).ok_or(fmt::Error)?;
        to.copy_from_slice(s.as_bytes());
        self.len += s.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::addr::Mac;
    use crate::base::time::Instant;
    use crate::roll::client::Identity;

    fn client(number: Option<u32>) -> Client {
        let mut client = Client::new(Identity::Mac(Mac([2, 0, 0, 0, 0, 1])), number.map(Number), Instant::ZERO);
        client.address = Some([10, 54, 1, 17].into());
        client
    }

    #[test]
    fn a_script_for_each_node() {
        let mut buf = [0; 600];
        let mut text = Text { buf: &mut buf, len: 0 };
        let initrd = ["images/initrd.img".to_string(), "extra.cpio".to_string()];
        let args = "console=ttyS0 muster.node={node} {x} n={name} ip={ip} mac={mac} h={head}{";
        write_script(&mut text, &client(Some(17)), [10, 54, 0, 1].into(), "vmlinuz", &initrd, args).unwrap();
        let len = text.len;
        let script = std::str::from_utf8(&buf[..len]).unwrap();
        let expected = "#!ipxe\n:start\nkernel tftp://10.54.0.1/vmlinuz initrd=initrd.img initrd=extra.cpio console=ttyS0 muster.node=17 {x} \
                        n=n17 ip=10.54.1.17 mac=02:00:00:00:00:01 h=10.54.0.1{ || goto retry\ninitrd tftp://10.54.0.1/images/initrd.img || goto \
                        retry\ninitrd tftp://10.54.0.1/extra.cpio || goto retry\nboot || goto retry\n";
        assert!(script.starts_with(expected), "{script}");
        let mut small = [0; 40];
        assert!(write_script(&mut Text { buf: &mut small, len: 0 }, &client(None), [10, 0, 0, 1].into(), "vmlinuz", &[], "").is_err());
    }

    #[test]
    fn names_as_clients_ask_for_them() {
        assert_eq!(requested_name(b"//undionly.kpxe"), b"undionly.kpxe");
        assert_eq!(requested_name(b"pxelinux.0\xff"), b"pxelinux.0");
        assert_eq!(requested_name(b"///"), b"");
        assert_eq!(requested_name(b"\xff"), b"");
        assert!(asks_in_series(b"pxelinux.cfg/01-52-54") && !asks_in_series(b"vmlinuz"));
    }
}
