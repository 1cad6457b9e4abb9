//! Texts of the host.

use std::ffi::{CStr, c_char};

/// Copies a C string. Returns `None` for null.
///
/// # Safety
///
/// `text` must be null or point to a C string.
pub(crate) unsafe fn to_string(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: guaranteed by the caller.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}
