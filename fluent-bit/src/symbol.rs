//! The lookup of host functions by name.

use std::ffi::{CStr, c_void};

/// Returns the address of a symbol of the process, or null if there is no such symbol.
pub(crate) fn symbol(name: &CStr) -> *mut c_void {
    // SAFETY: the handle is valid, and the name is a C string.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
}
