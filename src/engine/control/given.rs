//! What a node is given, value by value, and which section of the config says so: what it boots (`engine::boot`), and what else DHCP
//! tells it in the network of its address.

use std::net::Ipv4Addr;

use crate::config::{Config, Network};
use crate::engine::boot;
use crate::roll::plan::Number;
use crate::wire::control::Given;

/// The longest value that is shown whole, in characters.
const VALUE_MAX: usize = 2000;

fn given_by(key: String, value: String, from: String) -> Given {
    let value = match value.char_indices().nth(VALUE_MAX) {
        Some((at, _)) => format!("{}...", value.get(..at).unwrap_or_default()),
        None => value,
    };
    Given { key, value, from }
}

/// Everything that holds for a number whose address is this, in the order of the config's keys.
pub fn given(config: &Config, number: Number, address: Option<Ipv4Addr>) -> Vec<Given> {
    let settings = boot::effective(config, number);
    let mut given: Vec<Given> =
        settings.map(|setting| given_by(setting.name.to_string(), setting.value.to_string(), setting.origin.to_string())).collect();
    let at = address.and_then(|address| config.network_of(address));
    if let Some((at, network)) = at.and_then(|at| config.networks.get(at).map(|network| (at, network))) {
        let from = config.listing.section("[[network]]", at).to_string();
        given.extend(told(network).into_iter().map(|(key, value)| given_by(key.into(), value, from.clone())));
    }
    given
}

/// What a network tells everybody in it.
fn told(network: &Network) -> Vec<(&'static str, String)> {
    let addresses = |list: &[Ipv4Addr]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let lists = [("router", &network.routers), ("dns", &network.dns), ("ntp", &network.ntp)];
    let mut told: Vec<_> = lists.iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| (*key, addresses(list))).collect();
    told.extend(network.domain.iter().map(|domain| ("domain", domain.clone())));
    told
}
