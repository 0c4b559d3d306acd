//! The story of one boot: a line that grows with each stage, in a fixed buffer, logged once (law 2: a record costs no allocation).

use std::fmt::{self, Write};

/// Bytes of a story. What does not fit is left out and marked by `...`.
pub const STORY_MAX: usize = 320;
const MARK: &str = " ...";

#[derive(Clone)]
pub struct Story {
    text: [u8; STORY_MAX],
    len: u16,
    full: bool,
}

impl Default for Story {
    fn default() -> Story {
        Story { text: [0; STORY_MAX], len: 0, full: false }
    }
}

impl Story {
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn clear(&mut self) {
        self.len = 0;
        self.full = false;
    }

    /// Adds a stage, after an arrow when it is not the first.
    pub fn add(&mut self, stage: fmt::Arguments<'_>) {
        if self.full {
            return;
        }
        let before = self.len;
        let arrow = if before == 0 { "" } else { " -> " };
        if write!(self, "{arrow}{stage}").is_err() {
            self.len = before;
            self.full = true;
            self.push(MARK.as_bytes());
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        if let Some(to) = self.text.get_mut(start..start + bytes.len()) {
            to.copy_from_slice(bytes);
            self.len += bytes.len() as u16;
        }
    }
}

impl Write for Story {
    /// Fails when the mark would no longer fit behind the text.
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if usize::from(self.len) + s.len() + MARK.len() > STORY_MAX {
            return Err(fmt::Error);
        }
        self.push(s.as_bytes());
        Ok(())
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text[..usize::from(self.len)]).unwrap_or("?"))
    }
}

/// Bytes that came from a client, for a log: at most 64, what is not printable ASCII as `?`.
pub struct Printable<'a>(pub &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0.iter().take(64) {
            f.write_char(if byte == b' ' || byte.is_ascii_graphic() { byte.into() } else { '?' })?;
        }
        if self.0.len() > 64 { f.write_str("...") } else { Ok(()) }
    }
}

/// A size as an operator reads it: `70 KiB`.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n < 1 << 10 => write!(f, "{n} B"),
            n if n < 10 << 20 => write!(f, "{} KiB", n.div_ceil(1 << 10)),
            n => write!(f, "{} MiB", n.div_ceil(1 << 20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_by_arrows_and_ends_with_a_mark() {
        let mut story = Story::default();
        story.add(format_args!("discover ({})", "bios"));
        story.add(format_args!("offer 10.54.1.17"));
        assert_eq!(story.to_string(), "discover (bios) -> offer 10.54.1.17");
        for n in 0..100 {
            story.add(format_args!("tftp file{n}"));
        }
        let told = story.to_string();
        assert!(told.ends_with(" ...") && told.len() <= STORY_MAX && !told.contains("-> ..."), "{told}");
        story.clear();
        assert!(story.is_empty());
    }

    #[test]
    fn shows_what_clients_sent() {
        assert_eq!(Printable(b"pxelinux.0\xff\n").to_string(), "pxelinux.0??");
        assert_eq!(Printable(&[b'a'; 80]).to_string().len(), 67);
        assert_eq!([0, 1023, 70_000, 33 << 20].map(|n| Bytes(n).to_string()), ["0 B", "1023 B", "69 KiB", "33 MiB"]);
    }
}
