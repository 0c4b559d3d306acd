//! What a node is given, value by value, and which section of the config says so.

use crate::config::Config;
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

/// Everything that holds for a number, in the order of the config's keys.
pub fn given(config: &Config, number: Number) -> Vec<Given> {
    let settings = boot::effective(config, number);
    settings.map(|setting| given_by(setting.name.to_string(), setting.value.to_string(), setting.origin.to_string())).collect()
}
