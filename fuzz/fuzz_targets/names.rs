//! Names files, as every program on a node reads them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::roll::plan::NamesFile;

fuzz_target!(|bytes: &[u8]| {
    let Some(file) = NamesFile::parse(bytes) else { return };
    let text = file.to_string();
    assert_eq!(NamesFile::parse(text.as_bytes()), Some(file), "what is written again reads the same:\n{text}");
});
