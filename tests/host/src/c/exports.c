/* The functions that Fluent Bit's executable exports to plugins. */
#include "host.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char lines[256 * 1024];
static size_t lines_size;

const char *logged_lines(void)
{
    return lines;
}

void forget_logged_lines(void)
{
    pthread_mutex_lock(&lock);
    lines[0] = '\0';
    lines_size = 0;
    pthread_mutex_unlock(&lock);
}

/* Like Fluent Bit's function, uses two buffers of 4 KiB on the caller's stack. */
void flb_log_print(int type, const char *file, int line, const char *fmt, ...)
{
    static const char *const levels[] = {"off", "error", "warn", "info", "debug"};
    char body[4096];
    char message[4096];
    va_list arguments;

    (void) file;
    (void) line;
    memset(body, 0, sizeof(body));
    va_start(arguments, fmt);
    vsnprintf(body, sizeof(body), fmt, arguments);
    va_end(arguments);
    memset(message, 0, sizeof(message));
    snprintf(message, sizeof(message), "[%s] %.4000s\n",
             type >= 0 && type <= 4 ? levels[type] : "?", body);

    pthread_mutex_lock(&lock);
    fputs(message, stderr);
    size_t size = strlen(message);
    if (lines_size + size < sizeof(lines)) {
        memcpy(lines + lines_size, message, size + 1);
        lines_size += size;
    }
    pthread_mutex_unlock(&lock);
}

const char *flb_output_name(void *ins)
{
    return ((struct instance *) ins)->name;
}

/* The log level of the host is info. */
int flb_output_log_check(void *ins, int level)
{
    (void) ins;
    return level <= 3;
}
