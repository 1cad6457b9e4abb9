//! The records of an input.

use std::ffi::c_void;
use std::fmt;
use std::mem::transmute;
use std::ptr;

use crate::bindings::flb_input_log_append_fn;
use crate::symbol::symbol;

/// An input of the host, to which its plugin appends records.
///
/// It can be moved between threads, but not shared: before version 5.0, Fluent Bit's
/// buffer for the records of an input allows only one writer at a time.
pub struct Input {
    append: flb_input_log_append_fn,
    instance: *mut c_void,
}

// SAFETY: the pointer is only passed back to the host, which allows calls with it from
// all threads, one at a time.
unsafe impl Send for Input {}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").finish_non_exhaustive()
    }
}

impl Input {
    /// Creates a handle of the input that is being initialized.
    ///
    /// # Safety
    ///
    /// `instance` must be null or the input that the host passes to the init function, and
    /// must have no other handle. [`Input::append`] must not be called after the input's
    /// exit, nor while a collector of the library returns records to the host.
    #[must_use]
    pub unsafe fn new(instance: *mut c_void) -> Self {
        // SAFETY: in every version of Fluent Bit that has this function, it has this type.
        let append = unsafe {
            transmute::<*mut c_void, flb_input_log_append_fn>(symbol(c"flb_input_log_append"))
        };
        Self { append, instance }
    }

    /// Appends records, encoded as the host stores them, with a tag. If the tag is empty,
    /// the records get the input's own tag. Returns whether the host took all records: it
    /// refuses them if its buffer is full, and empty `records`. Waits for a full buffer, in
    /// Fluent Bit 5.1 up to a second.
    ///
    /// The host only copies the records to memory. It does not report those that it cannot
    /// store in a chunk afterwards, or has not stored at its exit.
    #[must_use]
    pub fn append(&self, tag: &str, records: &[u8]) -> bool {
        let Some(append) = self.append else {
            return false;
        };
        if self.instance.is_null() {
            return false;
        }
        let tag_start = if tag.is_empty() {
            ptr::null()
        } else {
            tag.as_ptr().cast()
        };
        // SAFETY: the host passed the instance, and copies the tag and the records.
        let result = unsafe {
            append(
                self.instance,
                tag_start,
                tag.len(),
                records.as_ptr().cast(),
                records.len(),
            )
        };
        result == 0
    }
}
