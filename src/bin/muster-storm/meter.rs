//! The line that tells how far the storm is, on a terminal only.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use muster::fleet::Progress;

/// Characters of the bar.
const WIDTH: usize = 40;

pub struct Meter {
    on: bool,
    /// When, in tenths of a second.
    told: Option<u128>,
}

impl Meter {
    pub fn new() -> Meter {
        Meter { on: std::io::stderr().is_terminal(), told: None }
    }

    /// At most ten times a second of the storm's own time.
    pub fn tell(&mut self, elapsed: Duration, progress: Progress) {
        let tenths = elapsed.as_millis() / 100;
        if !self.on || self.told == Some(tenths) {
            return;
        }
        self.told = Some(tenths);
        // Whoever closed our terminal does not end the storm.
        let _ = write!(std::io::stderr(), "\r{}\x1b[K", line(elapsed, progress));
    }

    pub fn clear(&self) {
        if self.told.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// `#` is up, `x` lost, `-` booting and a blank off.
fn line(elapsed: Duration, progress: Progress) -> String {
    let Progress { off, booting, up, lost, cut } = progress;
    let all = (off + booting + up + lost + cut).max(1);
    let mark = |n: usize| match n * all / WIDTH {
        n if n < up => '#',
        n if n < up + lost => 'x',
        n if n < up + lost + booting => '-',
        _ => ' ',
    };
    let bar: String = (0..WIDTH).map(mark).collect();
    format!("{:7.1} s [{bar}] {up} of {all} up, {booting} booting, {off} off, {lost} lost", elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_shows_everybody() {
        let progress = Progress { off: 25, booting: 25, up: 45, lost: 5, cut: 0 };
        let told = line(Duration::from_millis(12_340), progress);
        let bar = format!("[{}{}{}{}]", "#".repeat(18), "x".repeat(2), "-".repeat(10), " ".repeat(10));
        assert_eq!(told, format!("   12.3 s {bar} 45 of 100 up, 25 booting, 25 off, 5 lost"));
        let none = line(Duration::ZERO, Progress::default());
        assert!(none.contains("0 of 1 up"), "{none}");
    }
}
