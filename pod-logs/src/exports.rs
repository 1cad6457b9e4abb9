//! The functions that Fluent Bit looks up by name, in the order in which it calls them.
//!
//! Fluent Bit calls those of an input on a thread of its own, and most of them without saying
//! for which input. So the input is kept in a variable of the thread.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use fluent_bit::bindings::{FLB_ERROR, FLB_OK, flb_plugin_proxy_def, flbgo_input_plugin};
use fluent_bit::{
    Host, Input, InstanceProperties, Kind, Level, Log, Plugin, catch_panic, log_panics,
};

use crate::config::Config;
use crate::input::PodLogs;
use crate::metrics::Metrics;

/// The plugin of this library.
const PLUGIN: Plugin = Plugin {
    kind: Kind::Input,
    name: c"pod_logs",
    description: c"Logs of a node's containers",
};
/// The result of a successful registration.
const SUCCESS: c_int = 0;
/// The result of a failed registration.
const FAILURE: c_int = -1;

/// Whether an input is open. Fluent Bit pauses and ends only the last one that was opened.
static IS_OPEN: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The input of this thread.
    static INPUT: RefCell<Option<OpenInput>> = const { RefCell::new(None) };
}

/// Registers the plugin: returns its type, name and description in `def`.
///
/// # Safety
///
/// `def` must be null or point to the host's structure.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn FLBPluginRegister(def: *mut flb_plugin_proxy_def) -> c_int {
    catch_panic(FAILURE, || {
        log_panics(PLUGIN, &Host::find());
        // SAFETY: guaranteed by the caller.
        match unsafe { def.as_mut() } {
            Some(def) => {
                PLUGIN.register(def);
                SUCCESS
            }
            None => FAILURE,
        }
    })
}

/// Opens an `[INPUT]`. An invalid configuration is logged and prevents the start of Fluent
/// Bit.
///
/// # Safety
///
/// `plugin` must be null or point to the host's structure, filled in for this input.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn FLBPluginInit(plugin: *mut flbgo_input_plugin) -> c_int {
    catch_panic(FLB_ERROR, || {
        // SAFETY: guaranteed by the caller.
        let Some(plugin) = (unsafe { plugin.as_ref() }) else {
            return FLB_ERROR;
        };
        // SAFETY: the properties are used only during this call, and the metrics end with the
        // input, in the exit.
        let (properties, host) = unsafe {
            (
                InstanceProperties::for_input(plugin),
                Host::find().for_input(plugin.i_ins),
            )
        };
        // SAFETY: this is the only handle of the input. It ends in the exit, and the callback
        // returns no records.
        let input = unsafe { Input::new(plugin.i_ins) };
        match open(&properties, &host, input) {
            Some(opened) => {
                INPUT.set(Some(opened));
                FLB_OK
            }
            None => FLB_ERROR,
        }
    })
}

/// An open input, of which there can be one at a time.
struct OpenInput {
    input: PodLogs,
    _is_open: IsOpen,
}

/// The mark of an open input.
struct IsOpen;

impl IsOpen {
    fn set() -> Option<Self> {
        let was_open = IS_OPEN.swap(true, Ordering::AcqRel);
        (!was_open).then_some(Self)
    }
}

impl Drop for IsOpen {
    fn drop(&mut self) {
        IS_OPEN.store(false, Ordering::Release);
    }
}

fn open(properties: &InstanceProperties, host: &Host, input: Input) -> Option<OpenInput> {
    let name = host.instance_name().unwrap_or_else(|| "unnamed".to_owned());
    let metrics = Metrics::new(host, &name);
    let log = Log::new(host.clone(), PLUGIN, &name);
    let Some(is_open) = IsOpen::set() else {
        log.write(
            Level::Error,
            "only one input pod_logs is possible: Fluent Bit does not tell several ones apart",
        );
        return None;
    };
    let opened = Config::parse(|key| properties.get(key))
        .map(|config| PodLogs::open(config, input, log.clone(), metrics));
    match opened {
        Ok(input) => Some(OpenInput {
            input,
            _is_open: is_open,
        }),
        Err(problem) => {
            log.write(Level::Error, &problem.to_string());
            None
        }
    }
}

/// Reads for a little more than a second. Returns no records: they are appended meanwhile.
///
/// # Safety
///
/// `data` and `size` must be null or point to values that can be written.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn FLBPluginInputCallback(
    data: *mut *mut c_void,
    size: *mut usize,
) -> c_int {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if let Some(data) = data.as_mut() {
            *data = ptr::null_mut();
        }
        if let Some(size) = size.as_mut() {
            *size = 0;
        }
    }
    catch_panic(FLB_OK, || {
        INPUT.with_borrow_mut(|input| {
            if let Some(OpenInput { input, .. }) = input {
                input.work();
            }
        });
        FLB_OK
    })
}

/// Closes the input of this thread.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn FLBPluginExit() -> c_int {
    catch_panic(FLB_OK, || {
        INPUT.set(None);
        FLB_OK
    })
}

/// Frees the memory that the registration allocated.
///
/// # Safety
///
/// `def` must be null or point to a structure that [`FLBPluginRegister`] filled in.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn FLBPluginUnregister(def: *mut flb_plugin_proxy_def) {
    catch_panic((), || {
        // SAFETY: guaranteed by the caller.
        unsafe {
            if let Some(def) = def.as_mut() {
                Plugin::unregister(def);
            }
        }
    });
}
