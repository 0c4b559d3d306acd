//! A short text in a fixed buffer (law 2): what does not fit is left out.

use std::fmt;

/// At most `N` bytes of UTF-8; `N` is below 65,536.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: u16,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Text<N> {
        Text { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Text<N> {
    /// What the arguments come to, as far as it fits.
    pub fn of(arguments: fmt::Arguments<'_>) -> Text<N> {
        let mut text = Text::default();
        // Writing to it does not fail.
        let _ = fmt::write(&mut text, arguments);
        text
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes it empty.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    /// Takes as many whole characters as fit.
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let start = usize::from(self.len);
        let mut end = s.len().min(N - start);
        while !s.is_char_boundary(end) {
            end -= 1;
        }
        if let (Some(to), Some(from)) = (self.bytes.get_mut(start..start + end), s.as_bytes().get(..end)) {
            to.copy_from_slice(from);
            self.len += end as u16;
        }
        Ok(())
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_fits() {
        let text = Text::<8>::of(format_args!("{}-{}", 12, "vmlinuz"));
        assert_eq!((text.as_str(), text.is_empty()), ("12-vmlin", false));
        assert_eq!(Text::<4>::of(format_args!("aää")).as_str(), "aä");
        let mut empty = text;
        empty.clear();
        assert!(empty.is_empty() && Text::<0>::of(format_args!("x")).is_empty());
    }
}
