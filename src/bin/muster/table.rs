//! Text for people: aligned columns, durations, and colours where a terminal shows them.

use std::io::IsTerminal;

use muster::wire::control::NodeState;

/// Whether standard output shows colours (see no-color.org).
pub fn coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Text in the colour of a state.
pub fn painted(state: NodeState, text: &str) -> String {
    let code = match state {
        NodeState::Up => "32",
        NodeState::Booting => "33",
        NodeState::Stuck => "1;31",
        NodeState::Failed => "35",
        NodeState::Down => "31",
        NodeState::Reserved => "36",
        NodeState::Vacant => "2",
    };
    if coloured() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
}

/// Rows under a head, each column as wide as its widest cell.
pub struct TextTable {
    rows: Vec<Vec<String>>,
    /// The colour of a row's second cell.
    states: Vec<Option<NodeState>>,
}

impl TextTable {
    pub fn new(head: &[&str]) -> TextTable {
        TextTable { rows: vec![head.iter().map(ToString::to_string).collect()], states: vec![None] }
    }

    /// A row; the second cell is painted as the state is.
    pub fn row(&mut self, state: Option<NodeState>, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| plain(cell)).collect());
        self.states.push(state);
    }

    pub fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |(row, state): (&Vec<String>, &Option<NodeState>)| {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let padded = if column + 1 == row.len() { cell.clone() } else { format!("{cell:<width$}  ") };
                match state {
                    Some(state) if column == 1 => line.push_str(&painted(*state, &padded)),
                    _ => line.push_str(&padded),
                }
            }
            line.trim_end().to_string()
        };
        self.rows.iter().zip(&self.states).map(line).collect()
    }
}

/// What came from elsewhere, without what a terminal would obey.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Two units at most: `12 s`, `3 min 4 s`, `2 d 5 h`.
pub fn seconds(all: u64) -> String {
    let (days, hours, minutes, seconds) = (all / 86_400, all / 3600 % 24, all / 60 % 60, all % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// The same with tenths below a minute.
pub fn millis(all: u64) -> String {
    match all {
        0..60_000 => format!("{}.{} s", all / 1000, all / 100 % 10),
        _ => seconds(all / 1000),
    }
}

/// `1 machine`, `2 machines`.
pub fn counted(n: u64, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = TextTable::new(&["NODE", "STATE", "STAGE"]);
        table.row(None, vec!["n7".into(), "booting".into(), "tftp\x1b[31m".into()]);
        table.row(None, vec!["n1023".into(), "up".into(), String::new()]);
        assert_eq!(table.lines(), ["NODE   STATE    STAGE", "n7     booting  tftp?[31m", "n1023  up"]);
    }

    #[test]
    fn durations_read_well() {
        assert_eq!([5, 184, 11_520, 190_000].map(seconds), ["5 s", "3 min 4 s", "3 h 12 min", "2 d 4 h"]);
        assert_eq!([40, 1500, 184_000].map(millis), ["0.0 s", "1.5 s", "3 min 4 s"]);
        assert_eq!([1, 2].map(|n| counted(n, "guest")), ["1 guest", "2 guests"]);
    }
}
