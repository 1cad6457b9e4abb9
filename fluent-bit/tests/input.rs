//! An input of a host that this program stands for: it exports the host's functions.
#![allow(unsafe_code, reason = "the C ABI requires unsafe code")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::{ptr, slice};

use fluent_bit::bindings::{FLB_LOG_WARN, flbgo_input_plugin};
use fluent_bit::{Host, Input, InstanceProperties, Level};

/// The host's instance.
#[derive(Default)]
struct Instance {
    /// The tags and records that were appended.
    appended: Vec<(Option<String>, Vec<u8>)>,
    is_full: bool,
}

impl Instance {
    fn pointer(&mut self) -> *mut c_void {
        ptr::from_mut(self).cast()
    }
}

#[unsafe(no_mangle)]
extern "C" fn flb_input_name(_instance: *mut c_void) -> *const c_char {
    c"pod_logs.0".as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn flb_input_log_check(_instance: *mut c_void, level: c_int) -> c_int {
    c_int::from(level <= FLB_LOG_WARN)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn flb_input_get_property(
    key: *const c_char,
    _instance: *mut c_void,
) -> *const c_char {
    // SAFETY: the library passes a C string.
    if unsafe { CStr::from_ptr(key) } == c"path" {
        c"/var/log/pods".as_ptr()
    } else {
        ptr::null()
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn flb_input_log_append(
    instance: *mut c_void,
    tag: *const c_char,
    tag_len: usize,
    records: *const c_void,
    size: usize,
) -> c_int {
    // SAFETY: the test passes an instance, and the library passes the lengths of both texts.
    let (instance, records) = unsafe {
        (
            &mut *instance.cast::<Instance>(),
            slice::from_raw_parts(records.cast::<u8>(), size),
        )
    };
    if instance.is_full {
        return -1;
    }
    let tag = (!tag.is_null()).then(|| {
        // SAFETY: as above.
        let tag = unsafe { slice::from_raw_parts(tag.cast(), tag_len) };
        String::from_utf8_lossy(tag).into_owned()
    });
    instance.appended.push((tag, records.to_vec()));
    0
}

#[test]
fn an_input_has_the_functions_of_inputs() {
    let mut instance = Instance::default();
    // SAFETY: the instance exists until the end.
    let host = unsafe { Host::find().for_input(instance.pointer()) };
    assert_eq!(host.instance_name().as_deref(), Some("pod_logs.0"));
    let levels = [Level::Error, Level::Warn, Level::Info];
    assert_eq!(levels.map(|level| host.logs(level)), [true, true, false]);

    // SAFETY: as above.
    let output = unsafe { Host::find().for_output(instance.pointer()) };
    assert_eq!(output.instance_name(), None);
    assert!(output.logs(Level::Info));
}

#[test]
fn an_input_reads_its_keys() {
    let plugin = flbgo_input_plugin {
        name: ptr::null_mut(),
        api: ptr::null_mut(),
        i_ins: ptr::null_mut(),
        context: ptr::null_mut(),
    };
    // SAFETY: this host's function does not use the instance.
    let properties = unsafe { InstanceProperties::for_input(&plugin) };
    assert_eq!(properties.get("path").as_deref(), Some("/var/log/pods"));
    assert_eq!(properties.get("other"), None);
}

#[test]
fn an_input_appends_records() {
    let mut instance = Instance::default();
    // SAFETY: the instance exists until the end.
    let input = unsafe { Input::new(instance.pointer()) };
    assert!(input.append("pods.shop", b"one"));
    assert!(input.append("", b"two"));
    let expected = [
        (Some("pods.shop".to_owned()), b"one".to_vec()),
        (None, b"two".to_vec()),
    ];
    assert_eq!(instance.appended, expected);

    instance.is_full = true;
    assert!(!input.append("pods.shop", b"three"));
    // SAFETY: null is allowed.
    assert!(!unsafe { Input::new(ptr::null_mut()) }.append("pods.shop", b"four"));
}
