//! The functions of the host: Fluent Bit, or a test host.

use std::ffi::{CString, c_int, c_void};
use std::fmt;

use crate::bindings::{
    FLB_LOG_ERROR, FLB_LOG_INFO, FLB_LOG_WARN, flb_log_print_fn, flb_output_log_check_fn,
    flb_output_name_fn,
};
use crate::cmetrics::{Prefix, Registry};
use crate::symbol::symbol;
use crate::text::to_string;

/// A level of Fluent Bit's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are Fluent Bit's own")]
pub enum Level {
    Error,
    Warn,
    Info,
}

impl Level {
    const fn number(self) -> c_int {
        match self {
            Self::Error => FLB_LOG_ERROR,
            Self::Warn => FLB_LOG_WARN,
            Self::Info => FLB_LOG_INFO,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
        }
    }
}

/// The optional functions of the host. They are looked up by name, because the table
/// that Fluent Bit passes differs between versions and has no version number.
#[derive(Clone)]
pub struct Host {
    log_print: flb_log_print_fn,
    log_check: flb_output_log_check_fn,
    output_name: flb_output_name_fn,
    /// The output whose log level applies, or null for the library itself.
    output: Instance,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct Instance(*mut c_void);

// SAFETY: the pointer is only passed back to the host, which allows calls with it from
// all threads, and keeps the instance until the output's exit.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Host {
    /// Looks up the functions.
    #[must_use]
    pub fn find() -> Self {
        // SAFETY: in every version of Fluent Bit that has these functions, they have
        // these types.
        unsafe {
            Self {
                log_print: std::mem::transmute::<*mut c_void, flb_log_print_fn>(symbol(
                    c"flb_log_print",
                )),
                log_check: std::mem::transmute::<*mut c_void, flb_output_log_check_fn>(symbol(
                    c"flb_output_log_check",
                )),
                output_name: std::mem::transmute::<*mut c_void, flb_output_name_fn>(symbol(
                    c"flb_output_name",
                )),
                output: Instance(std::ptr::null_mut()),
            }
        }
    }

    /// Returns the same functions for an output: with its log level, name and metrics.
    ///
    /// # Safety
    ///
    /// `output` must be null or the output that the host initializes. The returned value
    /// and its clones must not be used after the output's exit.
    #[must_use]
    pub unsafe fn for_output(&self, output: *mut c_void) -> Self {
        Self {
            output: Instance(output),
            ..self.clone()
        }
    }

    /// Returns the output's alias, or its default name such as `syslog_sink.0`.
    #[must_use]
    pub fn output_name(&self) -> Option<String> {
        let function = self.output_name?;
        if self.output.0.is_null() {
            return None;
        }
        // SAFETY: the host passed the output, and the name lives as long as the output.
        let name = unsafe { function(self.output.0) };
        // SAFETY: the name is null or a C string.
        unsafe { to_string(name) }
    }

    /// Returns the output's registry of metrics whose names begin with `prefix`, or `None`
    /// if the host does not support metrics. Must be called during the output's init.
    #[must_use]
    pub fn metrics(&self, prefix: Prefix) -> Option<Registry> {
        Registry::find(self.output.0, prefix)
    }

    /// Whether lines of this level are logged.
    #[must_use]
    pub fn logs(&self, level: Level) -> bool {
        match self.log_check {
            Some(check) if !self.output.0.is_null() => {
                // SAFETY: the host passed the output.
                unsafe { check(self.output.0, level.number()) != 0 }
            }
            _ => true,
        }
    }

    /// Writes a line to the host's log, or to stderr if the host has no log function.
    pub fn print(&self, level: Level, text: &str) {
        let Some(print) = self.log_print else {
            eprintln!("[{}] {text}", level.name());
            return;
        };
        // A C string cannot contain NUL.
        let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
        // SAFETY: the format expects a single C string.
        unsafe {
            print(
                level.number(),
                std::ptr::null(),
                0,
                c"%s".as_ptr(),
                text.as_ptr(),
            );
        }
    }
}
