//! What a check comes to: a line each.

use serde::Serialize;

use super::super::table::{coloured, plain};

/// How bad it is; the worst of all is the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Fine,
    /// It may be the reason, or will be; or it could not be looked at.
    Look,
    /// Machines do not boot by this.
    Broken,
}

impl Severity {
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Fine => "fine",
            Severity::Look => "look",
            Severity::Broken => "broken",
        }
    }

    /// The exit status of a doctor who has found this.
    pub const fn code(self) -> u8 {
        match self {
            Severity::Fine => 0,
            Severity::Broken => 1,
            Severity::Look => 5,
        }
    }

    fn painted(self) -> String {
        let code = match self {
            Severity::Fine => "32",
            Severity::Look => "33",
            Severity::Broken => "1;31",
        };
        if coloured() { format!("\x1b[{code}m{:<6}\x1b[0m", self.name()) } else { format!("{:<6}", self.name()) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: &'static str,
    /// The interface, file or program that it is about, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    pub verdict: Severity,
    pub what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    pub fn new(check: &'static str, verdict: Severity, what: impl Into<String>) -> Finding {
        Finding { check, of: None, verdict, what: what.into(), remedy: None }
    }

    pub fn on(self, of: impl Into<String>) -> Finding {
        Finding { of: Some(of.into()), ..self }
    }

    pub fn remedy(self, remedy: impl Into<String>) -> Finding {
        Finding { remedy: Some(remedy.into()), ..self }
    }

    /// What is fine needs none.
    pub fn remedy_if(self, verdict: Severity, remedy: impl Into<String>) -> Finding {
        if verdict == Severity::Fine { self } else { self.remedy(remedy) }
    }

    pub fn line(&self) -> String {
        let of = self.of.as_ref().map(|of| format!(" {of}")).unwrap_or_default();
        let remedy = self.remedy.as_ref().map(|remedy| format!(" ({remedy})")).unwrap_or_default();
        format!("{} {}{}: {}{}", self.verdict.painted(), self.check, plain(&of), plain(&self.what), plain(&remedy))
    }
}

/// All that was found, in the order of the checks.
#[derive(Debug, Default)]
pub struct Diagnosis(pub Vec<Finding>);

impl Diagnosis {
    pub fn add(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    pub fn fine(&mut self, check: &'static str, what: impl Into<String>) {
        self.add(Finding::new(check, Severity::Fine, what));
    }

    pub fn look(&mut self, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Finding::new(check, Severity::Look, what).remedy(remedy));
    }

    pub fn broken(&mut self, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Finding::new(check, Severity::Broken, what).remedy(remedy));
    }

    pub fn worst(&self) -> Severity {
        self.0.iter().map(|finding| finding.verdict).max().unwrap_or(Severity::Fine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_and_remedy_and_obeys_no_terminal() {
        let finding = Finding::new("boot file", Severity::Broken, "\x1b[2J is not there").on("a\nb").remedy("put it there");
        assert_eq!(finding.line(), "broken boot file a?b: ?[2J is not there (put it there)");
        let mut found = Diagnosis::default();
        assert_eq!(found.worst(), Severity::Fine);
        found.look("clock", "x", "y");
        found.fine("clock", "x");
        assert_eq!((found.worst(), found.worst().code()), (Severity::Look, 5));
        found.add(finding);
        assert_eq!(found.worst().code(), 1);
    }
}
