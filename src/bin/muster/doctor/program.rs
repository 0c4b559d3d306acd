//! Other programs: run with a limit of time, and found where a root's PATH may not lead.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(5);
const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// More is not read.
const OUTPUT_MAX: u64 = 64 << 20;

/// How a program ended.
#[derive(Debug)]
pub enum Ran {
    Missing,
    /// With what it printed.
    Done(String),
    Failed(String),
}

fn find(name: &str) -> Option<PathBuf> {
    PLACES.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file())
}

pub fn run(name: &str, arguments: &[&str]) -> Ran {
    match find(name) {
        Some(path) => run_for(&path, arguments, PATIENCE),
        None => Ran::Missing,
    }
}

fn run_for(path: &Path, arguments: &[&str], patience: Duration) -> Ran {
    let mut command = Command::new(path);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ran::Failed(error.to_string()),
    };
    // Both are read beside it, or it might wait for us.
    let reader = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.map(|pipe| pipe.take(OUTPUT_MAX).read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = reader(child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let err = reader(child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let end = Instant::now() + patience;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Ran::Failed(format!("has not ended in {} s", patience.as_secs_f32()));
            }
            Err(error) => return Ran::Failed(error.to_string()),
        }
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    match status.success() {
        true => Ran::Done(out),
        false => Ran::Failed(err.lines().next().map_or_else(|| status.to_string(), |line| line.trim().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_run_heard_and_given_up() {
        let sh = |script: &str, patience| run_for(Path::new("/bin/sh"), &["-c", script], Duration::from_millis(patience));
        assert!(matches!(sh("echo yes", 10_000), Ran::Done(text) if text == "yes\n"));
        assert!(matches!(sh("echo why >&2; exit 3", 10_000), Ran::Failed(why) if why == "why"));
        assert!(matches!(sh("exec sleep 60", 100), Ran::Failed(why) if why.contains("0.1 s")));
        assert!(matches!(run("no-such-program", &[]), Ran::Missing));
    }
}
