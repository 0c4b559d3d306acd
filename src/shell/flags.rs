//! The flags of musterd: how the daemon reads them, and how `muster doctor` reads those of a daemon that runs, so that both look in the same places.

use getopts::{Matches, Options};

use crate::config::{ConfigFile, Flags};

/// Where musterd looks without `-c`.
pub const CONFIG: &str = "/etc/muster/muster.toml";

/// All flags, with their line of help.
pub fn options() -> Options {
    let mut flags = Options::new();
    flags
        .optflag("d", "debug", "stay in the foreground, with a detailed coloured log on stderr")
        .optflag("f", "foreground", "stay in the foreground, with the usual log on stderr")
        .optflag("t", "test", "check the config, print the effective settings, and exit")
        .optmulti("i", "interface", "serve this interface (may be repeated; replaces those of the config)", "IF")
        .optopt("r", "root", "serve boot files from this folder", "DIR")
        .optopt("c", "config", &format!("read this config file instead of {CONFIG}"), "FILE")
        .optopt("", "run-dir", "folder of the pid file and state.json (/run/muster)", "DIR")
        .optopt("", "state-dir", "folder of the journal (/var/lib/muster)", "DIR")
        .optopt("", "user", "run as this user if root starts it (muster)", "NAME")
        .optflag("h", "help", "print this")
        .optflag("V", "version", "print version and commit");
    flags
}

/// The config that they name, or the usual one, which need not be there. An error names what is not a flag.
pub fn config_file(matches: &Matches) -> Result<ConfigFile, String> {
    if let Some(stray) = matches.free.first() {
        return Err(format!("{stray:?} is not a flag"));
    }
    let path = |name| matches.opt_str(name).map(|path| std::path::absolute(&path).unwrap_or(path.into()));
    let config = path("c");
    Ok(ConfigFile {
        required: config.is_some(),
        path: config.unwrap_or(CONFIG.into()),
        flags: Flags {
            interfaces: matches.opt_strs("i"),
            root: path("r"),
            run_dir: path("run-dir"),
            state_dir: path("state-dir"),
            user: matches.opt_str("user"),
        },
    })
}
