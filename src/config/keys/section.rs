//! What the table of keys consists of, and all that follows from a line of it. Used by this room only.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::super::error::{Errors, listed, nearest};
use super::super::value::{KeyName, Origin, Set, Value};
use super::kind::KeyKind;

/// A key: what is said of it.
#[derive(Debug)]
pub struct KeySpec {
    pub name: &'static str,
    pub usual: Usual,
    pub applies: Applies,
    /// Its kind and limits, and what it is for: for the manual and the example, which a test holds against this table.
    #[cfg(test)]
    pub manual: (&'static str, fn() -> String, &'static str),
}

/// The value of a key that the file does not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usual {
    /// In TOML.
    Is(&'static str),
    /// Made from other values, by the interface, or from the files in the root; or none.
    Derived,
    /// The section makes no sense without it.
    Required,
}

/// When a new value is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    Reload,
    Restart,
    /// At a restart if the list was empty or is now; else at a reload.
    FirstOrLast,
}

/// A key of a section that is set.
#[derive(Clone, Debug)]
pub struct SetKey {
    pub key: &'static KeySpec,
    pub shown: String,
    pub origin: Origin,
}

/// A section of the file: its keys, as far as they are set.
pub trait Section: Default {
    /// As it is written: `[cluster]`.
    const HEADER: &'static str;
    const KEYS: &'static [KeySpec];

    /// Reads what a table of the file sets; a key that is not known is an error.
    fn read(table: &DeTable<'_>, at: Range<usize>, errors: &mut Errors<'_>) -> Self;

    /// The position of the section; None for one that is not in the file.
    fn at(&self) -> Option<&Range<usize>>;

    /// Sets what is not set and has a default.
    fn fill(&mut self);

    /// The keys that are set, in the order of the table.
    fn entries(&self) -> Vec<SetKey>;

    /// The same by their names, entry by entry.
    fn names(&self) -> Vec<KeyName>;
}

/// The value of a key, if it is set and good; an error is noted if it is set and bad.
pub fn get<K: KeyKind>(table: &DeTable<'_>, key: &'static str, origin: Origin, errors: &mut Errors<'_>) -> Option<Set<K::Value>> {
    let value: &Value<'_> = table.get(key)?;
    match K::read(value) {
        Ok(good) => Some(Set::read(good, value, origin)),
        Err(wrong) => {
            wrong.report(key, errors);
            None
        }
    }
}

/// The default of a key, if it has one. A test reads them all.
pub fn usual<K: KeyKind>(usual: Usual) -> Option<K::Value> {
    let Usual::Is(text) = usual else { return None };
    K::read(&DeValue::parse(text).ok()?).ok()
}

/// A section that sets nothing, filled.
pub fn filled<S: Section>() -> S {
    let mut section = S::default();
    section.fill();
    section
}

/// Notes the keys of a table that the section does not have.
pub fn unknown(header: &str, known: &[&str], table: &DeTable<'_>, errors: &mut Errors<'_>) {
    for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
        let word = key.get_ref().as_ref();
        let remedy = match nearest(word, known) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("{header} has the keys {}", listed(known)),
        };
        errors.add(Some(&key.span()), word, format!("unknown key: {remedy}"));
    }
}

/// A section, by lines of the table. One that is marked `settled` is a part of the config as well, with each key at its value or default.
macro_rules! section {
    ($(#[$doc:meta])* settled $Settled:ident, $Keys:ident $header:literal {
        $($field:ident $name:literal: $kind:ty, $type:ty, $usual:expr, $applies:ident, $says:literal;)*
    }) => {
        section! { $(#[$doc])* $Keys $header { $($field $name: $kind, $usual, $applies, $says;)* } }

        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Settled {
            $(#[doc = $says] pub $field: $type,)*
        }

        impl From<&$Keys> for $Settled {
            fn from(keys: &$Keys) -> $Settled {
                $Settled { $($field: keys.$field.filled(),)* }
            }
        }

        /// As an empty section makes it.
        impl Default for $Settled {
            fn default() -> $Settled {
                $Settled::from(&filled::<$Keys>())
            }
        }
    };
    ($(#[$doc:meta])* $Keys:ident $header:literal {
        $($field:ident $name:literal: $kind:ty, $usual:expr, $applies:ident, $says:literal;)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Default)]
        pub(super) struct $Keys {
            pub at: Option<Range<usize>>,
            $(#[doc = $says] pub $field: Option<Set<<$kind as KeyKind>::Value>>,)*
        }

        impl Section for $Keys {
            const HEADER: &'static str = $header;
            const KEYS: &'static [KeySpec] = &[$(KeySpec {
                name: $name,
                usual: $usual,
                applies: Applies::$applies,
                #[cfg(test)]
                manual: (<$kind>::NAME, <$kind>::range, $says),
            },)*];

            fn read(table: &DeTable<'_>, at: Range<usize>, errors: &mut Errors<'_>) -> $Keys {
                let line = errors.line(at.start).filter(|_| $header.starts_with("[["));
                let origin = Origin::Section($header, line);
                unknown($header, &[$($name),*], table, errors);
                $Keys { at: Some(at), $($field: get::<$kind>(table, $name, origin, errors),)* }
            }

            fn at(&self) -> Option<&Range<usize>> {
                self.at.as_ref()
            }

            fn fill(&mut self) {
                $(self.$field = self.$field.take().or_else(|| usual::<$kind>($usual).map(Set::derived));)*
            }

            fn entries(&self) -> Vec<SetKey> {
                let shown = [$(self.$field.as_ref().map(|set| (<$kind>::show(&set.value), set.origin)),)*];
                let entry = |(key, shown): (&'static KeySpec, Option<_>)| shown.map(|(shown, origin)| SetKey { key, shown, origin });
                Self::KEYS.iter().zip(shown).filter_map(entry).collect()
            }

            fn names(&self) -> Vec<KeyName> {
                [$(self.$field.as_ref().map(|set| <$kind>::names($name, &set.value)),)*].into_iter().flatten().flatten().collect()
            }
        }
    };
}

pub(super) use section;
