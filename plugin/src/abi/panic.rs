//! No panic leaves this library: unwinding into C is undefined.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Once;

use super::host::{Host, Level};

/// Runs `body`; where it panics, gives `on_panic`. Each caller chooses that
/// value on purpose: a zero would be `FLB_ERROR`, which loses data.
pub(super) fn catch_panic<T>(on_panic: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(on_panic)
}

/// Makes panics a line of Fluent Bit's log. The standard hook would print a
/// backtrace where asked to, which needs more stack than a flush has.
pub(super) fn report_panics(host: &Host) {
    static ONCE: Once = Once::new();
    let host = host.clone();
    ONCE.call_once(|| {
        set_hook(Box::new(move |panic| {
            let place = panic
                .location()
                .map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
            let text = panic.payload_as_str().unwrap_or("no message");
            host.print(
                Level::Error,
                &format!(
                    "[output:syslog_sink] this is a defect, please report it: panic{place}: {text}"
                ),
            );
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_the_value_chosen_for_it() {
        assert_eq!(catch_panic(2, || panic!("on purpose")), 2);
        assert_eq!(catch_panic(2, || 1), 1);
    }
}
