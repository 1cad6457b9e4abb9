//! The parts of long lines, joined.
