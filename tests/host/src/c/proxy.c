#include "host.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* flb_plugin_proxy_def of 5.1; older versions have only its first fields. */
struct def {
    int type;
    int proxy;
    int flags;
    char *name;
    char *description;
    int event_type;
    void *config_map;
};

struct def_before_5_0 {
    int type;
    int proxy;
    int flags;
    char *name;
    char *description;
};

struct def_5_0 {
    int type;
    int proxy;
    int flags;
    char *name;
    char *description;
    int event_type;
};

struct api {
    const char *(*output_get_property)(const char *, void *);
    void (*others[8])(void);
};

struct plugin {
    char *name;
    void *api;
    void *o_ins;
    struct proxy_context *context;
    int (*cb_init)(struct plugin *);
    int (*cb_flush)(const void *, size_t, const char *);
    int (*cb_flush_ctx)(void *, const void *, size_t, char *);
    int (*cb_exit)(void);
    int (*cb_exit_ctx)(void *);
};

const struct version versions[] = {
    {"1.9", sizeof(struct def_before_5_0), 1},
    {"2.2", sizeof(struct def_before_5_0), 7},
    {"4.2", sizeof(struct def_before_5_0), 9},
    {"5.0", sizeof(struct def_5_0), 9},
    {"5.1", sizeof(struct def), 9},
};
const int version_count = sizeof(versions) / sizeof(versions[0]);

const struct version *version_by_name(const char *name)
{
    for (int i = 0; i < version_count; i++) {
        if (strcmp(versions[i].name, name) == 0) {
            return &versions[i];
        }
    }
    return NULL;
}

static size_t api_size(const struct version *version)
{
    return version->api_functions * sizeof(void (*)(void));
}

/* Stands for the functions that differ between versions; no plugin may call them. */
static void not_to_be_called(void)
{
    fputs("host: the plugin called a function of the table that differs between versions\n",
          stderr);
    abort();
}

static const char *get_property(const char *key, void *ins)
{
    struct instance *instance = ins;

    for (int i = 0; i < instance->option_count; i++) {
        if (strcasecmp(instance->options[i].key, key) == 0) {
            return instance->options[i].value;
        }
    }
    return NULL;
}

static struct host *fail(const char *what)
{
    fprintf(stderr, "host: %s\n", what);
    return NULL;
}

struct host *host_load(const char *library, const char *version)
{
    struct host *host = calloc(1, sizeof(*host));
    struct def *def;
    struct plugin *plugin;
    struct api *api;
    int (*pre_register)(int);
    int (*do_register)(void *);

    host->version = version_by_name(version);
    if (host->version == NULL) {
        return fail("unknown version");
    }
    host->library = dlopen(library, RTLD_LAZY);
    if (host->library == NULL) {
        return fail(dlerror());
    }
    host->outputs = calloc(MAX_OUTPUTS, sizeof(*host->outputs));

    host->api = guarded_alloc(api_size(host->version));
    api = host->api;
    api->output_get_property = get_property;
    for (size_t i = 1; i < host->version->api_functions; i++) {
        api->others[i - 1] = not_to_be_called;
    }

    host->def = guarded_alloc(host->version->def_size);
    def = host->def;
    def->type = 2;
    pre_register = dlsym(host->library, "FLBPluginPreRegister");
    do_register = dlsym(host->library, "FLBPluginRegister");
    if (pre_register != NULL && pre_register(0) == -1) {
        return fail("FLBPluginPreRegister failed");
    }
    if (do_register == NULL || do_register(def) == -1) {
        return fail("FLBPluginRegister is missing or failed");
    }
    if (def->type != 2 || def->proxy != 11 || def->flags != 0) {
        return fail("the library is not registered as an output of the Go proxy");
    }
    if (def->name == NULL || strcmp(def->name, "syslog_sink") != 0 || def->description == NULL) {
        return fail("the library has no name or description");
    }

    host->plugin = guarded_alloc(sizeof(struct plugin));
    plugin = host->plugin;
    plugin->name = strdup(def->name);
    plugin->cb_init = dlsym(host->library, "FLBPluginInit");
    plugin->cb_flush = dlsym(host->library, "FLBPluginFlush");
    plugin->cb_flush_ctx = dlsym(host->library, "FLBPluginFlushCtx");
    plugin->cb_exit = dlsym(host->library, "FLBPluginExit");
    plugin->cb_exit_ctx = dlsym(host->library, "FLBPluginExitCtx");
    if (plugin->cb_init == NULL || plugin->cb_flush_ctx == NULL || plugin->cb_exit_ctx == NULL) {
        return fail("the library lacks a required function");
    }
    host->flush_ctx = plugin->cb_flush_ctx;
    return host;
}

struct output *host_add_output(struct host *host, const char *name)
{
    struct output *output = &host->outputs[host->output_count++];

    snprintf(output->instance.name, sizeof(output->instance.name), "%s", name);
    output->context = guarded_alloc(sizeof(*output->context));
    output->context->proxy = host;
    return output;
}

void output_set(struct output *output, const char *key, const char *value)
{
    struct instance *instance = &output->instance;

    for (int i = 0; i < instance->option_count; i++) {
        if (strcasecmp(instance->options[i].key, key) == 0) {
            instance->options[i].value = value;
            return;
        }
    }
    if (instance->option_count == MAX_OPTIONS) {
        abort();
    }
    instance->options[instance->option_count].key = key;
    instance->options[instance->option_count].value = value;
    instance->option_count++;
}

int host_init(struct host *host, struct output *output)
{
    struct plugin *plugin = host->plugin;
    int result;

    /* All outputs share one structure, which is overwritten for each. */
    plugin->api = host->api;
    plugin->o_ins = &output->instance;
    plugin->context = output->context;
    result = plugin->cb_init(plugin);
    output->initialized = result > 0;

    /* These pointers are valid only during the init. */
    plugin->o_ins = NULL;
    plugin->context = NULL;
    return result;
}

void host_pre_run(struct host *host)
{
    int (*pre_run)(int) = dlsym(host->library, "FLBPluginOutputPreRun");

    if (pre_run != NULL) {
        pre_run(1);
    }
}

int host_intact(const struct host *host)
{
    int intact = guarded_intact(host->def, host->version->def_size) &&
                 guarded_intact(host->api, api_size(host->version)) &&
                 guarded_intact(host->plugin, sizeof(struct plugin));

    for (int i = 0; i < host->output_count; i++) {
        intact = intact && guarded_intact(host->outputs[i].context, sizeof(struct proxy_context));
    }
    if (!intact) {
        fputs("host: the plugin wrote beyond a structure\n", stderr);
    }
    return intact;
}

void host_exit(struct host *host)
{
    struct plugin *plugin = host->plugin;
    void (*pre_exit)(int) = dlsym(host->library, "FLBPluginOutputPreExit");

    for (int i = 0; i < host->output_count; i++) {
        struct output *output = &host->outputs[i];
        if (output->initialized) {
            if (pre_exit != NULL) {
                pre_exit(0);
            }
            plugin->cb_exit_ctx(output->context->remote_context);
            output->initialized = 0;
        }
    }
}

void host_unload(struct host *host)
{
    struct plugin *plugin = host->plugin;
    void (*unregister)(void *) = dlsym(host->library, "FLBPluginUnregister");

    if (unregister != NULL) {
        unregister(host->def);
    }
    free(plugin->name);
    guarded_free(plugin);
    guarded_free(host->def);
    guarded_free(host->api);
    for (int i = 0; i < host->output_count; i++) {
        guarded_free(host->outputs[i].context);
    }
    free(host->outputs);
    dlclose(host->library);
    free(host);
}
