/*
 * The ABI between Fluent Bit and plugins of its Go proxy, as far as the plugins
 * use it. The layouts are those of Fluent Bit 1.8 to 5.1, and of inputs those of
 * 2.0 to 5.1. The bindings in src/bindings.rs are generated from this file (make
 * bindings).
 */
#ifndef FLUENT_BIT_PROXY_H
#define FLUENT_BIT_PROXY_H

#include <stddef.h>
#include <stdint.h>

/* The results of a flush. FLB_ERROR drops the chunk forever. */
#define FLB_ERROR 0
#define FLB_OK 1
#define FLB_RETRY 2

/* The values of flb_plugin_proxy_def.type and .proxy */
#define FLB_PROXY_INPUT_PLUGIN 1
#define FLB_PROXY_OUTPUT_PLUGIN 2
#define FLB_PROXY_GOLANG 11

/* The levels of flb_log_print, flb_output_log_check and flb_input_log_check. */
#define FLB_LOG_ERROR 1
#define FLB_LOG_WARN 2
#define FLB_LOG_INFO 3

/*
 * Filled in by FLBPluginRegister. Fluent Bit 5.0 and 5.1 have more fields after
 * these. Older hosts do not allocate memory for them, so the plugin does not
 * write them.
 */
struct flb_plugin_proxy_def {
    int type;
    int proxy;
    int flags;
    char *name;
    char *description;
};

/* The context of an [OUTPUT]. The host's own fields follow. */
struct flb_plugin_proxy_context {
    void *remote_context;
};

/*
 * The context of an [INPUT]. The host's own fields follow. Before Fluent Bit 4.1,
 * there is no remote_context: one of the host's own pointers is at its offset.
 */
struct flb_plugin_input_proxy_context {
    int coll_fd;
    void *remote_context;
};

/* flb_output_get_property and flb_input_get_property */
typedef const char *(*flb_get_property_fn)(const char *key, void *ins);

/*
 * The table of host functions. The functions after the first differ between
 * versions, and the table has no version number, so all other functions are
 * looked up by name.
 */
struct flb_api {
    flb_get_property_fn output_get_property;
};

/*
 * The plugin, of which there is one per library, not per [OUTPUT]: the host
 * overwrites o_ins and context before each FLBPluginInit. The host's own fields
 * follow.
 */
struct flbgo_output_plugin {
    char *name;
    struct flb_api *api;
    void *o_ins;
    struct flb_plugin_proxy_context *context;
};

/* The plugin of a library with an input. As above, with i_ins instead of o_ins. */
struct flbgo_input_plugin {
    char *name;
    struct flb_api *api;
    void *i_ins;
    struct flb_plugin_input_proxy_context *context;
};

/*
 * Host functions that are looked up by name. A host may lack them. Those of
 * outputs and inputs have the same types.
 */
typedef void (*flb_log_print_fn)(int type, const char *file, int line,
                                 const char *fmt, ...);
/* flb_output_name and flb_input_name */
typedef const char *(*flb_name_fn)(void *ins);
/* flb_output_log_check and flb_input_log_check */
typedef int (*flb_log_check_fn)(void *ins, int level);

/*
 * Appends records of an input (since Fluent Bit 2.0). The host copies them.
 * Returns 0 on success.
 */
typedef int (*flb_input_log_append_fn)(void *i_ins, const char *tag, size_t tag_len,
                                       const void *buf, size_t buf_size);

/*
 * The metrics of an instance: the cmetrics instance that the host creates, and
 * functions of cmetrics (since Fluent Bit 2.0). Timestamps are nanoseconds
 * since 1970.
 */
/* flb_output_get_cmt_instance and flb_input_get_cmt_instance */
typedef void *(*flb_get_cmt_instance_fn)(void *ins);

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
/* counts has one more element than there are buckets. */
typedef int (*cmt_histogram_set_default_fn)(void *histogram, uint64_t timestamp,
                                            uint64_t *counts, double sum, uint64_t count,
                                            int label_count, char **label_values);

#endif
