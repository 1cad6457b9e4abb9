//! The configuration keys of an instance.

use std::ffi::{CString, c_void};
use std::mem::transmute;

use crate::bindings::{flb_get_property_fn, flbgo_input_plugin, flbgo_output_plugin};
use crate::symbol::symbol;
use crate::text::to_string;

/// The configuration keys of an instance, which can be read during its init.
#[derive(Debug)]
pub struct InstanceProperties {
    function: flb_get_property_fn,
    instance: *mut c_void,
}

impl InstanceProperties {
    /// Creates the properties of the output that is being initialized.
    ///
    /// # Safety
    ///
    /// `plugin` must be the structure that the host passes to the init function, and the
    /// properties must not be used after that call.
    #[must_use]
    pub unsafe fn for_output(plugin: &flbgo_output_plugin) -> Self {
        // SAFETY: the pointer is null or that of the host's table, which has this function
        // in all versions.
        let api = unsafe { plugin.api.as_ref() };
        Self {
            function: api.and_then(|api| api.output_get_property),
            instance: plugin.o_ins,
        }
    }

    /// Creates the properties of the input that is being initialized. They are empty if the
    /// host does not export its functions.
    ///
    /// # Safety
    ///
    /// As for [`InstanceProperties::for_output`].
    #[must_use]
    pub unsafe fn for_input(plugin: &flbgo_input_plugin) -> Self {
        // SAFETY: the function has this type in all versions of Fluent Bit.
        let function = unsafe {
            transmute::<*mut c_void, flb_get_property_fn>(symbol(c"flb_input_get_property"))
        };
        Self {
            function,
            instance: plugin.i_ins,
        }
    }

    /// Returns the value of a key, or `None` if the key is absent. Keys are
    /// case-insensitive.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        let key = CString::new(key).ok()?;
        // SAFETY: the host passed the instance. The result is null or a C string, which
        // lives as long as the instance.
        unsafe { to_string(self.function?(key.as_ptr(), self.instance)) }
    }
}
