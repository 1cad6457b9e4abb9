/*
 * What Fluent Bit and an output plugin for its Go proxy agree on, as far as
 * this plugin uses it. The layouts are Fluent Bit's, from 1.8 to 5.1; the
 * bindings in src/abi/bindings.rs are made from this file (make bindings).
 */
#ifndef FLUENT_BIT_PROXY_H
#define FLUENT_BIT_PROXY_H

#include <stddef.h>
#include <stdint.h>

/* What a flush returns. FLB_ERROR drops the chunk for ever. */
#define FLB_ERROR 0
#define FLB_OK 1
#define FLB_RETRY 2

/* flb_plugin_proxy_def.type and .proxy */
#define FLB_PROXY_OUTPUT_PLUGIN 2
#define FLB_PROXY_GOLANG 11

/* Levels of flb_log_print and flb_output_log_check. */
#define FLB_LOG_ERROR 1
#define FLB_LOG_WARN 2
#define FLB_LOG_INFO 3

/*
 * Filled by FLBPluginRegister. Fluent Bit 5.0 and 5.1 have more fields behind
 * these; older hosts allocate no room for them, so they are left alone.
 */
struct flb_plugin_proxy_def {
    int type;
    int proxy;
    int flags;
    char *name;
    char *description;
};

/* One for each [OUTPUT]. The host's own fields follow. */
struct flb_plugin_proxy_context {
    void *remote_context;
};

/*
 * The table of host functions. What follows the first one differs from
 * version to version, and nothing in it tells the version: everything else is
 * looked up by name.
 */
struct flb_api {
    const char *(*output_get_property)(const char *key, void *o_ins);
};

/*
 * One for the library, not for each [OUTPUT]: o_ins and context are
 * overwritten before each FLBPluginInit. The host's own fields follow.
 */
struct flbgo_output_plugin {
    char *name;
    struct flb_api *api;
    void *o_ins;
    struct flb_plugin_proxy_context *context;
};

/* Functions of the host that are looked up by name where it has them. */
typedef void (*flb_log_print_fn)(int type, const char *file, int line,
                                 const char *fmt, ...);
typedef const char *(*flb_output_name_fn)(void *o_ins);
typedef int (*flb_output_log_check_fn)(void *o_ins, int level);

/*
 * Metrics of an output: what the host creates for it, and the functions of
 * cmetrics (since 2.0). Timestamps are nanoseconds since 1970.
 */
typedef void *(*flb_output_get_cmt_instance_fn)(void *o_ins);

/* cmt_counter_create and cmt_gauge_create */
typedef void *(*cmt_create_fn)(void *cmt, char *ns, char *subsystem, char *name,
                               char *help, int label_count, char **label_keys);
/* cmt_counter_add, cmt_gauge_add and cmt_histogram_observe */
typedef int (*cmt_add_fn)(void *metric, uint64_t timestamp, double value,
                          int label_count, char **label_values);
typedef void *(*cmt_histogram_buckets_create_size_fn)(double *bounds, size_t count);
typedef void *(*cmt_histogram_create_fn)(void *cmt, char *ns, char *subsystem,
                                         char *name, char *help, void *buckets,
                                         int label_count, char **label_keys);
/* counts has one more than there are buckets. */
typedef int (*cmt_histogram_set_default_fn)(void *histogram, uint64_t timestamp,
                                            uint64_t *counts, double sum, uint64_t count,
                                            int label_count, char **label_values);

#endif
