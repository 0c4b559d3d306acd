//! Texts written into a fixed buffer: placeholders filled in, kernel arguments cut into words for GRUB.

use std::fmt::{self, Write};
use std::net::Ipv4Addr;

use crate::roll::client::Client;
use crate::roll::plan::{NodeNames, Number};

/// The placeholders of kernel arguments; the config refuses others.
pub const PLACEHOLDERS: [&str; 5] = ["{node}", "{name}", "{ip}", "{mac}", "{head}"];

/// A text of at most the buffer's length; what does not fit is an error.
pub struct TextWriter<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl<'a> TextWriter<'a> {
    pub fn new(buf: &'a mut [u8]) -> TextWriter<'a> {
        TextWriter { buf, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }
}

impl fmt::Write for TextWriter<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let to = self.buf.get_mut(self.len..).and_then(|rest| rest.get_mut(..s.len())).ok_or(fmt::Error)?;
        to.copy_from_slice(s.as_bytes());
        self.len += s.len();
        Ok(())
    }
}

/// Fills in the placeholders of kernel arguments. A guest's number is `-`.
pub fn expand(text: &mut impl Write, args: &str, client: &Client, (names, head): (&NodeNames, Ipv4Addr)) -> fmt::Result {
    let mut rest = args;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        text.write_str(before)?;
        let found = PLACEHOLDERS.iter().find(|placeholder| from.starts_with(**placeholder));
        match (found.copied(), client.number()) {
            (Some("{node}"), Some(Number(n))) => write!(text, "{n}")?,
            (Some("{name}"), Some(number)) => write!(text, "{}", names.of(number))?,
            (Some("{node}" | "{name}"), None) => text.write_str("-")?,
            (Some("{ip}"), _) => write!(text, "{}", client.address().unwrap_or(Ipv4Addr::UNSPECIFIED))?,
            (Some("{mac}"), _) => write!(text, "{}", client.mac())?,
            (Some(_), _) => write!(text, "{head}")?,
            (None, _) => text.write_str("{")?,
        }
        rest = from.get(found.map_or(1, |placeholder| placeholder.len())..).unwrap_or("");
    }
    text.write_str(rest)
}

/// Kernel arguments as words of a GRUB script, each in single quotes, in which nothing but the quote itself means anything
/// (grub-core/script/yylex.l).
///
/// Arguments are separated as the kernel does it (lib/cmdline.c, `next_arg`): blanks in double quotes are part of one. The double
/// quotes are left out, for GRUB puts its own around a word with blanks; it would escape those that it is given with a backslash,
/// which the kernel does not know (grub-core/lib/cmdline.c).
pub struct Words<'t, W> {
    to: &'t mut W,
    /// A word has begun.
    open: bool,
    /// Blanks are part of the word.
    quoted: bool,
}

impl<'t, W: Write> Words<'t, W> {
    pub fn new(to: &'t mut W) -> Words<'t, W> {
        Words { to, open: false, quoted: false }
    }

    /// Ends the last word.
    pub fn end(&mut self) -> fmt::Result {
        self.quoted = false;
        if std::mem::take(&mut self.open) { self.to.write_str("'") } else { Ok(()) }
    }

    fn letter(&mut self, c: char) -> fmt::Result {
        if c.is_ascii_whitespace() && !self.quoted {
            return self.end();
        }
        if !self.open {
            self.open = true;
            self.to.write_str(" '")?;
        }
        match c {
            '"' => {
                self.quoted = !self.quoted;
                Ok(())
            }
            '\'' => self.to.write_str("'\\''"),
            c => self.to.write_char(c),
        }
    }
}

impl<W: Write> fmt::Write for Words<'_, W> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        s.chars().try_for_each(|c| self.letter(c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(args: &str) -> String {
        let mut text = String::new();
        let mut words = Words::new(&mut text);
        words.write_str(args).unwrap();
        words.end().unwrap();
        text
    }

    #[test]
    fn arguments_are_words_of_a_grub_script() {
        assert_eq!(words(""), "");
        assert_eq!(words("  quiet   console=ttyS0,115200n8 "), " 'quiet' 'console=ttyS0,115200n8'");
        assert_eq!(words("dyndbg=\"file a.c +p; file b.c +p\" x"), " 'dyndbg=file a.c +p; file b.c +p' 'x'");
        assert_eq!(words("\"a b\"=c d=\"\" \"\""), " 'a b=c' 'd=' ''");
        assert_eq!(words("motd=it's $root ${x} #1 a&b|c;d <e> * \\n"), " 'motd=it'\\''s' '$root' '${x}' '#1' 'a&b|c;d' '<e>' '*' '\\n'");
        assert_eq!(words("x=\"never closed "), " 'x=never closed '");
    }

    #[test]
    fn a_text_ends_where_its_buffer_ends() {
        let mut buf = [0; 4];
        let mut text = TextWriter::new(&mut buf);
        assert!(text.write_str("abc").is_ok() && text.write_str("de").is_err() && text.write_str("d").is_ok());
        assert_eq!((text.len(), &buf), (4, b"abcd"));
    }
}
