//! Functions of the host, by name.

use std::ffi::{CStr, c_void};

/// The address of a symbol of the process; null where it has none.
pub(super) fn symbol(name: &CStr) -> *mut c_void {
    // SAFETY: looking up a name has no conditions.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
}
