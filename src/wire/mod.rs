//! bytes <-> meaning, no state.
