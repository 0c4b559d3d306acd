//! The stages of a boot, and which leads to which.

/// Where a machine stands in its boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It asks for an address: nothing is given.
    Discover,
    /// Its DISCOVER is held while the address that it will get is probed by ARP, or until the link has room.
    Probing,
    Offered,
    /// Firmware has its address; a boot program was named to it.
    Leased,
    /// At least one transfer runs.
    Loading,
    /// What it asked for is loaded.
    Loaded,
    /// An operating system has the address.
    Up,
}

impl Stage {
    pub const ALL: [Stage; 7] = [Stage::Discover, Stage::Probing, Stage::Offered, Stage::Leased, Stage::Loading, Stage::Loaded, Stage::Up];

    /// The one word for it: in the log, the journal, state.json and `muster`.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Discover => "discover",
            Stage::Probing => "probing",
            Stage::Offered => "offered",
            Stage::Leased => "leased",
            Stage::Loading => "loading",
            Stage::Loaded => "loaded",
            Stage::Up => "up",
        }
    }

    /// Reads the name, or the one that journals had for it up to version 0.1.
    pub fn parse(text: &str) -> Option<Stage> {
        let old = (text == "stranger").then_some(Stage::Discover);
        old.or_else(|| Stage::ALL.into_iter().find(|stage| stage.name() == text))
    }

    /// The stages that may come next.
    ///
    /// | from     | to                                                |
    /// |----------|---------------------------------------------------|
    /// | discover | discover, probing, offered, leased, loading, up    |
    /// | probing  | discover, offered, leased, loading, up             |
    /// | offered  | discover, probing, leased, loading, up             |
    /// | leased   | discover, loading, up                             |
    /// | loading  | discover, leased, loading, loaded, up              |
    /// | loaded   | discover, leased, loading, up                     |
    /// | up       | discover                                          |
    ///
    /// Every stage leads back to discover: a machine can lose power at any moment, or decline its address. One that holds a lease from before a
    /// restart of the server, or whose DISCOVER was lost, begins in the middle. What a system loads once it is up is no boot.
    pub fn leads_to(self) -> &'static [Stage] {
        use Stage::*;
        match self {
            Discover => &[Discover, Probing, Offered, Leased, Loading, Up],
            Probing => &[Discover, Offered, Leased, Loading, Up],
            Offered => &[Discover, Probing, Leased, Loading, Up],
            Leased => &[Discover, Loading, Up],
            Loading => &[Discover, Leased, Loading, Loaded, Up],
            Loaded => &[Discover, Leased, Loading, Up],
            Up => &[Discover],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_leads_back_and_on() {
        for from in Stage::ALL {
            assert!(from.leads_to().contains(&Stage::Discover), "{from:?}");
            assert!(
                from == Stage::Discover || Stage::ALL.iter().any(|before| before.leads_to().contains(&from) && *before != from),
                "{from:?}"
            );
            assert_eq!(Stage::parse(from.name()), Some(from));
        }
        assert_eq!((Stage::parse("stranger"), Stage::parse("strange")), (Some(Stage::Discover), None));
    }

    #[test]
    fn only_what_runs_is_loaded_and_only_discover_ends_what_is_up() {
        assert!(Stage::ALL.into_iter().all(|from| from.leads_to().contains(&Stage::Loaded) == (from == Stage::Loading)));
        assert_eq!(Stage::Up.leads_to(), [Stage::Discover]);
    }
}
