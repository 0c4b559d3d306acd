//! What musterd gives up when it starts, in the order that [`muster::shell::confine`] explains.

use std::path::{Path, PathBuf};

use muster::config::Config;
use muster::shell::clerk::Clerk;
use muster::shell::confine::folders::{FolderRights, with_parent};
use muster::shell::confine::{self, Held, Order, Role, account};
use muster::shell::{ShellError, daemon, facts};

use super::Worker;

/// Whom it runs as, and what holds its file processes.
pub struct Privileges {
    role: Role,
    user: String,
    workers: Vec<Held>,
}

impl Privileges {
    /// Hands over the folders of the config, becomes the user, and has the file processes do the same.
    pub fn drop(
        config: &Config,
        file: &Path,
        writer: &mut Worker,
        clerk: &mut Clerk,
        readers: &mut [Worker],
    ) -> Result<Privileges, ShellError> {
        let role = Role::of(&config.server.user)?;
        let (run, state) = (&config.server.run_dir, &config.server.state_dir);
        // Rights are those of folders that are there.
        daemon::make_run_dir(run)?;
        if let Some(account) = role.account() {
            for (folder, parents) in [(run, true), (state, false)] {
                if let Err(error) = account.take_over(folder, parents) {
                    log::warn!("{}: cannot give it to the user {}: {error} (chown it)", folder.display(), account.name);
                }
            }
        }
        facts::unlimit_locked_memory();
        confine::become_role(&role)?;
        let user = account::name_of(None);
        let failed = |error| ShellError::system("a file process cannot give up its privileges", error, "see PRIVILEGES in musterd(8)");
        // Links may name the root by a path that is a link itself.
        let links: Vec<PathBuf> = [&config.boot.root].into_iter().chain(&config.boot.allow).cloned().collect();
        for missing in config.boot.allow.iter().filter(|folder| !folder.is_dir()) {
            log::warn!("boot files: links into {} lead nowhere (it is no folder; when it is one, restart musterd)", missing.display());
        }
        let boot: Vec<PathBuf> = with_parent(&config.boot.root).into_iter().chain(config.boot.allow.iter().cloned()).collect();
        let mut workers = Vec::new();
        for reader in readers {
            workers.push(
                reader
                    .confine(&Order::new(&role, FolderRights { read: boot.clone(), write: Vec::new() }).with_links(&links))
                    .map_err(failed)?,
            );
        }
        let read = boot.into_iter().chain(folders_of(file)).chain([PathBuf::from("/etc/group")]).collect();
        workers
            .push(clerk.confine(&Order::new(&role, FolderRights { read, write: vec![run.clone()] }).with_links(&links)).map_err(failed)?);
        let write = with_parent(state).into_iter().chain([run.clone()]).collect();
        workers.push(writer.confine(&Order::new(&role, FolderRights { read: Vec::new(), write })).map_err(failed)?);
        Ok(Privileges { role, user, workers })
    }

    /// Gives up the rest when all is open, and says what holds.
    pub fn confine_loop(&self, config: &Config) -> Result<(), ShellError> {
        let held = confine::restrict_loop(&config.server.run_dir)
            .map_err(|error| ShellError::system("cannot give up privileges", error, "see PRIVILEGES in musterd(8)"))?;
        log::info!("{}", held.describe(&self.role, &self.user));
        if let Some(other) = self.workers.iter().find(|other| **other != held) {
            log::warn!("sandbox: a file process is held otherwise ({other:?}, not {held:?})");
        }
        Ok(())
    }
}

/// The folder of a config, and the one that it is in when its name is a link.
fn folders_of(file: &Path) -> Vec<PathBuf> {
    let real = std::fs::canonicalize(file).ok();
    [Some(file), real.as_deref()].into_iter().flatten().filter_map(Path::parent).map(Path::to_path_buf).collect()
}
