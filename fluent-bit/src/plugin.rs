//! The registration of a plugin.

use std::ffi::{CStr, c_int};
use std::{fmt, mem, ptr};

use crate::bindings::{
    FLB_PROXY_GOLANG, FLB_PROXY_INPUT_PLUGIN, FLB_PROXY_OUTPUT_PLUGIN, flb_plugin_proxy_def,
};

/// The kind of a plugin and its instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The instances are `[OUTPUT]` sections.
    Output,
    /// The instances are `[INPUT]` sections.
    Input,
}

impl Kind {
    const fn number(self) -> c_int {
        match self {
            Self::Output => FLB_PROXY_OUTPUT_PLUGIN,
            Self::Input => FLB_PROXY_INPUT_PLUGIN,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Input => "input",
        }
    }
}

/// The plugin of a library. Displayed as in Fluent Bit's log, such as `output:syslog_sink`.
#[derive(Clone, Copy, Debug)]
pub struct Plugin {
    /// The kind of its instances.
    pub kind: Kind,
    /// The value of the key `name` in a section.
    pub name: &'static CStr,
    /// The description in Fluent Bit's list of plugins.
    pub description: &'static CStr,
}

impl Plugin {
    /// Fills in the host's structure. [`Plugin::unregister`] frees the copies of the texts.
    pub fn register(&self, def: &mut flb_plugin_proxy_def) {
        // Only fields that all versions have are accessed.
        def.type_ = self.kind.number();
        def.proxy = FLB_PROXY_GOLANG;
        def.flags = 0;
        // SAFETY: both are C strings.
        unsafe {
            def.name = libc::strdup(self.name.as_ptr());
            def.description = libc::strdup(self.description.as_ptr());
        }
    }

    /// Frees the memory that the registration allocated.
    ///
    /// # Safety
    ///
    /// The texts must be null or those of [`Plugin::register`].
    pub unsafe fn unregister(def: &mut flb_plugin_proxy_def) {
        for text in [&mut def.name, &mut def.description] {
            // SAFETY: strdup has allocated the text, or it is null.
            unsafe { libc::free(mem::replace(text, ptr::null_mut()).cast()) };
        }
    }
}

impl fmt::Display for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name(), self.name.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_displayed_as_in_the_log() {
        for (kind, name, expected) in [
            (Kind::Output, c"syslog_sink", "output:syslog_sink"),
            (Kind::Input, c"pod_logs", "input:pod_logs"),
        ] {
            let description = c"";
            let plugin = Plugin {
                kind,
                name,
                description,
            };
            assert_eq!(plugin.to_string(), expected);
        }
    }
}
