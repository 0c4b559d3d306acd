//! What the engine does with the journal beside adding records to it: it is read at start ([`replay`]), and compacted when it has grown
//! ([`compact`]). A line's text is `roll::journal`'s, the file is the shell's.

pub mod compact;
pub mod replay;
