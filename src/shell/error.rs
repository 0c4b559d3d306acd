//! Why the shell cannot go on: one sentence that says what happened, where, and what to do.

use std::fmt;

/// A sentence for the operator.
#[derive(Debug)]
pub struct ShellError(String);

impl ShellError {
    /// An error that says this.
    pub fn new(sentence: impl Into<String>) -> ShellError {
        ShellError(sentence.into())
    }

    /// `what` failed with a system error, and this is what to do.
    pub fn system(what: impl fmt::Display, error: impl fmt::Display, remedy: &str) -> ShellError {
        let sep = if remedy.is_empty() { "" } else { ": " };
        ShellError(format!("{what}: {error}{sep}{remedy}"))
    }
}

impl fmt::Display for ShellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ShellError {}
