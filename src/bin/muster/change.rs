//! Changes: what was before, what will be, the question, the deed.

use std::io::{BufRead, IsTerminal, Write};

use muster::wire::control::{Change, Changed, LotChange, LotDetail, LotKind, Reply, Request};

use super::Failure;
use super::client::ControlClient;
use super::look::{self, print, print_json};
use super::options::MusterOptions;
use super::table::{counted, plain};

/// Does what the operator wants, after showing it and asking.
pub fn change(client: &mut ControlClient, options: &MusterOptions, mut wish: Change) -> Result<(), Failure> {
    if let Change::Out { nodes } = &mut wish {
        let numbers = client.numbers(nodes)?;
        if numbers.is_empty() {
            return Err(Failure::Failed(format!("{nodes} selects no node now")));
        }
        *nodes = numbers.to_string();
    }
    all(client, options, &[wish])
}

/// The same for a change in several parts, which is done with the last.
pub fn all(client: &mut ControlClient, options: &MusterOptions, parts: &[Change]) -> Result<(), Failure> {
    let shown = ask(client, parts, true)?;
    if options.json && (options.dry_run || shown.count == 0) {
        return print_json(&shown);
    }
    if !options.json {
        print(&lines(&shown))?;
    }
    if options.dry_run || shown.count == 0 {
        return Ok(());
    }
    if !options.yes {
        confirm(&format!("change {}?", counted(shown.count.into(), "number")))?;
    }
    let done = ask(client, parts, false)?;
    if options.json {
        return print_json(&done);
    }
    // Somebody else may have been quicker: then what was done is shown.
    if (&done.lots, done.count) != (&shown.lots, shown.count) {
        print(&["the numbers had changed meanwhile; this was done:".into()])?;
        print(&lines(&done))?;
    }
    let back = if parts.contains(&Change::Undo) { "" } else { "; muster undo reverts it" };
    print(&[format!("done{back}")])
}

/// Lets the daemon read its config again. What moves nodes is shown before.
pub fn reload(client: &mut ControlClient, options: &MusterOptions, renumber: bool) -> Result<(), Failure> {
    if renumber || options.dry_run {
        let reply = client.ask(&Request::Reload { renumber, dry: true })?;
        let Reply::Done { said } = &reply else { return ControlClient::unexpected(&reply) };
        match options.json {
            true if options.dry_run => return print_json(&reply),
            true => {}
            false if said.is_empty() => print(&["nothing would change".into()])?,
            false => print(&said.iter().map(|line| plain(line)).collect::<Vec<_>>())?,
        }
        if options.dry_run || said.is_empty() {
            return Ok(());
        }
        if !options.yes {
            confirm("apply this config? nodes that move lose their connections")?;
        }
    }
    look::command(client, options, &Request::Reload { renumber, dry: false })
}

pub fn ask(client: &mut ControlClient, parts: &[Change], dry: bool) -> Result<Changed, Failure> {
    let mut last = Changed::default();
    for change in parts {
        match client.ask(&Request::Change { change: change.clone(), dry })? {
            Reply::Changed(changed) => last = changed,
            other => return ControlClient::unexpected(&other),
        }
    }
    Ok(last)
}

pub fn confirm(question: &str) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Unconfirmed(
            "nothing was changed: there is no terminal to ask on; use -y to change without a question".into(),
        ));
    }
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    let _ = stdin.lock().read_line(&mut answer);
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Unconfirmed("nothing was changed".into())),
    }
}

fn lines(changed: &Changed) -> Vec<String> {
    let mut lines: Vec<String> = changed.lots.iter().flat_map(lot_lines).collect();
    let left = changed.count as usize - changed.lots.len().min(changed.count as usize);
    if left > 0 {
        lines.push(format!("... and {left} more, {} in all: {}", changed.count, plain(&changed.nodes)));
    }
    lines.extend(changed.notes.iter().map(|note| plain(note)));
    if changed.count == 0 {
        lines.push("nothing would change".into());
    }
    lines
}

fn lot_lines(change: &LotChange) -> [String; 2] {
    let name = format!("n{}", change.number);
    [format!("{name:<6} before: {}", lot(&change.before)), format!("{:<6} after:  {}", "", lot(&change.after))]
}

fn lot(lot: &LotDetail) -> String {
    let mut text = lot.kind.name().to_string();
    if lot.kind == LotKind::Occupied && lot.macs.is_empty() {
        text.push_str(", without a MAC");
    }
    lot.macs.iter().for_each(|mac| text.push_str(&format!(" {mac}")));
    lot.facts.iter().for_each(|(name, value)| text.push_str(&format!(", {} {}", plain(name), plain(value))));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster::base::addr::Mac;

    #[test]
    fn before_and_after_stand_below_each_other() {
        let after = LotDetail { kind: LotKind::Occupied, macs: vec![Mac([2, 0, 0, 0, 0, 1])], facts: vec![("serial".into(), "7".into())] };
        let lots = vec![LotChange { number: 23, before: LotDetail::default(), after }];
        let changed = Changed { dry: true, count: 3, nodes: "23-25".into(), lots, notes: vec!["by the way".into()] };
        assert_eq!(
            lines(&changed),
            [
                "n23    before: vacant",
                "       after:  occupied 02:00:00:00:00:01, serial 7",
                "... and 2 more, 3 in all: 23-25",
                "by the way"
            ]
        );
        assert_eq!(lines(&Changed::default()), ["nothing would change"]);
    }
}
