//! What the host offers: Fluent Bit, or what drives the library as it does.

use std::ffi::{CStr, CString, c_int, c_void};
use std::fmt;

use mapper::config::Properties;

use super::bindings::{
    FLB_LOG_ERROR, FLB_LOG_INFO, FLB_LOG_WARN, flb_api, flb_log_print_fn, flb_output_log_check_fn,
    flb_output_name_fn, flbgo_output_plugin,
};
use super::cmetrics::Registry;
use super::symbol::symbol;

/// A level of Fluent Bit's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are Fluent Bit's own")]
pub(crate) enum Level {
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

/// The functions that the host may have. They are looked up by name: the table
/// that Fluent Bit passes differs from version to version, and does not say
/// which it is.
#[derive(Clone)]
pub(crate) struct Host {
    log_print: flb_log_print_fn,
    log_check: flb_output_log_check_fn,
    output_name: flb_output_name_fn,
    /// The output whose log level counts; null for the library itself.
    output: Instance,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct Instance(*mut c_void);

// SAFETY: the pointer is only passed back to the host, which allows calls with
// it from all threads and keeps what it points to until the output's exit.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Host {
    /// Looks the functions up.
    #[must_use]
    pub(crate) fn find() -> Self {
        // SAFETY: these are the types of the functions of these names in every
        // version of Fluent Bit that has them.
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

    /// The same functions, for the log of one output.
    pub(super) fn for_output(&self, output: *mut c_void) -> Self {
        Self {
            output: Instance(output),
            ..self.clone()
        }
    }

    /// The alias of the output, or `syslog_sink.0` and so on.
    pub(super) fn output_name(&self) -> Option<String> {
        let function = self.output_name?;
        if self.output.0.is_null() {
            return None;
        }
        // SAFETY: the output is the host's own, and the name lives as long.
        let name = unsafe { function(self.output.0) };
        // SAFETY: it is null or a string that ends with a zero.
        unsafe { to_string(name) }
    }

    /// The metrics of the output, during its init.
    pub(super) fn metrics(&self) -> Option<Registry> {
        Registry::find(self.output.0)
    }

    /// Whether a line of this level is written.
    #[must_use]
    pub(crate) fn logs(&self, level: Level) -> bool {
        match self.log_check {
            Some(check) if !self.output.0.is_null() => {
                // SAFETY: the output is the host's own.
                unsafe { check(self.output.0, level.number()) != 0 }
            }
            _ => true,
        }
    }

    /// Writes a line into the host's log, or to stderr where it has none.
    pub(crate) fn print(&self, level: Level, text: &str) {
        let Some(print) = self.log_print else {
            eprintln!("[{}] {text}", level.name());
            return;
        };
        // A zero inside would end the line early.
        let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
        // SAFETY: the format takes one string that ends with a zero.
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

/// # Safety
///
/// `text` is null or points to a string that ends with a zero.
unsafe fn to_string(text: *const std::ffi::c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}

/// The keys of one `[OUTPUT]`, during its init.
pub(super) struct InstanceProperties {
    api: *const flb_api,
    output: *mut c_void,
}

impl InstanceProperties {
    /// # Safety
    ///
    /// `plugin` is what the host passes to init, during that call.
    pub(super) unsafe fn new(plugin: &flbgo_output_plugin) -> Self {
        Self {
            api: plugin.api,
            output: plugin.o_ins,
        }
    }
}

impl Properties for InstanceProperties {
    fn get(&self, key: &str) -> Option<String> {
        let key = CString::new(key).ok()?;
        // SAFETY: the table is the host's and has this function in all versions;
        // what it gives is null or ends with a zero, and lives with the output.
        unsafe {
            let function = self.api.as_ref()?.output_get_property?;
            to_string(function(key.as_ptr(), self.output))
        }
    }
}
