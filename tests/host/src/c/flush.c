/*
 * Flushes a chunk like Fluent Bit's workers: in a coroutine with a small stack.
 * Unlike Fluent Bit's, the stack has a guard page below it.
 */
#include "host.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define VALGRIND_STACK_REGISTER(start, end) 0
#define VALGRIND_STACK_DEREGISTER(id) ((void) (id))
#define VALGRIND_MAKE_MEM_DEFINED(start, size) ((void) (start))
#endif

#define PAINT 0x5A

struct call {
    struct host *host;
    void *remote_context;
    const void *data;
    size_t size;
    char *tag;
    int result;
    ucontext_t caller;
    ucontext_t coroutine;
};

/* makecontext can pass only ints, not pointers. */
static _Thread_local struct call *current;

static void enter(void)
{
    struct call *call = current;

    call->result = call->host->flush_ctx(call->remote_context, call->data, call->size, call->tag);
}

static void run_on_stack(struct call *call, void *bottom, size_t size)
{
    getcontext(&call->coroutine);
    call->coroutine.uc_stack.ss_sp = bottom;
    call->coroutine.uc_stack.ss_size = size;
    call->coroutine.uc_link = &call->caller;
    makecontext(&call->coroutine, enter, 0);
    current = call;
    swapcontext(&call->caller, &call->coroutine);
}

/* Returns a copy of exactly this size, so that valgrind detects reads beyond it. */
static void *copy(const void *bytes, size_t size)
{
    void *memory = malloc(size > 0 ? size : 1);

    if (memory != NULL && size > 0) {
        memcpy(memory, bytes, size);
    }
    return memory;
}

int flush_once(struct host *host, void *remote_context, const void *data, size_t size,
               const char *tag, size_t stack, size_t *used)
{
    size_t page = (size_t) sysconf(_SC_PAGESIZE);
    unsigned char *memory = mmap(NULL, stack + page, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *bottom = memory + page;
    void *data_copy = data == NULL ? NULL : copy(data, size);
    struct call call = {
        .host = host,
        .remote_context = remote_context,
        .data = data_copy,
        .size = size,
        .tag = tag == NULL ? NULL : copy(tag, strlen(tag) + 1),
    };
    unsigned id;

    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) {
        abort();
    }
    memset(bottom, PAINT, stack);
    id = VALGRIND_STACK_REGISTER(bottom, bottom + stack);

    run_on_stack(&call, bottom, stack);

    if (used != NULL) {
        size_t untouched = 0;
        /* Valgrind considers memory below the stack pointer undefined. */
        (void) VALGRIND_MAKE_MEM_DEFINED(bottom, stack);
        while (untouched < stack && bottom[untouched] == PAINT) {
            untouched++;
        }
        *used = stack - untouched;
    }
    VALGRIND_STACK_DEREGISTER(id);
    munmap(memory, stack + page);
    free(data_copy);
    free(call.tag);
    return call.result;
}

int flush_retrying(struct host *host, struct output *output, const void *data, size_t size,
                   const char *tag, size_t stack, long retries, long backoff_ms, size_t *used)
{
    for (long attempt = 0;; attempt++) {
        size_t now = 0;
        int result = flush_once(host, output->context->remote_context, data, size, tag, stack, &now);
        if (used != NULL && now > *used) {
            *used = now;
        }
        if (result != FLB_RETRY || attempt == retries) {
            return result;
        }
        sleep_ms(backoff_ms);
    }
}

void sleep_ms(long milliseconds)
{
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};

    nanosleep(&time, NULL);
}
