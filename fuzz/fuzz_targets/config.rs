//! Config files. One that is good is so as `musterd -t` prints it, and means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::config::{Flags, ConfigText, resolve};
use muster_fuzz::Head;

fuzz_target!(|text: &str| {
    let (head, flags) = (Head::default(), Flags::default());
    let resolved = |text| resolve(Some(ConfigText { path: "muster.toml", text }), &flags, &head);
    match resolved(text) {
        Err(errors) => assert!(!errors.is_empty() && errors.iter().all(|error| !error.to_string().is_empty())),
        Ok(good) => {
            let shown = good.config.listing.to_string();
            let again = resolved(&shown).unwrap_or_else(|errors| {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                panic!("the effective config is wrong: {}\n{shown}", errors.join("\n"))
            });
            assert_eq!(again.config.listing.to_string(), shown);
        }
    }
});
