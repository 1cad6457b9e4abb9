//! The handling of panics, which must not unwind into C: that is undefined behavior.
//!
//! Each export has its own value to return after a panic. No such value is zero: zero
//! is `FLB_ERROR`, which drops the chunk. A flush that panics is retried.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Once;

use crate::host::{Host, Level};
use crate::plugin::Plugin;

/// Runs `body`. Returns `on_panic` if it panics.
pub fn catch_panic<T>(on_panic: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(on_panic)
}

/// Installs a panic hook that logs panics of the plugin's library in Fluent Bit's log. The standard hook may
/// print a backtrace, which needs more stack than a flush has.
pub fn log_panics(plugin: Plugin, host: &Host) {
    static ONCE: Once = Once::new();
    let host = host.clone();
    ONCE.call_once(|| {
        set_hook(Box::new(move |panic| {
            let location = panic
                .location()
                .map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
            let text = panic.payload_as_str().unwrap_or("no message");
            host.print(
                Level::Error,
                &format!("[{plugin}] panic{location}: {text}; this is a bug, please report it"),
            );
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_returns_the_chosen_value() {
        assert_eq!(catch_panic(2, || panic!("deliberate")), 2);
        assert_eq!(catch_panic(2, || 1), 1);
    }
}
