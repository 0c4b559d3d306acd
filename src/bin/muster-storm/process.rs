//! What the server's processes cost, where they run on this machine: read from /proc before the storm and after it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Hundredths of a second: what Linux counts CPU time in towards user space (USER_HZ), on every architecture that matters here.
const TICKS: f64 = 100.0;

/// Sums over the processes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sample {
    /// Seconds, of children that have ended too.
    user: f64,
    system: f64,
    /// Resident, in KiB: now, and at most so far.
    memory: u64,
    peak: u64,
    descriptors: usize,
}

/// The server's processes, as they were when the storm began.
pub struct Processes {
    pids: Vec<u32>,
    before: Sample,
}

impl Processes {
    /// The reason why a process cannot be looked at, as one sentence.
    pub fn new(pids: &[u32]) -> Result<Processes, String> {
        Ok(Processes { pids: pids.to_vec(), before: sample(pids)? })
    }

    /// What they came to since. None where there are no processes to look at, or where one has ended.
    pub fn cost(&self) -> Option<Value> {
        let after = sample(&self.pids).ok().filter(|_| !self.pids.is_empty())?;
        let (user, system) = (after.user - self.before.user, after.system - self.before.system);
        Some(json!({
            "cpu_s": rounded(user + system),
            "user_s": rounded(user),
            "system_s": rounded(system),
            "memory_kib": { "before": self.before.memory, "after": after.memory, "peak": after.peak },
            "descriptors": { "before": self.before.descriptors, "after": after.descriptors },
        }))
    }
}

/// Without the noise of binary fractions.
fn rounded(seconds: f64) -> f64 {
    (seconds * TICKS).round() / TICKS
}

fn sample(pids: &[u32]) -> Result<Sample, String> {
    pids.iter().try_fold(Sample::default(), |sum, &pid| {
        let one = sample_one(&PathBuf::from(format!("/proc/{pid}"))).map_err(|error| format!("--server-pid {pid}: {error}"))?;
        Ok(Sample {
            user: sum.user + one.user,
            system: sum.system + one.system,
            memory: sum.memory + one.memory,
            peak: sum.peak + one.peak,
            descriptors: sum.descriptors + one.descriptors,
        })
    })
}

fn sample_one(folder: &Path) -> std::io::Result<Sample> {
    let (user, system) = times(&fs::read_to_string(folder.join("stat"))?);
    let status = fs::read_to_string(folder.join("status"))?;
    let descriptors = fs::read_dir(folder.join("fd"))?.count();
    Ok(Sample { user, system, memory: kib(&status, "VmRSS:"), peak: kib(&status, "VmHWM:"), descriptors })
}

/// User and system time of /proc/PID/stat (proc(5): fields 14 to 17), in seconds. The name, in parentheses, may hold anything.
fn times(stat: &str) -> (f64, f64) {
    let fields: Vec<f64> = stat.rsplit(')').next().unwrap_or("").split_whitespace().map(|text| text.parse().unwrap_or(0.0)).collect();
    let field = |n: usize| fields.get(n).copied().unwrap_or(0.0) / TICKS;
    (field(11) + field(13), field(12) + field(14))
}

/// A line of /proc/PID/status; 0 without one.
fn kib(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_name_is_odd() {
        let stat = "17 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 250 30 40 20 0 1 0";
        assert_eq!(times(stat), (1.8, 2.9));
        assert_eq!(times(""), (0.0, 0.0));
        assert_eq!(kib("Name:\tx\nVmRSS:\t    4312 kB\n", "VmRSS:"), 4312);
    }

    #[test]
    fn our_own_process() {
        let processes = Processes::new(&[std::process::id()]).unwrap();
        let cost = processes.cost().unwrap();
        assert!(cost["memory_kib"]["after"].as_u64() > Some(0) && cost["descriptors"]["after"].as_u64() > Some(2), "{cost}");
        assert!(Processes::new(&[]).unwrap().cost().is_none());
        assert!(Processes::new(&[u32::MAX]).is_err());
    }
}
