//! A strict receiver.
