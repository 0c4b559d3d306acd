//! What a setting is called, and which section of the file set it.

use std::fmt;

use crate::roll::kind::Arch;

/// A key by its name, or one entry of a table of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Key(&'static str),
    /// The boot program of an architecture.
    Program(Arch),
    /// A DHCP option of the operator's own.
    Option(u8),
}

/// As errors call it: `program.efi-x64`, `args`, `options.66`.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Key(key) => f.write_str(key),
            Name::Program(arch) => write!(f, "program.{arch}"),
            Name::Option(code) => write!(f, "options.{code}"),
        }
    }
}

/// Where a setting comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// No section and no file: a default, or derived from the interface.
    #[default]
    Default,
    /// A file of a usual name in the root.
    Found,
    /// A text that is made from kernel, initrd and args.
    Made,
    /// A section by its header; for one of several its line, from 1, where it is in a file.
    Section(&'static str, Option<usize>),
}

/// As `muster node show` prints it: `[[for]] line 12`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Origin::Default => f.write_str("default"),
            Origin::Found => f.write_str("found in the root"),
            Origin::Made => f.write_str("made from kernel, initrd and args"),
            Origin::Section(header, Some(line)) => write!(f, "{header} line {line}"),
            Origin::Section(header, None) => f.write_str(header),
        }
    }
}
