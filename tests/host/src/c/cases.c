/* Test cases, each of which checks a part of the plugin's contract. */
#include "host.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *library;
static const char *addr;

#define TAG                                                                  \
    "kube.var.log.containers.web-0_shop_nginx-0123456789abcdef0123456789abc" \
    "def0123456789abcdef0123456789abcdef.log"

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            return 1;                                                             \
        }                                                                         \
    } while (0)

/* Returns a host with one output that delivers to the test's receiver. */
static struct host *start(const char *version)
{
    struct host *host = host_load(library, version);
    struct output *output;

    if (host == NULL) {
        exit(1);
    }
    output = host_add_output(host, "sink");
    output_set(output, "Servers", addr);
    output_set(output, "TRANSPORT", "tcp");
    output_set(output, "cluster", "on");
    return host;
}

static struct host *start_and_init(const char *version)
{
    struct host *host = start(version);

    if (host_init(host, &host->outputs[0]) != FLB_OK) {
        fputs("FLBPluginInit failed\n", stderr);
        exit(1);
    }
    host_pre_run(host);
    return host;
}

static int finish(struct host *host)
{
    int intact = host_intact(host);

    host_exit(host);
    intact = intact && host_intact(host);
    host_unload(host);
    return intact ? 0 : 1;
}

static int flush(struct host *host, int output, const struct buffer *chunk)
{
    return flush_retrying(host, &host->outputs[output], chunk->data, chunk->size, TAG,
                          SMALL_STACK, 100, 50, NULL);
}

static int threads(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");

    while (tasks != NULL && readdir(tasks) != NULL) {
        count++;
    }
    closedir(tasks);
    return count;
}

/* Waits for a number of threads: the kernel may list a joined thread for a moment. */
static int threads_are(int count)
{
    for (int i = 0; i < 10000 && threads() != count; i++) {
        sleep_ms(1);
    }
    return threads() == count;
}

static int register_each_version(void)
{
    for (int i = 0; i < version_count; i++) {
        struct host *host = host_load(library, versions[i].name);
        CHECK(host != NULL);
        CHECK(host_intact(host));
        host_unload(host);
    }
    return 0;
}

static int flush_each_version(void)
{
    for (int i = 0; i < version_count; i++) {
        struct host *host = start_and_init(versions[i].name);
        struct buffer chunk = {0};
        put_event(&chunk, versions[i].name);
        CHECK(flush(host, 0, &chunk) == FLB_OK);
        buffer_free(&chunk);
        CHECK(finish(host) == 0);
    }
    return 0;
}

static int init_without_addr(void)
{
    struct host *host = host_load(library, "5.1");
    struct output *output = host_add_output(host, "nowhere");

    CHECK(host_init(host, output) <= 0);
#ifndef BARE
    CHECK(strstr(logged_lines(), "[error] [output:syslog_sink:nowhere] servers: missing") != NULL);
#endif
    return finish(host);
}

static int init_bad_option(void)
{
    struct host *host = start("5.1");

    output_set(&host->outputs[0], "oversize", "explode");
    CHECK(host_init(host, &host->outputs[0]) <= 0);
#ifndef BARE
    const char *line = strstr(logged_lines(), "[output:syslog_sink:sink] oversize \"explode\"");
    CHECK(line != NULL);
    CHECK(strstr(line, "split, truncate, drop") != NULL);
    CHECK(strchr(line, '\n') == line + strlen(line) - 1);
#endif
    return finish(host);
}

static int init_null(void)
{
    struct host *host = host_load(library, "5.1");
    int (*init)(void *) = dlsym(host->library, "FLBPluginInit");
    int (*do_register)(void *) = dlsym(host->library, "FLBPluginRegister");
    void (*unregister)(void *) = dlsym(host->library, "FLBPluginUnregister");

    CHECK(init(NULL) == FLB_ERROR);
    CHECK(do_register(NULL) == -1);
    unregister(NULL);
    return finish(host);
}

static int flush_empty_chunk(void)
{
    struct host *host = start_and_init("5.1");
    void *context = host->outputs[0].context->remote_context;

    CHECK(flush_once(host, context, "", 0, TAG, SMALL_STACK, NULL) == FLB_OK);
    return finish(host);
}

static int flush_null_data(void)
{
    struct host *host = start_and_init("5.1");
    void *context = host->outputs[0].context->remote_context;

    CHECK(flush_once(host, context, NULL, 0, TAG, SMALL_STACK, NULL) == FLB_OK);
    CHECK(flush_once(host, context, NULL, 100, TAG, SMALL_STACK, NULL) == FLB_RETRY);
    return finish(host);
}

static int flush_null_tag(void)
{
    struct host *host = start_and_init("5.1");
    void *context = host->outputs[0].context->remote_context;
    struct buffer chunk = {0};

    put_event(&chunk, "without a tag");
    CHECK(flush_once(host, context, chunk.data, chunk.size, NULL, SMALL_STACK, NULL) == FLB_OK);
    buffer_free(&chunk);
    return finish(host);
}

static int flush_null_context(void)
{
    struct host *host = start_and_init("5.1");
    struct buffer chunk = {0};

    put_event(&chunk, "lost?");
    CHECK(flush_once(host, NULL, chunk.data, chunk.size, TAG, SMALL_STACK, NULL) == FLB_RETRY);
    buffer_free(&chunk);
    return finish(host);
}

/* A flush of bytes that are not a chunk must not be retried. */
static int flush_garbage(void)
{
    struct host *host = start_and_init("5.1");
    unsigned state = 1;

    for (int round = 0; round < 200; round++) {
        struct buffer chunk = {0};
        for (int i = 0; i < 500; i++) {
            unsigned char byte;
            state = state * 1103515245 + 12345;
            byte = state >> 16 & 0xff;
            put_bytes(&chunk, &byte, 1);
        }
        CHECK(flush(host, 0, &chunk) == FLB_OK);
        buffer_free(&chunk);
    }
    return finish(host);
}

/* Two complete records and a truncated one. */
static int flush_truncated(void)
{
    struct host *host = start_and_init("5.1");
    struct buffer chunk = {0};

    put_event(&chunk, "one");
    put_event(&chunk, "two");
    put_event(&chunk, "three");
    chunk.size -= 2;
    CHECK(flush(host, 0, &chunk) == FLB_OK);
    buffer_free(&chunk);
    return finish(host);
}

static int flush_both_formats(void)
{
    struct host *host = start_and_init("5.1");
    struct buffer chunk = {0};

    put_event(&chunk, "new");
    put_old_event_head(&chunk, 1772366400, 1000);
    put_map(&chunk, 1);
    put_string(&chunk, "log");
    put_string(&chunk, "old");
    CHECK(flush(host, 0, &chunk) == FLB_OK);
    buffer_free(&chunk);
    return finish(host);
}

struct worker {
    struct host *host;
    pthread_t thread;
    int failed;
};

static void *work(void *argument)
{
    struct worker *worker = argument;

    for (int i = 0; i < 50; i++) {
        struct buffer chunk = {0};
        put_event(&chunk, "from a worker");
        worker->failed |= flush(worker->host, 0, &chunk) != FLB_OK;
        buffer_free(&chunk);
    }
    return NULL;
}

/* 4 concurrent workers, each with 50 chunks. */
static int several_workers(void)
{
    struct host *host = start_and_init("5.1");
    struct worker workers[4];

    for (int i = 0; i < 4; i++) {
        workers[i] = (struct worker) {.host = host};
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(workers[i].thread, NULL);
        CHECK(!workers[i].failed);
    }
    return finish(host);
}

/* 20 outputs, which share one thread of the plugin. */
static int several_outputs(void)
{
    int before = threads();
    struct host *host = start("5.1");
    struct buffer chunk = {0};

    put_event(&chunk, "to all");
    for (int i = 1; i < 20; i++) {
        struct output *output = host_add_output(host, "another");
        output_set(output, "servers", addr);
        output_set(output, "transport", "tcp");
        output_set(output, "cluster", "on");
    }
    for (int i = 0; i < 20; i++) {
        CHECK(host_init(host, &host->outputs[i]) == FLB_OK);
    }
    for (int i = 0; i < 20; i++) {
        CHECK(flush(host, i, &chunk) == FLB_OK);
    }
    CHECK(threads() == before + 1);
    buffer_free(&chunk);
    CHECK(finish(host) == 0);
    CHECK(threads_are(before));
    return 0;
}

/* An output whose connections are refused: nothing listens on port 1. */
static int refused(void)
{
    struct host *host = start("5.1");
    struct buffer chunk = {0};

    output_set(&host->outputs[0], "servers", "127.0.0.1:1");
    CHECK(host_init(host, &host->outputs[0]) == FLB_OK);
    put_event(&chunk, "to nobody");
    for (int i = 0; i < 20; i++) {
        CHECK(flush_once(host, host->outputs[0].context->remote_context, chunk.data, chunk.size,
                         TAG, SMALL_STACK, NULL) == FLB_RETRY);
    }
#ifndef BARE
    static const char line[] = "[output:syslog_sink:sink] cannot connect to 127.0.0.1:1";

    /* The sender's thread logs the line asynchronously. */
    for (int i = 0; i < 30000 && strstr(logged_lines(), line) == NULL; i++) {
        usleep(1000);
    }
    CHECK(strstr(logged_lines(), line) != NULL);
#endif
    buffer_free(&chunk);
    return finish(host);
}

/* A bound port refuses connections until listen() is called. After listen(), the
 * kernel accepts connections and acknowledges data even before accept(). */
static int retry_until_the_receiver_listens(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct host *host = start("5.1");
    struct buffer chunk = {0};
    char text[64];

    CHECK(bind(fd, (struct sockaddr *) &address, length) == 0);
    CHECK(getsockname(fd, (struct sockaddr *) &address, &length) == 0);
    snprintf(text, sizeof(text), "127.0.0.1:%d", ntohs(address.sin_port));
    output_set(&host->outputs[0], "servers", text);
    output_set(&host->outputs[0], "backoff_min", "10ms");
    output_set(&host->outputs[0], "backoff_max", "20ms");
    CHECK(host_init(host, &host->outputs[0]) == FLB_OK);
    put_event(&chunk, "at last");
    CHECK(flush_once(host, host->outputs[0].context->remote_context, chunk.data, chunk.size,
                     TAG, SMALL_STACK, NULL) == FLB_RETRY);
    CHECK(listen(fd, 16) == 0);
    CHECK(flush(host, 0, &chunk) == FLB_OK);
    buffer_free(&chunk);
    CHECK(finish(host) == 0);
    close(fd);
    return 0;
}

static int exit_without_flush(void)
{
    return finish(start_and_init("5.1"));
}

static int hot_reload(void)
{
    int before = threads();

    for (int i = 0; i < 5; i++) {
        struct host *host = start_and_init("5.1");
        struct buffer chunk = {0};
        put_event(&chunk, "between reloads");
        CHECK(flush(host, 0, &chunk) == FLB_OK);
        buffer_free(&chunk);
        CHECK(finish(host) == 0);
        CHECK(threads_are(before));
    }
    return 0;
}

/* The library must stay mapped for late thread destructors: -z nodelete. */
static int library_stays_mapped(void)
{
    void *handle;

    CHECK(finish(start_and_init("5.1")) == 0);
    handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
    CHECK(handle != NULL);
    dlclose(handle);
    return 0;
}

/* A record without a text, which becomes JSON. */
static int deep_nesting(void)
{
    struct host *host = start("5.1");
    struct buffer chunk = {0};

    output_set(&host->outputs[0], "max_message_size", "1M");
    CHECK(host_init(host, &host->outputs[0]) == FLB_OK);
    put_event_head(&chunk, 1, 0);
    for (int i = 0; i < 10000; i++) {
        put_map(&chunk, 1);
        put_string(&chunk, "k");
    }
    put_string(&chunk, "v");
    CHECK(flush(host, 0, &chunk) == FLB_OK);
    buffer_free(&chunk);
    return finish(host);
}

static int message_of_10_mib(void)
{
    struct host *host = start("5.1");
    struct buffer chunk = {0};
    size_t size = 10 * 1024 * 1024;
    char *text = malloc(size);

    output_set(&host->outputs[0], "max_message_size", "16M");
    CHECK(host_init(host, &host->outputs[0]) == FLB_OK);
    memset(text, 'x', size);
    put_event_head(&chunk, 1, 0);
    put_map(&chunk, 1);
    put_string(&chunk, "log");
    put_text(&chunk, text, size);
    CHECK(flush(host, 0, &chunk) == FLB_OK);
    free(text);
    buffer_free(&chunk);
    return finish(host);
}

static int labels_5000(void)
{
    struct host *host = start_and_init("5.1");
    struct buffer chunk = {0};
    char key[64];

    put_event_head(&chunk, 1, 0);
    put_map(&chunk, 2);
    put_string(&chunk, "log");
    put_string(&chunk, "still here");
    put_string(&chunk, "kubernetes");
    put_map(&chunk, 1);
    put_string(&chunk, "labels");
    put_map(&chunk, 5000);
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof(key), "a-label-with-a-key-that-is-rather-long-%d", i);
        put_string(&chunk, key);
        put_string(&chunk, "\"]\\");
    }
    CHECK(flush(host, 0, &chunk) == FLB_OK);
    buffer_free(&chunk);
    return finish(host);
}

/* Limits the stack use of a flush, including the log lines that it writes. The rest
 * of Fluent Bit's smallest stack is for Fluent Bit itself. */
static int stack_use(void)
{
    struct host *host = start("5.1");
    struct buffer chunk = {0};
    size_t used = 0;

    output_set(&host->outputs[0], "cluster", "off");
    output_set(&host->outputs[0], "namespace", "other");
    CHECK(host_init(host, &host->outputs[0]) == FLB_OK);
    put_event(&chunk, "refused and logged");
    CHECK(flush_retrying(host, &host->outputs[0], chunk.data, chunk.size, TAG, SMALL_STACK, 100,
                         50, &used) == FLB_OK);
    fprintf(stderr, "a flush used %zu bytes of stack\n", used);
    CHECK(used < 16 * 1024);
    buffer_free(&chunk);
    return finish(host);
}

static const struct {
    const char *name;
    int (*run)(void);
} cases[] = {
    {"register_each_version", register_each_version},
    {"flush_each_version", flush_each_version},
    {"init_without_addr", init_without_addr},
    {"init_bad_option", init_bad_option},
    {"init_null", init_null},
    {"flush_empty_chunk", flush_empty_chunk},
    {"flush_null_data", flush_null_data},
    {"flush_null_tag", flush_null_tag},
    {"flush_null_context", flush_null_context},
    {"flush_garbage", flush_garbage},
    {"flush_truncated", flush_truncated},
    {"flush_both_formats", flush_both_formats},
    {"several_workers", several_workers},
    {"several_outputs", several_outputs},
    {"refused", refused},
    {"retry_until_the_receiver_listens", retry_until_the_receiver_listens},
    {"exit_without_flush", exit_without_flush},
    {"hot_reload", hot_reload},
    {"library_stays_mapped", library_stays_mapped},
    {"deep_nesting", deep_nesting},
    {"message_of_10_mib", message_of_10_mib},
    {"labels_5000", labels_5000},
    {"stack_use", stack_use},
};

void list_cases(void)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        puts(cases[i].name);
    }
}

int run_case(const char *name, const char *library_path, const char *address)
{
    library = library_path;
    addr = address;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (strcmp(cases[i].name, name) == 0) {
            int failed = cases[i].run();
            printf("%s %s\n", failed ? "FAIL" : "ok", name);
            return failed;
        }
    }
    fprintf(stderr, "unknown case %s\n", name);
    return 1;
}
