/*
 * A test host for output plugins with Fluent Bit's Go ABI.
 *
 *   main -> cases or run -> proxy (load, register, init, exit) -> flush
 *
 * The host calls the plugin like src/flb_plugin_proxy.c and src/proxy/go of
 * Fluent Bit, with the structures of several versions. It detects invalid
 * memory accesses of the plugin by canaries after each structure, small stacks
 * with a guard page, and allocations of exact size.
 */
#ifndef HOST_H
#define HOST_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define FLB_ERROR 0
#define FLB_OK 1
#define FLB_RETRY 2

/* The size of Fluent Bit's coroutine stacks before 5.1. */
#define SMALL_STACK (24 * 1024)

/* memory.c: allocations followed by a canary. */
void *guarded_alloc(size_t size);
/* Whether the canary after the allocation is unchanged. */
int guarded_intact(const void *memory, size_t size);
void guarded_free(void *memory);

/* proxy.c */
struct option {
    const char *key;
    const char *value;
};

#define MAX_OPTIONS 64
#define MAX_OUTPUTS 1024

/* The output instance, which the plugin gets as o_ins. */
struct instance {
    char name[64];
    struct option options[MAX_OPTIONS];
    int option_count;
};

struct proxy_context {
    void *remote_context;
    void *proxy;
};

struct output {
    struct instance instance;
    struct proxy_context *context;
    int initialized;
};

struct version {
    const char *name;
    size_t def_size;
    size_t api_functions;
};

extern const struct version versions[];
extern const int version_count;

struct host {
    const struct version *version;
    void *library;
    void *def;
    void *api;
    void *plugin;
    int (*flush_ctx)(void *, const void *, size_t, char *);
    struct output *outputs;
    int output_count;
};

const struct version *version_by_name(const char *name);
/* Loads and registers the library. Prints the reason and returns NULL on failure. */
struct host *host_load(const char *library, const char *version);
/* Adds an output without initializing it. */
struct output *host_add_output(struct host *host, const char *name);
void output_set(struct output *output, const char *key, const char *value);
/* Initializes an output. Returns the result of FLBPluginInit. */
int host_init(struct host *host, struct output *output);
/* Calls FLBPluginOutputPreRun, as Fluent Bit does after all inits. */
void host_pre_run(struct host *host);
/* Whether all canaries are unchanged. */
int host_intact(const struct host *host);
/* Calls FLBPluginOutputPreExit and FLBPluginExitCtx for every output. */
void host_exit(struct host *host);
/* Unregisters and closes the library. */
void host_unload(struct host *host);

/* flush.c */

/* Flushes a chunk once, on a small stack with a guard page, on this thread. */
int flush_once(struct host *host, void *remote_context, const void *data, size_t size,
               const char *tag, size_t stack, size_t *used);

/* Flushes a chunk, and retries while the plugin returns FLB_RETRY. */
int flush_retrying(struct host *host, struct output *output, const void *data, size_t size,
                   const char *tag, size_t stack, long retries, long backoff_ms, size_t *used);

void sleep_ms(long milliseconds);

/* msgpack.c: encoding of chunks. */
struct buffer {
    unsigned char *data;
    size_t size;
    size_t capacity;
};

void put_bytes(struct buffer *buffer, const void *bytes, size_t size);
void put_map(struct buffer *buffer, uint32_t entries);
void put_array(struct buffer *buffer, uint32_t entries);
void put_text(struct buffer *buffer, const char *text, size_t size);
void put_string(struct buffer *buffer, const char *text);
/* Encode the head of an event, [[time, {}], or [time, without the body. */
void put_event_head(struct buffer *buffer, uint32_t seconds, uint32_t nanos);
void put_old_event_head(struct buffer *buffer, uint32_t seconds, uint32_t nanos);
/* Encodes an event with the body {"log": text}. */
void put_event(struct buffer *buffer, const char *text);
void buffer_free(struct buffer *buffer);

/* exports.c: the lines that the plugin has logged. */
#ifndef BARE
const char *logged_lines(void);
void forget_logged_lines(void);
#endif

/* cases.c */
int run_case(const char *name, const char *library, const char *addr);
void list_cases(void);

#endif
