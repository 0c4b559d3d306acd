//! Which system calls a process may make, held by the kernel (seccomp(2)): all others fail with EPERM, and are noted for the log.
//!
//! The lists are traces, not guesses: `scripts/syscalls` runs the tests, writes down what was called from the moment on at which the filter would
//! hold, and writes [`list`]. A new C library or kernel may call what no trace has: that must not end a boot server at night, so that production
//! refuses it alone. The tests end the process instead, so that a call which is missing from the list is a test that fails.

mod list;

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::super::sys::rights;

/// What becomes of a call that is not on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It fails with EPERM, and is noted.
    Note,
    /// The process ends: for tests.
    Kill,
    /// There is no filter, but a mark in the trace: for `scripts/syscalls`.
    Trace,
    /// There is no filter.
    Off,
}

impl Refusal {
    /// As the environment says, by its variable `MUSTER_SECCOMP`.
    pub fn of_environment() -> Refusal {
        match std::env::var("MUSTER_SECCOMP").as_deref() {
            Ok("kill") => Refusal::Kill,
            Ok("trace") => Refusal::Trace,
            Ok("off") => Refusal::Off,
            _ => Refusal::Note,
        }
    }
}

/// A call that may be made.
pub(super) struct Call {
    number: i64,
    argument: Argument,
}

/// What one of its arguments must be.
enum Argument {
    Any,
    /// The argument at this place is one of these values.
    OneOf(u8, &'static [u64]),
    /// The memory that it gives cannot be executed (the third argument of mmap and mprotect).
    NotExecutable,
}

const fn any(number: i64) -> Call {
    Call { number, argument: Argument::Any }
}

const fn one_of(number: i64, place: u8, values: &'static [u64]) -> Call {
    Call { number, argument: Argument::OneOf(place, values) }
}

const fn not_executable(number: i64) -> Call {
    Call { number, argument: Argument::NotExecutable }
}

/// Who is held to a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The daemon's loop.
    Loop,
    /// A file process.
    Worker,
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules(calls: &[Call]) -> Result<Rules, BackendError> {
    let mut rules = Rules::new();
    for call in calls {
        let of = rules.entry(call.number).or_default();
        let mut allow = |place, how, value| -> Result<(), BackendError> {
            of.push(SeccompRule::new(vec![SeccompCondition::new(place, SeccompCmpArgLen::Dword, how, value)?])?);
            Ok(())
        };
        match call.argument {
            Argument::Any => {}
            Argument::OneOf(place, values) => values.iter().try_for_each(|value| allow(place, SeccompCmpOp::Eq, *value))?,
            Argument::NotExecutable => allow(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?,
        }
    }
    Ok(rules)
}

fn program(calls: &[Call], refusal: Refusal) -> Result<BpfProgram, BackendError> {
    let refused = match refusal {
        Refusal::Kill => SeccompAction::KillProcess,
        _ if rights::CAN_NOTE => SeccompAction::Trap,
        _ => SeccompAction::Errno(libc::EPERM as u32),
    };
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules(calls)?, refused, SeccompAction::Allow, arch)?.try_into()
}

/// Holds this process to its list. False where that cannot be: the kernel has no seccomp, or the machine is of a kind that the filter does not know.
pub fn restrict(who: Who, refusal: Refusal) -> bool {
    let calls = match who {
        Who::Loop => list::LOOP,
        Who::Worker => list::WORKER,
    };
    match refusal {
        Refusal::Off => false,
        Refusal::Trace => {
            rights::mark();
            false
        }
        Refusal::Note | Refusal::Kill => {
            let noted = refusal == Refusal::Kill || !rights::CAN_NOTE || rights::note_refused().is_ok();
            noted && program(calls, refusal).is_ok_and(|program| seccompiler::apply_filter(&program).is_ok())
        }
    }
}
