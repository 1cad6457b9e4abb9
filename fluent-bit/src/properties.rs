//! The configuration keys of an instance.

use std::ffi::{CString, c_void};

use crate::bindings::{flb_api, flbgo_output_plugin};
use crate::text::to_string;

/// The configuration keys of an `[OUTPUT]`, which can be read during its init.
#[derive(Debug)]
pub struct InstanceProperties {
    api: *const flb_api,
    output: *mut c_void,
}

impl InstanceProperties {
    /// Creates the properties of the output that is being initialized.
    ///
    /// # Safety
    ///
    /// `plugin` must be the structure that the host passes to the init function, and the
    /// properties must not be used after that call.
    #[must_use]
    pub const unsafe fn new(plugin: &flbgo_output_plugin) -> Self {
        Self {
            api: plugin.api,
            output: plugin.o_ins,
        }
    }

    /// Returns the value of a key, or `None` if the key is absent. Keys are
    /// case-insensitive.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        let key = CString::new(key).ok()?;
        // SAFETY: the host's table has this function in all versions. The result is null
        // or a C string, which lives as long as the output.
        unsafe {
            let function = self.api.as_ref()?.output_get_property?;
            to_string(function(key.as_ptr(), self.output))
        }
    }
}
