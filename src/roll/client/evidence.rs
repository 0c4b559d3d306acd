//! What a machine has shown of itself: the firmware or system that asks, and its report.

use crate::roll::journal::Verdict;
use crate::roll::kind::{Arch, FirmwareKind};
use crate::roll::lot::Fingerprint;

pub struct Evidence {
    arch: Option<Arch>,
    kind: FirmwareKind,
    fingerprint: Fingerprint,
    verdict: Verdict,
    news: bool,
    reported: Option<u32>,
}

impl Evidence {
    pub(super) fn new() -> Evidence {
        Evidence {
            arch: None,
            kind: FirmwareKind::Other,
            fingerprint: Fingerprint::default(),
            verdict: Verdict::Untested,
            news: false,
            reported: None,
        }
    }

    pub fn arch(&self) -> Option<Arch> {
        self.arch
    }

    pub fn kind(&self) -> FirmwareKind {
        self.kind
    }

    /// What it reported of itself.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// What it reported of its test.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether it has shown what no record of its lease says yet.
    pub fn has_news(&self) -> bool {
        self.news
    }

    /// Whether it said in this transaction that it passed its test.
    pub fn passed_in(&self, xid: u32) -> bool {
        self.reported == Some(xid) && self.verdict == Verdict::Passed
    }

    /// A message says what sends it. One that does not say for which architecture changes nothing of that.
    pub fn asked(&mut self, arch: Option<Arch>, kind: FirmwareKind) {
        (self.arch, self.kind) = (arch.or(self.arch), kind);
    }

    /// It reports, in this transaction. True: something else than before.
    pub(super) fn reports(&mut self, xid: u32, fingerprint: Fingerprint, verdict: Verdict) -> bool {
        let news = (self.fingerprint, self.verdict) != (fingerprint, verdict);
        (self.fingerprint, self.verdict, self.reported) = (fingerprint, verdict, Some(xid));
        self.news |= news;
        news
    }

    /// A record says it all.
    pub(super) fn recorded(&mut self) {
        self.news = false;
    }

    /// A journal says this of it.
    pub(super) fn restored(&mut self, fingerprint: Fingerprint, verdict: Verdict) {
        (self.fingerprint, self.verdict) = (fingerprint, verdict);
    }
}
