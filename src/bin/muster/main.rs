//! muster: the operator's program. It speaks to a running `musterd` over its control socket (`wire::control`).
//!
//! Exit status: 0 done. 1 refused by the daemon, or failed. 2 wrong usage. 3 no daemon answers. 4 not confirmed.
//! `muster doctor` ends with 1 for what is broken and with 5 for what is worth a look.

mod change;
mod client;
mod doctor;
mod find;
mod hosts;
mod import;
mod look;
mod options;
mod table;
mod wait;
mod watch;

use std::io::Write;
use std::process::ExitCode;

use muster::wire::control::{Rejection, Request};

use client::ControlClient;
use options::{MusterCommand, MusterOptions};

/// Why the command was not done.
#[derive(Debug)]
pub enum Failure {
    /// The daemon said no, or something on the way failed.
    Failed(String),
    /// The command line is wrong.
    Usage(String),
    /// No daemon answers on the socket.
    NoDaemon(String),
    /// The operator did not confirm the change.
    Unconfirmed(String),
    /// Whoever reads our output has seen enough.
    Seen,
    /// The doctor has found something, and said so.
    Ill(u8),
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Failure {
        Failure::Failed(rejection.to_string())
    }
}

/// Standard output cannot be written to.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::Seen,
            _ => Failure::Failed(format!("cannot write the output: {error}")),
        }
    }
}

fn main() -> ExitCode {
    let done = options::options().and_then(|options| match options {
        Some(options) => run(&options),
        None => Ok(()),
    });
    let (why, code) = match done {
        Ok(()) | Err(Failure::Seen) => return ExitCode::SUCCESS,
        Err(Failure::Ill(code)) => return ExitCode::from(code),
        Err(Failure::Failed(why)) => (why, 1),
        Err(Failure::Usage(why)) => (why, 2),
        Err(Failure::NoDaemon(why)) => (why, 3),
        Err(Failure::Unconfirmed(why)) => (why, 4),
    };
    // Nobody may read this either.
    let _ = writeln!(std::io::stderr(), "muster: {why}");
    ExitCode::from(code)
}

fn run(options: &MusterOptions) -> Result<(), Failure> {
    // The daemon need not run.
    if let MusterCommand::Doctor(doctor) = &options.command {
        return doctor::doctor(doctor);
    }
    let mut client = ControlClient::connect(&options.socket)?;
    if let Some(prefix) = &options.prefix {
        client.check_prefix(prefix)?;
    }
    match &options.command {
        MusterCommand::Doctor(doctor) => doctor::doctor(doctor),
        MusterCommand::Status => look::status(&mut client, options),
        MusterCommand::NodeList { nodes } => look::nodes(&mut client, options, nodes.as_deref()),
        MusterCommand::NodeShow { nodes } => look::node(&mut client, options, nodes),
        MusterCommand::GuestList => look::guests(&mut client, options),
        MusterCommand::Find { text } => find::find(&mut client, options, text),
        MusterCommand::Why { whom } => find::why(&mut client, options, whom),
        MusterCommand::Wait { nodes, state, timeout } => wait::wait(&mut client, options, nodes, *state, *timeout),
        MusterCommand::Watch => watch::watch(&mut client, options),
        MusterCommand::Reload { renumber } => change::reload(&mut client, options, *renumber),
        MusterCommand::Checkpoint => look::command(&mut client, options, &Request::Checkpoint),
        MusterCommand::Hosts { form, nodes } => hosts::hosts(&mut client, options, *form, nodes.as_deref()),
        MusterCommand::Change(change) => change::change(&mut client, options, change.clone()),
        MusterCommand::Import { files, format } => import::import(&mut client, options, files, *format),
    }
}
