#include "host.h"

#include <stdlib.h>
#include <string.h>

void put_bytes(struct buffer *buffer, const void *bytes, size_t size)
{
    if (buffer->size + size > buffer->capacity) {
        buffer->capacity = (buffer->size + size) * 2;
        buffer->data = realloc(buffer->data, buffer->capacity);
        if (buffer->data == NULL) {
            abort();
        }
    }
    memcpy(buffer->data + buffer->size, bytes, size);
    buffer->size += size;
}

/* Encodes a marker byte and a big-endian 32-bit number. */
static void put_marked(struct buffer *buffer, unsigned char marker, uint32_t value)
{
    unsigned char bytes[] = {
        marker, value >> 24 & 0xff, value >> 16 & 0xff, value >> 8 & 0xff, value & 0xff,
    };

    put_bytes(buffer, bytes, sizeof(bytes));
}

void put_map(struct buffer *buffer, uint32_t entries)
{
    put_marked(buffer, 0xdf, entries);
}

void put_array(struct buffer *buffer, uint32_t entries)
{
    put_marked(buffer, 0xdd, entries);
}

void put_text(struct buffer *buffer, const char *text, size_t size)
{
    put_marked(buffer, 0xdb, (uint32_t) size);
    put_bytes(buffer, text, size);
}

void put_string(struct buffer *buffer, const char *text)
{
    put_text(buffer, text, strlen(text));
}

static void put_time(struct buffer *buffer, uint32_t seconds, uint32_t nanos)
{
    unsigned char bytes[] = {
        0xd7, 0x00,
        seconds >> 24 & 0xff, seconds >> 16 & 0xff, seconds >> 8 & 0xff, seconds & 0xff,
        nanos >> 24 & 0xff, nanos >> 16 & 0xff, nanos >> 8 & 0xff, nanos & 0xff,
    };

    put_bytes(buffer, bytes, sizeof(bytes));
}

void put_event_head(struct buffer *buffer, uint32_t seconds, uint32_t nanos)
{
    put_bytes(buffer, "\x92\x92", 2);
    put_time(buffer, seconds, nanos);
    put_bytes(buffer, "\x80", 1);
}

void put_old_event_head(struct buffer *buffer, uint32_t seconds, uint32_t nanos)
{
    put_bytes(buffer, "\x92", 1);
    put_time(buffer, seconds, nanos);
}

void put_event(struct buffer *buffer, const char *text)
{
    put_event_head(buffer, 1772366400, 123456000);
    put_map(buffer, 1);
    put_string(buffer, "log");
    put_string(buffer, text);
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    memset(buffer, 0, sizeof(*buffer));
}
