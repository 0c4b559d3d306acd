//! What a machine has shown of itself: the firmware or system that asks, and its report.

use crate::roll::journal::Verdict;
use crate::roll::kind::{Arch, Kind};
use crate::roll::lot::Papers;

pub struct Evidence {
    arch: Option<Arch>,
    kind: Kind,
    papers: Papers,
    verdict: Verdict,
    news: bool,
    reported: Option<u32>,
}

impl Evidence {
    pub(super) fn new() -> Evidence {
        Evidence { arch: None, kind: Kind::Other, papers: Papers::default(), verdict: Verdict::Untested, news: false, reported: None }
    }

    pub fn arch(&self) -> Option<Arch> {
        self.arch
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What it reported of itself.
    pub fn papers(&self) -> &Papers {
        &self.papers
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
    pub fn asked(&mut self, arch: Option<Arch>, kind: Kind) {
        (self.arch, self.kind) = (arch.or(self.arch), kind);
    }

    /// It reports, in this transaction. True: something else than before.
    pub(super) fn reports(&mut self, xid: u32, papers: Papers, verdict: Verdict) -> bool {
        let news = (self.papers, self.verdict) != (papers, verdict);
        (self.papers, self.verdict, self.reported) = (papers, verdict, Some(xid));
        self.news |= news;
        news
    }

    /// A record says it all.
    pub(super) fn recorded(&mut self) {
        self.news = false;
    }

    /// A journal says this of it.
    pub(super) fn restored(&mut self, papers: Papers, verdict: Verdict) {
        (self.papers, self.verdict) = (papers, verdict);
    }
}
