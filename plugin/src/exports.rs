//! The functions that Fluent Bit looks up by name, in the order in which it calls them.
//!
//! Each function calls safe code, and catches its panics.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::slice;
use std::sync::{Arc, Weak};

use fluent_bit::bindings::{
    FLB_ERROR, FLB_OK, FLB_RETRY, flb_plugin_proxy_def, flbgo_output_plugin,
};
use fluent_bit::{Host, InstanceProperties, Kind, Level, Log, Plugin, catch_panic, log_panics};
use mapper::config::{Config, Properties};
use mapper::hostname;
use parking_lot::Mutex;
use syslog::Outcome;
use transport::Sender;

use crate::announcement;
use crate::metrics::{ContextGuard, Metrics, PREFIX};
use crate::output::Output;

/// The plugin of this library.
pub(crate) const PLUGIN: Plugin = Plugin {
    kind: Kind::Output,
    name: c"syslog_sink",
    description: c"RFC 5424 syslog over TLS, TCP, RELP and UDP",
};
/// The result of a successful registration, which differs from the results of a flush.
const SUCCESS: c_int = 0;
/// The result of a failed registration.
const FAILURE: c_int = -1;

/// The event loop, which all outputs share as long as there is one.
static SENDER: Mutex<Weak<Sender>> = Mutex::new(Weak::new());

/// Called before the registration, since Fluent Bit 2.2. Does nothing.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn FLBPluginPreRegister(_hot_reloading: c_int) -> c_int {
    SUCCESS
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
        let Some(def) = (unsafe { def.as_mut() }) else {
            return FAILURE;
        };
        PLUGIN.register(def);
        SUCCESS
    })
}

/// Opens an `[OUTPUT]`. An invalid configuration is logged and prevents the start of
/// Fluent Bit.
///
/// # Safety
///
/// `plugin` must be null or point to the host's structure, filled in for this output.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn FLBPluginInit(plugin: *mut flbgo_output_plugin) -> c_int {
    catch_panic(FLB_ERROR, || {
        // SAFETY: guaranteed by the caller.
        let Some(plugin) = (unsafe { plugin.as_ref() }) else {
            return FLB_ERROR;
        };
        // SAFETY: the host allocated the context for this output alone.
        let Some(context) = (unsafe { plugin.context.as_mut() }) else {
            return FLB_ERROR;
        };
        // SAFETY: the properties are used only during this call.
        let properties = OutputProperties(unsafe { InstanceProperties::for_output(plugin) });
        // SAFETY: the host passed the output, and `open` requests its name and metrics.
        let host = unsafe { Host::find().for_output(plugin.o_ins) };
        match open(&properties, &host) {
            Some(opened) => {
                context.remote_context = Box::into_raw(Box::new(opened)).cast();
                FLB_OK
            }
            None => FLB_ERROR,
        }
    })
}

/// The configuration keys of an output.
struct OutputProperties(InstanceProperties);

impl Properties for OutputProperties {
    fn get(&self, key: &str) -> Option<String> {
        self.0.get(key)
    }
}

/// The context of an output, which the host stores.
struct OpenOutput {
    output: Output,
    /// The guard of the metrics, which must be dropped after `output`. Fields are dropped
    /// in order.
    _guard: Option<ContextGuard>,
}

fn open(properties: &dyn Properties, host: &Host) -> Option<OpenOutput> {
    let config = Config::parse(properties);
    let name = config
        .as_ref()
        .ok()
        .and_then(|config| config.instance_name.clone())
        .or_else(|| properties.get("instancename"))
        .or_else(|| host.instance_name())
        .unwrap_or_else(|| "unnamed".to_owned());
    let (metrics, guard) = Metrics::new(
        host.metrics(PREFIX).as_ref(),
        &host.instance_name().unwrap_or_else(|| name.clone()),
    );
    let log = Log::new(host.clone(), PLUGIN, &name);
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            log.write(Level::Error, &error.to_string());
            return None;
        }
    };
    match sender() {
        Ok(sender) => {
            let own = hostname::own();
            let output = Output::open(config, &sender, &log, &metrics, own);
            Some(OpenOutput {
                output,
                _guard: guard,
            })
        }
        Err(error) => {
            let line = format!("cannot start the sender's thread: {error}");
            log.write(Level::Error, &line);
            None
        }
    }
}

fn sender() -> std::io::Result<Arc<Sender>> {
    let mut shared = SENDER.lock();
    if let Some(sender) = shared.upgrade() {
        return Ok(sender);
    }
    let sender = Sender::start()?;
    *shared = Arc::downgrade(&sender);
    Ok(sender)
}

/// Called after the inits of all outputs and before the first flush, since Fluent Bit
/// 2.2.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn FLBPluginOutputPreRun(_hot_reload_enabled: c_int) -> c_int {
    catch_panic(FLB_OK, || {
        Metrics::seal();
        if let Some(sender) = SENDER.lock().upgrade() {
            announcement::publish(&sender, &Host::find());
        }
        FLB_OK
    })
}

/// Delivers or queues a chunk. Never returns `FLB_ERROR`, with which Fluent Bit would drop the
/// chunk.
///
/// # Safety
///
/// `context` must be null or the pointer that [`FLBPluginInit`] stored, `data` must be
/// null or point to `length` bytes, and `tag` must be null or a C string.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn FLBPluginFlushCtx(
    context: *mut c_void,
    data: *const c_void,
    length: c_int,
    tag: *const c_char,
) -> c_int {
    catch_panic(FLB_RETRY, || {
        // SAFETY: guaranteed by the caller. Concurrent flushes only share the output.
        let Some(OpenOutput { output, .. }) = (unsafe { context.cast::<OpenOutput>().as_ref() })
        else {
            return FLB_RETRY;
        };
        let chunk: &[u8] = match usize::try_from(length) {
            Ok(0) => &[],
            Ok(length) if !data.is_null() => {
                // SAFETY: guaranteed by the caller.
                unsafe { slice::from_raw_parts(data.cast(), length) }
            }
            _ => return FLB_RETRY,
        };
        let tag = if tag.is_null() {
            c""
        } else {
            // SAFETY: guaranteed by the caller.
            unsafe { CStr::from_ptr(tag) }
        };
        match output.flush(&tag.to_string_lossy(), chunk) {
            Outcome::Delivered => FLB_OK,
            Outcome::Retry { .. } => FLB_RETRY,
        }
    })
}

/// The flush function of hosts without contexts. No supported host calls it, because it
/// does not identify the output.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn FLBPluginFlush(
    _data: *const c_void,
    _length: c_int,
    _tag: *const c_char,
) -> c_int {
    FLB_RETRY
}

/// Called before an exit, since Fluent Bit 2.2. Does nothing.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn FLBPluginOutputPreExit(_hot_reloading: c_int) {}

/// Closes an output. Closing the last output ends the event loop's thread.
///
/// # Safety
///
/// `context` must be null or the pointer that [`FLBPluginInit`] stored, and must not be
/// used afterwards.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn FLBPluginExitCtx(context: *mut c_void) -> c_int {
    catch_panic(FLB_OK, || {
        if !context.is_null() {
            // SAFETY: `FLBPluginInit` created the pointer from a box, and the host does
            // not use it afterwards.
            drop(unsafe { Box::from_raw(context.cast::<OpenOutput>()) });
        }
        FLB_OK
    })
}

/// The exit function of hosts without contexts. See [`FLBPluginFlush`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn FLBPluginExit() -> c_int {
    FLB_OK
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
        if let Some(def) = unsafe { def.as_mut() } {
            // SAFETY: `FLBPluginRegister` has filled in the texts.
            unsafe { Plugin::unregister(def) };
        }
    });
}
