//! `muster doctor`: why nodes do not boot, found by looking at what is there, whether the daemon runs or not. It repairs nothing.
//!
//! Each check is a pure function from what was gathered to a verdict, and a thin gatherer that reads a file of the kernel's, runs a program with a
//! time-out, or looks at a disk from a process that may hang ([`muster::shell::aside`]). What is not there to be asked (no systemd, no nft) is
//! no fault; what could not be looked at for want of rights is worth a look.
//!
//! | check | module | what it looks at |
//! |---|---|---|
//! | daemon, unit | [`daemon`] | pid file, control socket, systemctl |
//! | config | [`site`] | as musterd reads it, with the flags it runs with; every later check follows it |
//! | interface | [`links`] | /sys/class/net, addresses |
//! | firewall | [`firewall`] | the rules of nft and iptables, by packets as they would come |
//! | other dhcp | [`others`] | one DISCOVER on each boot interface, two seconds |
//! | port | [`ports`] | /proc/net, and who has it |
//! | root, boot files | [`files`], [`image`] | rights of the daemon's user; what kind of file each is |
//! | name service, names file | [`names`] | /etc/nsswitch.conf, the module, its file |
//! | journal | [`disk`] | rights, speed and room of its disk, and its lines |
//! | clock, kernel, denials | [`kernel`] | adjtimex, sysctls, audit log |
//!
//! Changed are: a file beside the journal, for as long as its disk is timed, and what a DHCP server makes of a DISCOVER. `--passive` leaves out the
//! second.

mod daemon;
mod disk;
mod files;
mod finding;
mod firewall;
mod image;
mod kernel;
mod links;
mod names;
mod others;
mod ports;
mod program;
mod site;

use std::path::{Path, PathBuf};

use muster::shell::aside::{self, Aside};
use serde_json::json;

use super::Failure;
use super::look::{print, print_json};
use finding::{Diagnosis, Finding, Severity};
use site::{NoConfig, PATIENCE, Site};

/// What the command line says.
pub struct DoctorOptions {
    /// Flags of musterd, from behind `--`.
    pub flags: Vec<String>,
    /// The control socket, where somebody named it.
    pub socket: Option<PathBuf>,
    /// Nothing is sent into the boot networks.
    pub passive: bool,
    pub json: bool,
}

/// Looks at everything, prints what was found, and ends with the worst.
pub fn doctor(options: &DoctorOptions) -> Result<(), Failure> {
    let site = Site::new(&options.flags)?;
    let mut found = Diagnosis::default();
    let runs = daemon::check(&site, options.socket.as_deref(), &mut found);
    daemon::check_unit(runs, site.unconfigured, &mut found);
    config(&site, &mut found);
    config_rights(&site, has_unit(), &mut found);
    links::check(&site, &mut found);
    if let Some(config) = site.config() {
        firewall::judge(&firewall::gather(), config, &mut found);
        match options.passive {
            true => found.fine("other dhcp", "not asked (--passive)"),
            false => others::check(&site, config, &mut found),
        }
        ports::check(config, site.daemon.as_ref().map(|daemon| daemon.pid), &mut found);
        files::check(&site, config, has_unit(), &mut found);
        names::check_file(&site, config, &mut found);
        kernel::check_settings(&site, config, &mut found);
    } else {
        found.look("firewall, ports, boot files", "not looked at: only the config says which", "mend the config first, then look again");
    }
    names::check_switch(&mut found);
    disk::check(&site, &mut found);
    kernel::check_clock(&mut found);
    kernel::check_denials(&mut found);
    show(&found, options.json)?;
    match found.worst() {
        Severity::Fine => Ok(()),
        worst => Err(Failure::Ill(worst.code())),
    }
}

/// systemd runs, and has a unit for musterd.
fn has_unit() -> bool {
    let folders = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
    Path::new("/run/systemd/system").is_dir() && folders.iter().any(|folder| Path::new(folder).join("muster.service").exists())
}

fn config(site: &Site, found: &mut Diagnosis) {
    const CHECK: &str = "config";
    let path = site.file.path.display();
    let flags = &site.flags_of;
    match &site.config {
        _ if site.unconfigured => {
            found.broken(
                CHECK,
                format!("{path} is not there, and no interface is named"),
                "write that file: see EXAMPLES in muster.toml(5)",
            );
        }
        // A line each.
        Err(NoConfig { why, passes }) => {
            let remedy = match passes {
                true => "musterd waits for that, and serves as soon as the interface is there with its address".into(),
                false => format!("mend it; musterd -t reads it again, with the flags of {flags}"),
            };
            why.lines().for_each(|line| found.broken(CHECK, line, remedy.clone()));
        }
        Ok((config, notes)) => {
            let links = config.links.iter().map(|link| link.interface.as_str()).collect::<Vec<_>>().join(", ");
            let file = if site.has_file { path.to_string() } else { "no file".into() };
            found.fine(CHECK, format!("{file}, flags of {flags}: serves {} numbers on {links}", numbers(config)));
            let wrong =
                |note: &&String| note.contains("has no effect") || note.contains("sets nothing") || note.contains("pxelinux reads only");
            notes.iter().filter(wrong).for_each(|note| found.add(Finding::new(CHECK, Severity::Look, note)));
        }
    }
}

/// The daemon reads its config as its own user: at each reload, and from the unit at its start too.
fn config_rights(site: &Site, unit: bool, found: &mut Diagnosis) {
    let (eyes, path) = (site.eyes(), &site.file.path);
    let Some(account) = eyes.account().filter(|_| site.has_file) else { return };
    let opened = aside::look(Some(account), PATIENCE, || std::fs::File::open(path).is_ok());
    if matches!(opened, Ok(Aside::Found(false))) {
        let (path, user) = (path.display(), &account.name);
        let verdict = if unit { Severity::Broken } else { Severity::Look };
        let remedy = format!("chgrp {user} {path}; chmod g+r {path}; and x for each folder on the way");
        found.add(Finding::new("config", verdict, format!("{user} may not read {path}: a reload fails")).remedy(remedy));
    }
}

fn numbers(config: &muster::config::Config) -> u64 {
    config.plan.pieces().iter().map(|piece| u64::from(piece.last.0 - piece.first.0) + 1).sum()
}

fn show(found: &Diagnosis, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(&json!({ "verdict": found.worst(), "findings": found.0 }));
    }
    print(&found.0.iter().map(Finding::line).collect::<Vec<_>>())
}
