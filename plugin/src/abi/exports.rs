//! The functions that Fluent Bit looks up by name.
//!
//! Each is one call into safe code behind a panic fence. The order in which the
//! host calls them is that of this file.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::slice;
use std::sync::{Arc, Weak};

use mapper::config::{Config, Properties};
use mapper::hostname;
use parking_lot::Mutex;
use syslog::Outcome;
use transport::Sender;

use super::bindings::{
    FLB_ERROR, FLB_OK, FLB_PROXY_GOLANG, FLB_PROXY_OUTPUT_PLUGIN, FLB_RETRY, flb_plugin_proxy_def,
    flbgo_output_plugin,
};
use super::host::{Host, InstanceProperties, Level};
use super::panic::{catch_panic, report_panics};
use crate::log::Log;
use crate::metrics::{ContextGuard, Metrics};
use crate::output::Output;

const NAME: &CStr = c"syslog_sink";
const DESCRIPTION: &CStr = c"RFC 5424 syslog over TLS, TCP, RELP and UDP";
/// What registration and unregistration return: not the values of a flush.
const SUCCESS: c_int = 0;
const FAILURE: c_int = -1;

/// The event loop of all outputs. It lives as long as any of them.
static SENDER: Mutex<Weak<Sender>> = Mutex::new(Weak::new());

/// Before registration (2.2 on). There is nothing to prepare.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn FLBPluginPreRegister(_hot_reloading: c_int) -> c_int {
    SUCCESS
}

/// Says what this library is.
///
/// # Safety
///
/// `def` is null or points to the host's structure.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn FLBPluginRegister(def: *mut flb_plugin_proxy_def) -> c_int {
    catch_panic(FAILURE, || {
        report_panics(&Host::find());
        // SAFETY: the caller's promise; nothing behind the fields that every
        // version has is touched.
        let Some(def) = (unsafe { def.as_mut() }) else {
            return FAILURE;
        };
        def.type_ = FLB_PROXY_OUTPUT_PLUGIN;
        def.proxy = FLB_PROXY_GOLANG;
        def.flags = 0;
        // SAFETY: both are strings that end with a zero; Unregister frees them.
        unsafe {
            def.name = libc::strdup(NAME.as_ptr());
            def.description = libc::strdup(DESCRIPTION.as_ptr());
        }
        SUCCESS
    })
}

/// Opens one `[OUTPUT]`. Whatever is wrong with it stops Fluent Bit, with a
/// line that says what.
///
/// # Safety
///
/// `plugin` is null or points to the host's structure, filled for this output.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn FLBPluginInit(plugin: *mut flbgo_output_plugin) -> c_int {
    catch_panic(FLB_ERROR, || {
        // SAFETY: the caller's promise.
        let Some(plugin) = (unsafe { plugin.as_ref() }) else {
            return FLB_ERROR;
        };
        // SAFETY: the context is the host's, and the output's own.
        let Some(context) = (unsafe { plugin.context.as_mut() }) else {
            return FLB_ERROR;
        };
        // SAFETY: this is init.
        let properties = unsafe { InstanceProperties::new(plugin) };
        match open(&properties, &Host::find().for_output(plugin.o_ins)) {
            Some(opened) => {
                context.remote_context = Box::into_raw(Box::new(opened)).cast();
                FLB_OK
            }
            None => FLB_ERROR,
        }
    })
}

/// An output as the host holds it.
struct OpenOutput {
    output: Output,
    /// Dropped after `output`: fields are dropped in order.
    _guard: Option<ContextGuard>,
}

fn open(properties: &dyn Properties, host: &Host) -> Option<OpenOutput> {
    let config = Config::parse(properties);
    let name = config
        .as_ref()
        .ok()
        .and_then(|config| config.instance_name.clone())
        .or_else(|| properties.get("instancename"))
        .or_else(|| host.output_name())
        .unwrap_or_else(|| "unnamed".to_owned());
    let (metrics, guard) = Metrics::new(
        host.metrics().as_ref(),
        &host.output_name().unwrap_or_else(|| name.clone()),
    );
    let log = Log::new(host.clone(), name);
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

/// Before the first flush, after the inits of all outputs (2.2 on).
#[unsafe(no_mangle)]
pub(crate) extern "C" fn FLBPluginOutputPreRun(_hot_reload_enabled: c_int) -> c_int {
    catch_panic(FLB_OK, || {
        Metrics::seal();
        FLB_OK
    })
}

/// Delivers a chunk. Never `FLB_ERROR`: that would drop it for ever.
///
/// # Safety
///
/// `context` is null or what init stored; `data` is null or points to `length`
/// bytes; `tag` is null or a string that ends with a zero.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn FLBPluginFlushCtx(
    context: *mut c_void,
    data: *const c_void,
    length: c_int,
    tag: *const c_char,
) -> c_int {
    catch_panic(FLB_RETRY, || {
        // SAFETY: the caller's promise. Flushes share the output.
        let Some(OpenOutput { output, .. }) = (unsafe { context.cast::<OpenOutput>().as_ref() })
        else {
            return FLB_RETRY;
        };
        let chunk: &[u8] = match usize::try_from(length) {
            Ok(0) => &[],
            Ok(length) if !data.is_null() => {
                // SAFETY: the caller's promise.
                unsafe { slice::from_raw_parts(data.cast(), length) }
            }
            _ => return FLB_RETRY,
        };
        let tag = if tag.is_null() {
            c""
        } else {
            // SAFETY: the caller's promise.
            unsafe { CStr::from_ptr(tag) }
        };
        match output.flush(&tag.to_string_lossy(), chunk) {
            Outcome::Delivered => FLB_OK,
            Outcome::Retry { .. } => FLB_RETRY,
        }
    })
}

/// The flush of hosts that know no contexts. None of those that this library
/// works with calls it; it cannot say which output a chunk is for.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn FLBPluginFlush(
    _data: *const c_void,
    _length: c_int,
    _tag: *const c_char,
) -> c_int {
    FLB_RETRY
}

/// Before an exit (2.2 on). There is nothing to prepare.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn FLBPluginOutputPreExit(_hot_reloading: c_int) {}

/// Closes one output. With the last one the event loop's thread ends.
///
/// # Safety
///
/// `context` is null or what init stored, and is not used afterwards.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn FLBPluginExitCtx(context: *mut c_void) -> c_int {
    catch_panic(FLB_OK, || {
        if !context.is_null() {
            // SAFETY: init made it from a box, and the host gives it up.
            drop(unsafe { Box::from_raw(context.cast::<OpenOutput>()) });
        }
        FLB_OK
    })
}

/// The exit of hosts that know no contexts: see [`FLBPluginFlush`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn FLBPluginExit() -> c_int {
    FLB_OK
}

/// Frees what registration allocated.
///
/// # Safety
///
/// `def` is null or what registration filled.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn FLBPluginUnregister(def: *mut flb_plugin_proxy_def) {
    catch_panic((), || {
        // SAFETY: the caller's promise.
        if let Some(def) = unsafe { def.as_mut() } {
            for text in [&mut def.name, &mut def.description] {
                // SAFETY: registration allocated it with strdup, or it is null.
                unsafe { libc::free(std::mem::replace(text, ptr::null_mut()).cast()) };
            }
        }
    });
}
