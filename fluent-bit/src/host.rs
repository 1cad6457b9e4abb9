//! The functions of the host: Fluent Bit, or a test host.

use std::ffi::{CString, c_int, c_void};
use std::fmt;
use std::mem::transmute;

use crate::bindings::{FLB_LOG_ERROR, FLB_LOG_INFO, FLB_LOG_WARN, flb_log_print_fn};
use crate::cmetrics::{Prefix, Registry};
use crate::instance::Instance;
use crate::plugin::Kind;
use crate::symbol::symbol;

/// A level of Fluent Bit's log, in ascending order of verbosity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// The instance that the library opens, or `None` for the library itself.
    instance: Option<Instance>,
    /// The most verbose level that is logged.
    max_level: Option<Level>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

impl Host {
    /// Looks up the functions.
    #[must_use]
    pub fn find() -> Self {
        // SAFETY: the function has this type in all versions of Fluent Bit.
        let log_print =
            unsafe { transmute::<*mut c_void, flb_log_print_fn>(symbol(c"flb_log_print")) };
        Self {
            log_print,
            instance: None,
            max_level: Some(Level::Info),
        }
    }

    /// Returns the same functions for an output: with its log level, name and metrics.
    ///
    /// # Safety
    ///
    /// `output` must be null or the output that the host passes to the init function. Before
    /// that function returns, the name and the metrics must be requested, and the metrics
    /// prepared. Before the exit, they must be [ended](crate::cmetrics::Liveness::end).
    #[must_use]
    pub unsafe fn for_output(&self, output: *mut c_void) -> Self {
        // SAFETY: guaranteed by the caller.
        unsafe { self.for_instance(Kind::Output, output) }
    }

    /// Returns the same functions for an input: with its log level, name and metrics.
    ///
    /// # Safety
    ///
    /// As for [`Host::for_output`], with an input.
    #[must_use]
    pub unsafe fn for_input(&self, input: *mut c_void) -> Self {
        // SAFETY: guaranteed by the caller.
        unsafe { self.for_instance(Kind::Input, input) }
    }

    /// # Safety
    ///
    /// As for [`Host::for_output`], with an instance of this kind.
    unsafe fn for_instance(&self, kind: Kind, instance: *mut c_void) -> Self {
        // SAFETY: guaranteed by the caller.
        let instance = unsafe { Instance::new(kind, instance) };
        // The level of an instance does not change after its init has begun. Therefore the
        // log can be used after the instance's exit.
        let max_level = [Level::Info, Level::Warn, Level::Error]
            .into_iter()
            .find(|level| {
                let logs = instance.and_then(|instance| instance.logs(level.number()));
                logs.unwrap_or(true)
            });
        Self {
            instance,
            max_level,
            ..self.clone()
        }
    }

    /// Returns the instance's alias, or its default name such as `syslog_sink.0`.
    #[must_use]
    pub fn instance_name(&self) -> Option<String> {
        self.instance?.name()
    }

    /// Returns the instance's registry of metrics whose names begin with `prefix`, or
    /// `None` if the host does not support metrics. Must be called during the instance's
    /// init.
    #[must_use]
    pub fn metrics(&self, prefix: Prefix) -> Option<Registry> {
        Registry::find(self.instance?, prefix)
    }

    /// Whether lines of this level are logged.
    #[must_use]
    pub fn logs(&self, level: Level) -> bool {
        self.max_level >= Some(level)
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
