//! The host's functions for its instances, which differ only in their names.

use std::ffi::{CStr, c_int, c_void};
use std::mem::transmute;
use std::ptr::NonNull;

use crate::bindings::{flb_get_cmt_instance_fn, flb_log_check_fn, flb_name_fn};
use crate::plugin::Kind;
use crate::symbol::symbol;
use crate::text::to_string;

/// An output or an input of the host.
#[derive(Clone, Copy)]
pub(crate) struct Instance {
    pointer: NonNull<c_void>,
    symbols: &'static Symbols,
}

// SAFETY: the pointer is only passed back to the host, which allows calls with it from
// all threads.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

/// The names of the functions for instances of one kind.
struct Symbols {
    name: &'static CStr,
    log_check: &'static CStr,
    get_cmt_instance: &'static CStr,
}

static OUTPUT: Symbols = Symbols {
    name: c"flb_output_name",
    log_check: c"flb_output_log_check",
    get_cmt_instance: c"flb_output_get_cmt_instance",
};
static INPUT: Symbols = Symbols {
    name: c"flb_input_name",
    log_check: c"flb_input_log_check",
    get_cmt_instance: c"flb_input_get_cmt_instance",
};

impl Instance {
    /// Creates an instance, or returns `None` for null.
    ///
    /// # Safety
    ///
    /// `pointer` must be null or an instance of this kind that the host initializes. The
    /// methods must not be called after its exit.
    pub(crate) unsafe fn new(kind: Kind, pointer: *mut c_void) -> Option<Self> {
        let symbols = match kind {
            Kind::Output => &OUTPUT,
            Kind::Input => &INPUT,
        };
        let pointer = NonNull::new(pointer)?;
        Some(Self { pointer, symbols })
    }

    /// Returns the alias, or the default name such as `syslog_sink.0`.
    pub(crate) fn name(self) -> Option<String> {
        // SAFETY: the function has this type in all versions of Fluent Bit. The name is
        // null or a C string, which lives as long as the instance.
        unsafe {
            let function = transmute::<*mut c_void, flb_name_fn>(symbol(self.symbols.name));
            to_string(function?(self.pointer.as_ptr()))
        }
    }

    /// Whether the instance logs lines of a level, or `None` if the host does not export
    /// the function.
    pub(crate) fn logs(self, level: c_int) -> Option<bool> {
        // SAFETY: as above.
        unsafe {
            let check = symbol(self.symbols.log_check);
            let check = transmute::<*mut c_void, flb_log_check_fn>(check);
            Some(check?(self.pointer.as_ptr(), level) != 0)
        }
    }

    /// Returns the cmetrics context.
    pub(crate) fn metrics_context(self) -> Option<NonNull<c_void>> {
        // SAFETY: as above.
        unsafe {
            let function = symbol(self.symbols.get_cmt_instance);
            let function = transmute::<*mut c_void, flb_get_cmt_instance_fn>(function);
            NonNull::new(function?(self.pointer.as_ptr()))
        }
    }
}
