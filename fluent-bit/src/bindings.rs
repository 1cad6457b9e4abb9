// Generated from include/fluent_bit_proxy.h by `make bindings`. Do not edit.

pub const FLB_ERROR: i32 = 0;
pub const FLB_OK: i32 = 1;
pub const FLB_RETRY: i32 = 2;
pub const FLB_PROXY_INPUT_PLUGIN: i32 = 1;
pub const FLB_PROXY_OUTPUT_PLUGIN: i32 = 2;
pub const FLB_PROXY_GOLANG: i32 = 11;
pub const FLB_LOG_ERROR: i32 = 1;
pub const FLB_LOG_WARN: i32 = 2;
pub const FLB_LOG_INFO: i32 = 3;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct flb_plugin_proxy_def {
    pub type_: ::core::ffi::c_int,
    pub proxy: ::core::ffi::c_int,
    pub flags: ::core::ffi::c_int,
    pub name: *mut ::core::ffi::c_char,
    pub description: *mut ::core::ffi::c_char,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of flb_plugin_proxy_def"][::core::mem::size_of::<flb_plugin_proxy_def>() - 32usize];
    ["Alignment of flb_plugin_proxy_def"][::core::mem::align_of::<flb_plugin_proxy_def>() - 8usize];
    ["Offset of field: flb_plugin_proxy_def::type_"]
        [::core::mem::offset_of!(flb_plugin_proxy_def, type_) - 0usize];
    ["Offset of field: flb_plugin_proxy_def::proxy"]
        [::core::mem::offset_of!(flb_plugin_proxy_def, proxy) - 4usize];
    ["Offset of field: flb_plugin_proxy_def::flags"]
        [::core::mem::offset_of!(flb_plugin_proxy_def, flags) - 8usize];
    ["Offset of field: flb_plugin_proxy_def::name"]
        [::core::mem::offset_of!(flb_plugin_proxy_def, name) - 16usize];
    ["Offset of field: flb_plugin_proxy_def::description"]
        [::core::mem::offset_of!(flb_plugin_proxy_def, description) - 24usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct flb_plugin_proxy_context {
    pub remote_context: *mut ::core::ffi::c_void,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of flb_plugin_proxy_context"]
        [::core::mem::size_of::<flb_plugin_proxy_context>() - 8usize];
    ["Alignment of flb_plugin_proxy_context"]
        [::core::mem::align_of::<flb_plugin_proxy_context>() - 8usize];
    ["Offset of field: flb_plugin_proxy_context::remote_context"]
        [::core::mem::offset_of!(flb_plugin_proxy_context, remote_context) - 0usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct flb_plugin_input_proxy_context {
    pub coll_fd: ::core::ffi::c_int,
    pub remote_context: *mut ::core::ffi::c_void,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of flb_plugin_input_proxy_context"]
        [::core::mem::size_of::<flb_plugin_input_proxy_context>() - 16usize];
    ["Alignment of flb_plugin_input_proxy_context"]
        [::core::mem::align_of::<flb_plugin_input_proxy_context>() - 8usize];
    ["Offset of field: flb_plugin_input_proxy_context::coll_fd"]
        [::core::mem::offset_of!(flb_plugin_input_proxy_context, coll_fd) - 0usize];
    ["Offset of field: flb_plugin_input_proxy_context::remote_context"]
        [::core::mem::offset_of!(flb_plugin_input_proxy_context, remote_context) - 8usize];
};
pub type flb_get_property_fn = ::core::option::Option<
    unsafe extern "C" fn(
        key: *const ::core::ffi::c_char,
        ins: *mut ::core::ffi::c_void,
    ) -> *const ::core::ffi::c_char,
>;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct flb_api {
    pub output_get_property: flb_get_property_fn,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of flb_api"][::core::mem::size_of::<flb_api>() - 8usize];
    ["Alignment of flb_api"][::core::mem::align_of::<flb_api>() - 8usize];
    ["Offset of field: flb_api::output_get_property"]
        [::core::mem::offset_of!(flb_api, output_get_property) - 0usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct flbgo_output_plugin {
    pub name: *mut ::core::ffi::c_char,
    pub api: *mut flb_api,
    pub o_ins: *mut ::core::ffi::c_void,
    pub context: *mut flb_plugin_proxy_context,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of flbgo_output_plugin"][::core::mem::size_of::<flbgo_output_plugin>() - 32usize];
    ["Alignment of flbgo_output_plugin"][::core::mem::align_of::<flbgo_output_plugin>() - 8usize];
    ["Offset of field: flbgo_output_plugin::name"]
        [::core::mem::offset_of!(flbgo_output_plugin, name) - 0usize];
    ["Offset of field: flbgo_output_plugin::api"]
        [::core::mem::offset_of!(flbgo_output_plugin, api) - 8usize];
    ["Offset of field: flbgo_output_plugin::o_ins"]
        [::core::mem::offset_of!(flbgo_output_plugin, o_ins) - 16usize];
    ["Offset of field: flbgo_output_plugin::context"]
        [::core::mem::offset_of!(flbgo_output_plugin, context) - 24usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct flbgo_input_plugin {
    pub name: *mut ::core::ffi::c_char,
    pub api: *mut flb_api,
    pub i_ins: *mut ::core::ffi::c_void,
    pub context: *mut flb_plugin_input_proxy_context,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of flbgo_input_plugin"][::core::mem::size_of::<flbgo_input_plugin>() - 32usize];
    ["Alignment of flbgo_input_plugin"][::core::mem::align_of::<flbgo_input_plugin>() - 8usize];
    ["Offset of field: flbgo_input_plugin::name"]
        [::core::mem::offset_of!(flbgo_input_plugin, name) - 0usize];
    ["Offset of field: flbgo_input_plugin::api"]
        [::core::mem::offset_of!(flbgo_input_plugin, api) - 8usize];
    ["Offset of field: flbgo_input_plugin::i_ins"]
        [::core::mem::offset_of!(flbgo_input_plugin, i_ins) - 16usize];
    ["Offset of field: flbgo_input_plugin::context"]
        [::core::mem::offset_of!(flbgo_input_plugin, context) - 24usize];
};
pub type flb_log_print_fn = ::core::option::Option<
    unsafe extern "C" fn(
        type_: ::core::ffi::c_int,
        file: *const ::core::ffi::c_char,
        line: ::core::ffi::c_int,
        fmt: *const ::core::ffi::c_char,
        ...
    ),
>;
pub type flb_name_fn = ::core::option::Option<
    unsafe extern "C" fn(ins: *mut ::core::ffi::c_void) -> *const ::core::ffi::c_char,
>;
pub type flb_log_check_fn = ::core::option::Option<
    unsafe extern "C" fn(
        ins: *mut ::core::ffi::c_void,
        level: ::core::ffi::c_int,
    ) -> ::core::ffi::c_int,
>;
pub type flb_input_log_append_fn = ::core::option::Option<
    unsafe extern "C" fn(
        i_ins: *mut ::core::ffi::c_void,
        tag: *const ::core::ffi::c_char,
        tag_len: usize,
        buf: *const ::core::ffi::c_void,
        buf_size: usize,
    ) -> ::core::ffi::c_int,
>;
pub type flb_get_cmt_instance_fn = ::core::option::Option<
    unsafe extern "C" fn(ins: *mut ::core::ffi::c_void) -> *mut ::core::ffi::c_void,
>;
pub type cmt_create_fn = ::core::option::Option<
    unsafe extern "C" fn(
        cmt: *mut ::core::ffi::c_void,
        ns: *mut ::core::ffi::c_char,
        subsystem: *mut ::core::ffi::c_char,
        name: *mut ::core::ffi::c_char,
        help: *mut ::core::ffi::c_char,
        label_count: ::core::ffi::c_int,
        label_keys: *mut *mut ::core::ffi::c_char,
    ) -> *mut ::core::ffi::c_void,
>;
pub type cmt_add_fn = ::core::option::Option<
    unsafe extern "C" fn(
        metric: *mut ::core::ffi::c_void,
        timestamp: u64,
        value: f64,
        label_count: ::core::ffi::c_int,
        label_values: *mut *mut ::core::ffi::c_char,
    ) -> ::core::ffi::c_int,
>;
pub type cmt_histogram_buckets_create_size_fn = ::core::option::Option<
    unsafe extern "C" fn(bounds: *mut f64, count: usize) -> *mut ::core::ffi::c_void,
>;
pub type cmt_histogram_create_fn = ::core::option::Option<
    unsafe extern "C" fn(
        cmt: *mut ::core::ffi::c_void,
        ns: *mut ::core::ffi::c_char,
        subsystem: *mut ::core::ffi::c_char,
        name: *mut ::core::ffi::c_char,
        help: *mut ::core::ffi::c_char,
        buckets: *mut ::core::ffi::c_void,
        label_count: ::core::ffi::c_int,
        label_keys: *mut *mut ::core::ffi::c_char,
    ) -> *mut ::core::ffi::c_void,
>;
pub type cmt_histogram_set_default_fn = ::core::option::Option<
    unsafe extern "C" fn(
        histogram: *mut ::core::ffi::c_void,
        timestamp: u64,
        counts: *mut u64,
        sum: f64,
        count: u64,
        label_count: ::core::ffi::c_int,
        label_values: *mut *mut ::core::ffi::c_char,
    ) -> ::core::ffi::c_int,
>;
