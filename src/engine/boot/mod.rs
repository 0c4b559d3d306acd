//! What a machine is given to boot: the program that its firmware loads, and the text that a loader reads next.
//!
//! The config's `[boot]` section says it for all, `[[for]]` sections for some numbers; later sections win. Nothing is stored: the
//! answer is computed from the config and the client's record whenever it is asked for. [`Made`] are the texts that exist in no file,
//! [`effective`] tells what holds for a number and which section said so. Any engine may call any of it.

mod made;
mod settings;
mod text;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::base::limits;
use crate::config::{Config, Network, Origin, Override};
use crate::roll::client::Client;
use crate::roll::kind::{Arch, FirmwareKind};
use crate::roll::plan::Number;

pub use made::{Made, SCRIPT};
pub use settings::effective;

/// The sections that speak of a number with their places in the config, the one that wins first.
fn sections(config: &Config, number: Option<Number>) -> impl Iterator<Item = (usize, &Override)> {
    let speaks =
        move |section: &Override| number.is_some_and(|number| section.nodes.iter().any(|(first, last)| (*first..=*last).contains(&number)));
    config.overrides.iter().enumerate().rev().filter(move |(_, section)| speaks(section))
}

/// What the first section says that says anything, and where that section is.
fn special<'a, T: 'a>(config: &'a Config, number: Option<Number>, says: impl Fn(&'a Override) -> Option<T>) -> Option<(T, Origin)> {
    sections(config, number).find_map(|(at, section)| Some((says(section)?, config.listing.section("[[for]]", at))))
}

/// The boot program of an architecture.
fn program(config: &Config, number: Option<Number>, arch: Arch) -> Option<&str> {
    special(config, number, |section| of(&section.program, arch)).map(|(program, _)| program).or_else(|| of(&config.boot.program, arch))
}

fn of(programs: &[(Arch, String)], arch: Arch) -> Option<&str> {
    programs.iter().find(|(known, _)| *known == arch).map(|(_, program)| program.as_str())
}

fn kernel(config: &Config, number: Option<Number>) -> Option<&str> {
    special(config, number, |section| section.kernel.as_deref()).map(|(kernel, _)| kernel).or(config.boot.kernel.as_deref())
}

fn initrd(config: &Config, number: Option<Number>) -> &[String] {
    special(config, number, |section| section.initrd.as_deref()).map_or(&config.boot.initrd, |(initrd, _)| initrd)
}

fn args(config: &Config, number: Option<Number>) -> &str {
    special(config, number, |section| section.args.as_deref()).map_or(&config.boot.args, |(args, _)| args)
}

/// What iPXE runs: a file, or the script that is made where there is a kernel.
fn script(config: &Config, number: Option<Number>) -> Option<&str> {
    let script = special(config, number, |section| section.script.as_deref()).map(|(script, _)| script);
    script.or(config.boot.script.as_deref()).or_else(|| kernel(config, number).map(|_| SCRIPT))
}

/// The file that a client shall load, for the DHCP `file` field. None: it gets an address and no program.
pub fn file<'a>(config: &'a Config, client: &Client) -> Option<&'a str> {
    match client.evidence.kind() {
        // The kernel's own client wants no program.
        FirmwareKind::Other => None,
        FirmwareKind::Ipxe => script(config, client.number()),
        // A Pi asks for names of its own, whatever the field says; it only wants it filled.
        FirmwareKind::RaspberryPi => program(config, client.number(), client.evidence.arch()?).or(Some("bootcode.bin")),
        _ => program(config, client.number(), client.evidence.arch()?),
    }
}

/// Whether the config names this file for a client: its program, script, kernel or an initrd.
pub fn names_file(config: &Config, client: &Client, name: &[u8]) -> bool {
    let number = client.number();
    let program = client.evidence.arch().and_then(|arch| program(config, number, arch));
    let files = [program, script(config, number), kernel(config, number)].into_iter().flatten();
    files.chain(initrd(config, number).iter().map(String::as_str)).any(|file| file.as_bytes() == name)
}

/// The lease of a numbered node.
pub fn lease(config: &Config, network: &Network, number: Option<Number>) -> Duration {
    special(config, number, |section| section.lease).map_or(network.lease, |(lease, _)| lease)
}

/// The operator's own DHCP options for a client, each code once.
pub fn options<'a>(config: &'a Config, network: &'a Network, number: Option<Number>) -> impl Iterator<Item = (u8, &'a [u8])> {
    ranked_options(config, network, number).map(|(_, code, bytes)| (code, bytes))
}

/// The same, each with the place of the `[[for]]` section that sets it; None: the network does.
fn ranked_options<'a>(
    config: &'a Config,
    network: &'a Network,
    number: Option<Number>,
) -> impl Iterator<Item = (Option<usize>, u8, &'a [u8])> {
    let all = move || sections(config, number).map(|(at, section)| (Some(at), &section.options)).chain([(None, &network.options)]);
    let flat =
        move || all().enumerate().flat_map(|(rank, (at, options))| options.iter().map(move |(code, bytes)| (rank, at, *code, bytes)));
    flat()
        .filter(move |(rank, _, code, _)| !flat().any(|(r, _, c, _)| r < *rank && c == *code))
        .map(|(_, at, code, bytes)| (at, code, bytes.as_slice()))
}

/// Room for the longest name that is looked at.
pub const NAME_ROOM: usize = 2 * limits::FILE_NAME_MAX;

/// A file name as clients mean it, beneath the root. No part of it are leading slashes, the root's own path in front of it, and the 0xff of ROMs
/// that read past option 67; loaders of Windows write backslashes. Empty where it is longer than any that is served.
pub fn requested_name<'a>(root: &Path, name: &[u8], room: &'a mut [u8; NAME_ROOM]) -> &'a [u8] {
    let end = name.len() - name.iter().rev().take_while(|&&byte| byte == 0xff).count();
    let Some(written) = name.get(..end).and_then(|name| Some((name, room.get_mut(..name.len())?))).map(|(name, written)| {
        written.iter_mut().zip(name).for_each(|(to, from)| *to = if *from == b'\\' { b'/' } else { *from });
        &*written
    }) else {
        return &[];
    };
    let inside = written.strip_prefix(root.as_os_str().as_bytes()).filter(|rest| rest.starts_with(b"/")).unwrap_or(written);
    let start = inside.iter().take_while(|&&byte| byte == b'/').count();
    inside.get(start..).unwrap_or(&[])
}

/// Whether a missing file of this name is no news: loaders probe series of them. The beginning of a long name may be left out.
pub fn asks_in_series(name: &[u8]) -> bool {
    [b"grub/".as_slice(), b"boot/grub/", b"EFI/", b"ldlinux", b"autoexec.ipxe"].iter().any(|start| name.starts_with(start))
        || [b"xelinux.cfg/".as_slice(), b"grub.cfg-"].iter().any(|part| name.windows(part.len()).any(|window| window == *part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_clients_ask_for_them() {
        for (name, meant) in [
            (&b"//undionly.kpxe"[..], &b"undionly.kpxe"[..]),
            (b"pxelinux.0\xff", b"pxelinux.0"),
            (b"///", b""),
            (b"\xff", b""),
            (b"boot\\x64\\wdsnbp.com", b"boot/x64/wdsnbp.com"),
            (b"\\boot\\x64\\wdsnbp.com", b"boot/x64/wdsnbp.com"),
            (b"/boot\\x64\\wdsnbp.com", b"boot/x64/wdsnbp.com"),
            (b"/srv/tftp/linux", b"linux"),
            (b"/srv/tftp//linux", b"linux"),
            (b"/srv/tftp", b"srv/tftp"),
            (b"/srv/tftpboot/linux", b"srv/tftpboot/linux"),
            (b"srv/tftp/linux", b"srv/tftp/linux"),
            (&[b'x'; 2000], b""),
        ] {
            assert_eq!(requested_name(Path::new("/srv/tftp"), name, &mut [0; NAME_ROOM]), meant, "{}", String::from_utf8_lossy(name));
        }
        assert!(asks_in_series(b"pxelinux.cfg/01-52-54") && !asks_in_series(b"vmlinuz"));
        assert!(asks_in_series(b"xelinux.cfg/b8945908-d6a6-41a9-611d-74a6ab80b83d"), "the last 48 bytes of a name");
        assert!(asks_in_series(b"grub/fonts/unicode.pf2") && !asks_in_series(b"grubx64.efi"));
        assert!(asks_in_series(b"x/grub.cfg-0A36") && asks_in_series(b"autoexec.ipxe") && !asks_in_series(b"boot.ipxe"));
    }
}
