#include "host.h"

#include <stdlib.h>
#include <string.h>

#define CANARY_SIZE 64
#define CANARY_BYTE 0xA5

void *guarded_alloc(size_t size)
{
    unsigned char *memory = malloc(size + CANARY_SIZE);

    if (memory == NULL) {
        abort();
    }
    memset(memory, 0, size);
    memset(memory + size, CANARY_BYTE, CANARY_SIZE);
    return memory;
}

int guarded_intact(const void *memory, size_t size)
{
    const unsigned char *canary = (const unsigned char *) memory + size;

    for (int i = 0; i < CANARY_SIZE; i++) {
        if (canary[i] != CANARY_BYTE) {
            return 0;
        }
    }
    return 1;
}

void guarded_free(void *memory)
{
    free(memory);
}
