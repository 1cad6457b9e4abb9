/*
 * host cases
 * host case NAME LIBRARY ADDR
 * host run LIBRARY [--host-version V] [--stack N] [--workers N] [--retries N]
 *          [--backoff-ms N] [--rounds N] [--pause-us N]
 *          [--settle-ms N] [--idle-ms N] [--hold 1]
 *          --chunks FILE (--output NAME (--option KEY=VALUE)*)+
 *
 * `run` flushes every chunk of the file to every output, with one chunk per
 * worker at a time, and prints the results as one line of JSON.
 *
 * With --rounds, it flushes all chunks that many times and measures the duration
 * of each flush, without the host's checks, which would distort the results;
 * --pause-us pauses between the flushes. With --idle-ms, it then idles and
 * measures the plugin's idle costs; --settle-ms waits before that. With --hold,
 * it exits only after the end of its standard input.
 */
#include "host.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct chunk {
    const char *tag;
    const unsigned char *data;
    size_t size;
};

struct settings {
    const char *version;
    long stack;
    long workers;
    long retries;
    long backoff_ms;
    /* 0 for a single round with all checks. */
    long rounds;
    long pause_us;
    long settle_ms;
    long idle_ms;
    long hold;
    struct chunk *chunks;
    int chunk_count;
};

/* The measurements of a run. */
struct costs {
    /* The time from dlopen until all outputs are initialized. */
    long start_us;
    long flushes_wall_us;
    long flushes_cpu_us;
    long idle_cpu_us;
    long idle_kib;
    long idle_threads;
};

/* A worker of an output, and its results. */
struct worker {
    const struct settings *settings;
    struct host *host;
    struct output *output;
    int number;
    pthread_t thread;
    int results[3];
    /* The numbers of the chunks that did not end with FLB_OK. */
    int *failed;
    int failed_count;
    size_t stack_used;
    /* The duration of each flush. */
    long *flush_ns;
    long flush_count;
    /* The processor time of the worker's thread. */
    long cpu_us;
};

static void die(const char *what)
{
    fprintf(stderr, "host: %s\n", what);
    exit(2);
}

static long nanoseconds(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

/* Returns the user and system time of all threads. */
static long processor_us(void)
{
    return nanoseconds(CLOCK_PROCESS_CPUTIME_ID) / 1000;
}

static void count(struct worker *worker, int result)
{
    if (result < 0 || result > 2) {
        die("a flush returned a value other than FLB_ERROR, FLB_OK and FLB_RETRY");
    }
    worker->results[result]++;
}

static void flush_checked(struct worker *worker)
{
    const struct settings *settings = worker->settings;

    worker->failed = calloc(settings->chunk_count, sizeof(int));
    for (int i = worker->number; i < settings->chunk_count; i += settings->workers) {
        const struct chunk *chunk = &settings->chunks[i];
        int result = flush_retrying(worker->host, worker->output, chunk->data, chunk->size,
                                    chunk->tag, settings->stack, settings->retries,
                                    settings->backoff_ms, &worker->stack_used);
        count(worker, result);
        if (result != FLB_OK) {
            worker->failed[worker->failed_count++] = i;
        }
    }
}

static void flush_measured(struct worker *worker)
{
    const struct settings *settings = worker->settings;
    int (*flush)(void *, const void *, size_t, char *) = worker->host->flush_ctx;

    worker->flush_ns = calloc(settings->rounds * settings->chunk_count, sizeof(long));
    for (long round = 0; round < settings->rounds; round++) {
        for (int i = worker->number; i < settings->chunk_count; i += settings->workers) {
            const struct chunk *chunk = &settings->chunks[i];
            long before = nanoseconds(CLOCK_MONOTONIC);
            count(worker, flush(worker->output->context->remote_context, chunk->data,
                                chunk->size, (char *) chunk->tag));
            worker->flush_ns[worker->flush_count++] = nanoseconds(CLOCK_MONOTONIC) - before;
            if (settings->pause_us > 0) {
                usleep(settings->pause_us);
            }
        }
    }
}

static void *work(void *argument)
{
    struct worker *worker = argument;

    if (worker->settings->rounds > 0) {
        flush_measured(worker);
    } else {
        flush_checked(worker);
    }
    worker->cpu_us = nanoseconds(CLOCK_THREAD_CPUTIME_ID) / 1000;
    return NULL;
}

static size_t read_length(const unsigned char *at)
{
    return (size_t) at[0] << 24 | (size_t) at[1] << 16 | (size_t) at[2] << 8 | at[3];
}

/* Reads chunks: pairs of tag and data, each preceded by its length. */
static void read_chunks(struct settings *settings, const char *path)
{
    FILE *file = fopen(path, "rb");
    unsigned char *bytes;
    size_t size;
    size_t at = 0;

    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        die("cannot read the chunks");
    }
    size = (size_t) ftell(file);
    rewind(file);
    bytes = malloc(size + 1);
    if (bytes == NULL || fread(bytes, 1, size, file) != size) {
        die("cannot read the chunks");
    }
    fclose(file);
    while (at < size) {
        struct chunk chunk;
        size_t length = read_length(bytes + at);
        chunk.tag = strndup((const char *) bytes + at + 4, length);
        at += 4 + length;
        chunk.size = read_length(bytes + at);
        chunk.data = bytes + at + 4;
        at += 4 + chunk.size;
        settings->chunks = realloc(settings->chunks,
                                   (settings->chunk_count + 1) * sizeof(chunk));
        settings->chunks[settings->chunk_count++] = chunk;
    }
}

static void set_option(struct output *output, char *text)
{
    char *value = strchr(text, '=');

    if (output == NULL || value == NULL) {
        die("--option must follow --output, and have the form KEY=VALUE");
    }
    *value = '\0';
    output_set(output, text, value + 1);
}

/* Returns a number from /proc/self/status. The peak memory of getrusage(2) would
 * include that of the parent process. */
static long status(const char *format)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long number = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, format, &number) == 1) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return number;
}

static void print_json(const struct worker *workers, int count, const struct host *host,
                       int workers_each, const struct costs *costs)
{
    long workers_cpu_us = 0;

    for (int i = 0; i < count; i++) {
        workers_cpu_us += workers[i].cpu_us;
    }
    printf("{\"outputs\":[");
    for (int i = 0; i < count; i += workers_each) {
        int results[3] = {0};
        size_t stack = 0;
        for (int j = i; j < i + workers_each; j++) {
            for (int k = 0; k < 3; k++) {
                results[k] += workers[j].results[k];
            }
            stack = workers[j].stack_used > stack ? workers[j].stack_used : stack;
        }
        printf("%s{\"name\":\"%s\",\"ok\":%d,\"retry\":%d,\"error\":%d,\"stack\":%zu,"
               "\"failed\":[",
               i == 0 ? "" : ",", workers[i].output->instance.name, results[FLB_OK],
               results[FLB_RETRY], results[FLB_ERROR], stack);
        const char *separator = "";
        for (int j = i; j < i + workers_each; j++) {
            for (int k = 0; k < workers[j].failed_count; k++) {
                printf("%s%d", separator, workers[j].failed[k]);
                separator = ",";
            }
        }
        printf("]}");
    }
    const char *separator = "";
    printf("],\"intact\":%s,\"peak_kib\":%ld,\"start_us\":%ld,\"wall_us\":%ld,\"cpu_us\":%ld,"
           "\"workers_cpu_us\":%ld,\"idle_cpu_us\":%ld,\"idle_kib\":%ld,"
           "\"idle_threads\":%ld,\"flush_ns\":[",
           host_intact(host) ? "true" : "false", status("VmHWM: %ld kB"), costs->start_us,
           costs->flushes_wall_us, costs->flushes_cpu_us, workers_cpu_us,
           costs->idle_cpu_us, costs->idle_kib, costs->idle_threads);
    for (int i = 0; i < count; i++) {
        for (long j = 0; j < workers[i].flush_count; j++) {
            printf("%s%ld", separator, workers[i].flush_ns[j]);
            separator = ",";
        }
    }
    printf("]}\n");
}

static void print_refused(const struct host *host)
{
    static const struct costs nothing;

    print_json(NULL, 0, host, 1, &nothing);
}

/* Sets a numeric option. Returns 0 if there is no option of this name. */
static int set_number(struct settings *settings, const char *name, const char *value)
{
    const struct {
        const char *name;
        long *number;
    } options[] = {
        {"--stack", &settings->stack},         {"--workers", &settings->workers},
        {"--retries", &settings->retries},     {"--backoff-ms", &settings->backoff_ms},
        {"--rounds", &settings->rounds},       {"--pause-us", &settings->pause_us},
        {"--settle-ms", &settings->settle_ms}, {"--idle-ms", &settings->idle_ms},
        {"--hold", &settings->hold},
    };

    for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++) {
        if (strcmp(name, options[i].name) == 0) {
            *options[i].number = atol(value);
            return 1;
        }
    }
    return 0;
}

static int run(int count, char **arguments)
{
    struct settings settings = {
        .version = "5.1", .stack = SMALL_STACK, .workers = 1, .retries = 0, .backoff_ms = 100,
    };
    struct host *host = NULL;
    struct output *output = NULL;
    struct worker *workers;
    int worker_count = 0;
    struct costs costs = {0};
    long start = nanoseconds(CLOCK_MONOTONIC);
    long cpu;

    for (int i = 1; i + 1 < count; i += 2) {
        char *value = arguments[i + 1];
        if (strcmp(arguments[i], "--host-version") == 0) {
            settings.version = value;
        } else if (strcmp(arguments[i], "--chunks") == 0) {
            read_chunks(&settings, value);
            start = nanoseconds(CLOCK_MONOTONIC);
        } else if (strcmp(arguments[i], "--output") == 0) {
            if (host == NULL && (host = host_load(arguments[0], settings.version)) == NULL) {
                return 2;
            }
            output = host_add_output(host, value);
        } else if (strcmp(arguments[i], "--option") == 0) {
            set_option(output, value);
        } else if (!set_number(&settings, arguments[i], value)) {
            die("unknown argument");
        }
    }
    if (host == NULL) {
        die("missing --output");
    }
    for (int i = 0; i < host->output_count; i++) {
        if (host_init(host, &host->outputs[i]) <= 0) {
            host_exit(host);
            print_refused(host);
            host_unload(host);
            return 1;
        }
    }
    host_pre_run(host);
    costs.start_us = (nanoseconds(CLOCK_MONOTONIC) - start) / 1000;

    start = nanoseconds(CLOCK_MONOTONIC);
    cpu = processor_us();
    workers = calloc(host->output_count * settings.workers, sizeof(*workers));
    for (int i = 0; i < host->output_count; i++) {
        for (int j = 0; j < settings.workers; j++) {
            struct worker *worker = &workers[worker_count++];
            worker->settings = &settings;
            worker->host = host;
            worker->output = &host->outputs[i];
            worker->number = j;
            pthread_create(&worker->thread, NULL, work, worker);
        }
    }
    for (int i = 0; i < worker_count; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    costs.flushes_cpu_us = processor_us() - cpu;
    costs.flushes_wall_us = (nanoseconds(CLOCK_MONOTONIC) - start) / 1000;
    if (settings.idle_ms > 0) {
        sleep_ms(settings.settle_ms);
        cpu = processor_us();
        sleep_ms(settings.idle_ms);
        costs.idle_cpu_us = processor_us() - cpu;
        costs.idle_kib = status("VmRSS: %ld kB");
        costs.idle_threads = status("Threads: %ld");
    }
    while (settings.hold && getchar() != EOF) {
    }
    print_json(workers, worker_count, host, settings.workers, &costs);
    host_exit(host);
    host_unload(host);
    return 0;
}

int main(int count, char **arguments)
{
    if (count == 2 && strcmp(arguments[1], "cases") == 0) {
        list_cases();
        return 0;
    }
    if (count == 5 && strcmp(arguments[1], "case") == 0) {
        return run_case(arguments[2], arguments[3], arguments[4]);
    }
    if (count > 3 && strcmp(arguments[1], "run") == 0) {
        return run(count - 2, arguments + 2);
    }
    die("usage: host cases | host case NAME LIBRARY ADDR | host run LIBRARY ...");
    return 2;
}
