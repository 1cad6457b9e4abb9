//! The tests are in `tests/`.
#![forbid(unsafe_code)]
