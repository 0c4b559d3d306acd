//! Installs the plan that the head tells, so that the node knows all names without a server (libnss_muster(8)).

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use muster::fleet::passing::PassingLease;
use muster::roll::plan::{NamesFile, Number, This};
use muster::shell::daemon;

use crate::tell;

/// Where the name-service module looks.
pub const FILE: &str = "/var/lib/muster/names";

/// Writes the file, if the head sent a plan and the file does not have it already. A node without names boots all the same.
pub fn install(lease: &PassingLease, to: &Path) {
    if lease.names().is_empty() {
        return log::debug!("names: the head sends none ({} is unchanged)", to.display());
    }
    let Some(told) = NamesFile::parse(lease.names()) else {
        return log::warn!("names: cannot understand the head's list (use the same version of musterd and muster-in)");
    };
    let this = tell::number(lease).map(|number| This::Node(Number(number)));
    let text = NamesFile { this, ..told }.to_string();
    if fs::read(to).is_ok_and(|there| there == text.as_bytes()) {
        return;
    }
    match write(to, &text) {
        Ok(()) => log::info!("wrote the names of {} nodes to {}", told.plan.nodes(), to.display()),
        Err(error) => log::warn!("names: cannot write {}: {error} (programs on this node do not get names from it)", to.display()),
    }
}

/// Whoever reads meanwhile finds the old file or the new one, and so does everybody after a power cut.
fn write(to: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        if !folder.exists() {
            fs::create_dir_all(folder)?;
            // Whatever this process's umask is: every program looks names up.
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
    }
    daemon::publish(to, text.as_bytes())
}
