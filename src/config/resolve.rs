//! Flags, text and facts -> one [`Config`]: what the file leaves out is filled, by flags, facts and files; then it is checked.

use std::path::PathBuf;

use super::error::{ConfigError, ConfigText, Errors};
use super::keys::{NodeKeys, Section, SegmentKeys, is_user_name};
use super::layout::AddressLayout;
use super::listing::Listing;
use super::model::{Boot, Config, KnownNode, Override, System};
use super::parsed::Parsed;
use super::value::{KeySlot, Set};
use super::{boot, check};
use crate::roll::plan::{AddressPlan, Segment};

/// What the command line says; it wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `-i`: boot interfaces, which replace those of the file.
    pub interfaces: Vec<String>,
    /// `-r`: the folder that TFTP serves.
    pub root: Option<PathBuf>,
    /// `--run-dir`
    pub run_dir: Option<PathBuf>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
    /// `--user`
    pub user: Option<String>,
}

/// A config and what was decided on the way to it.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The config, whole and checked.
    pub config: Config,
    /// A line for each thing that was derived and not configured, and for what the operator will probably miss.
    pub notes: Vec<String>,
}

/// Text, flags and facts -> one checked config. Without a text everything is derived from the interfaces that the flags name.
///
/// # Errors
/// Everything that is wrong, as far as it can be found in one run.
pub fn resolve(source: Option<ConfigText<'_>>, flags: &Flags, world: &impl System) -> Result<Resolved, Vec<ConfigError>> {
    let mut errors = Errors::new(source);
    let parsed = match source {
        None => Some(Parsed::default()),
        Some(source) => Parsed::read(source, &mut errors),
    };
    let Some(mut parsed) = parsed else { return Err(errors.into_errors()) };
    let mut notes = Vec::new();
    for (flag, value, key) in [
        ("-r", &flags.root, &mut parsed.boot.root),
        ("--run-dir", &flags.run_dir, &mut parsed.server.run_dir),
        ("--state-dir", &flags.state_dir, &mut parsed.server.state_dir),
    ] {
        by_flag(flag, value, key, &mut errors);
    }
    if let Some(user) = &flags.user {
        if !is_user_name(user) {
            errors.add(None, "--user", format!("{user:?} is not a user's name: write it as in /etc/passwd"));
        }
        parsed.server.user = Some(Set::derived(user.clone()));
    }
    parsed.fill();
    world.places(&parsed.server.run_dir.filled(), &parsed.server.state_dir.filled());
    let unsure = parsed.addresses_unsure;
    let layout = if unsure { None } else { AddressLayout::new(&parsed, &flags.interfaces, world.links(), &mut errors, &mut notes) };
    let nodes = check::nodes(&parsed, layout.as_ref().map(|layout| layout.plan), &mut errors);
    check::dns(&parsed.dns, layout.as_ref().map_or(&[], |layout| layout.links.as_slice()), &mut errors);
    let found = boot::fill(&mut parsed.boot, world, &mut notes);
    let boot = Boot::from(&parsed.boot);
    let overrides: Vec<Override> = parsed.overrides.iter().map(Override::from).collect();
    boot::check_scripts(&boot, &overrides, &parsed, &mut errors, &mut notes);
    if let Some(source) = source {
        boot::shadowed(source, &parsed.overrides, &mut notes);
    }
    let Some(AddressLayout { plan, links, networks }) = layout.filter(|_| errors.is_empty()) else {
        return Err(errors.into_errors());
    };
    let config = Config {
        plan,
        numbering: parsed.cluster.numbering.filled(),
        new_numbers: parsed.cluster.new_numbers.filled(),
        ignore: parsed.cluster.ignore.filled(),
        links,
        networks: networks.iter().map(|draft| draft.network()).collect(),
        boot,
        overrides,
        tftp: (&parsed.tftp).into(),
        dhcp: (&parsed.dhcp).into(),
        dns: (&parsed.dns).into(),
        server: (&parsed.server).into(),
        listing: {
            parsed.show_plan(&plan, &nodes);
            Listing::new(&parsed, networks.iter().map(|draft| (&draft.keys, draft.name.as_str(), draft.note())), found).into()
        },
        nodes,
    };
    Ok(Resolved { config, notes })
}

/// A folder that a flag names goes before the file's.
fn by_flag(flag: &str, value: &Option<PathBuf>, key: &mut Option<Set<PathBuf>>, errors: &mut Errors<'_>) {
    let Some(folder) = value else { return };
    if folder.to_str().is_none_or(|text| text.chars().any(char::is_control)) {
        errors.add(None, flag, format!("{folder:?} is not plain text: choose another folder"));
    }
    *key = Some(Set::derived(folder.clone()));
}

impl Parsed {
    /// Sets the defaults of the sections that there is one of; for [boot] see [`boot::fill`].
    fn fill(&mut self) {
        self.cluster.fill();
        self.tftp.fill();
        self.dhcp.fill();
        self.dns.fill();
        self.server.fill();
    }

    /// Numbers and addresses as they came out, for the listing. Guests are their networks'.
    fn show_plan(&mut self, plan: &AddressPlan, nodes: &[KnownNode]) {
        self.cluster.guests = None;
        self.cluster.node0 = Some(Set::derived(plan.node0()));
        self.cluster.nodes = Some(Set::derived(plan.nodes()));
        let node0 = u32::from(plan.node0());
        let moved = |piece: &&Segment| u32::from(piece.address).checked_sub(node0) != Some(piece.first.0);
        let segment = |piece: &Segment| SegmentKeys {
            nodes: Some(Set::derived((piece.first, piece.last))),
            first: Some(Set::derived(piece.address)),
            ..SegmentKeys::default()
        };
        self.segments = plan.pieces().iter().filter(moved).map(segment).collect();
        let node = |KnownNode { number, macs }: &KnownNode| NodeKeys {
            number: Some(Set::derived(number.0)),
            macs: Some(Set::derived(macs.clone())),
            ..NodeKeys::default()
        };
        self.nodes = nodes.iter().map(node).collect();
    }
}
