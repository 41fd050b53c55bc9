/* Images of a frozen state. The owner of the graph or shard runs it.
 *
 * Invariants: an image does not cross a chunk; places count units of 16 bytes over all chunks. Both
 * the table of places and the chunks are mappings of their own: zero pages that cost nothing until
 * used, and go back to the system at once. */
#include "hnsw/images.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

#define UNIT          16u
#define UNITS_A_CHUNK (LH_IMAGE_CHUNK_BYTES / UNIT)
#define CHUNKS_MAX    (UINT32_MAX / UNITS_A_CHUNK) /* places fit 32 bits: 64 GiB of images */

static void *map(size_t bytes)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return base == MAP_FAILED ? NULL : base;
}

enum lh_status lh_images_init(struct lh_images *images, uint32_t numbers)
{
    *images = (struct lh_images){.at_bytes = ((size_t)numbers + 1) * sizeof *images->at};
    images->at = map(images->at_bytes);
    return images->at != NULL ? LH_OK : LH_OUT_OF_MEMORY;
}

void lh_images_deinit(struct lh_images *images)
{
    lh_images_release(images, UINT32_MAX);
    free(images->chunks);
    if (images->at != NULL) {
        munmap(images->at, images->at_bytes);
    }
    *images = (struct lh_images){0};
}

const void *lh_images_get(const struct lh_images *images, uint32_t number)
{
    uint32_t place = images->at[number];
    if (place == 0) {
        return NULL;
    }
    place--;
    assert(place / UNITS_A_CHUNK >= images->released);
    return images->chunks[place / UNITS_A_CHUNK] + (size_t)(place % UNITS_A_CHUNK) * UNIT;
}

static bool add_chunk(struct lh_images *images)
{
    if (images->count == images->capacity) {
        uint32_t capacity = images->capacity ? 2 * images->capacity : 16;
        char **chunks = realloc(images->chunks, capacity * sizeof *chunks);
        if (chunks == NULL) {
            return false;
        }
        images->chunks = chunks;
        images->capacity = capacity;
    }
    char *chunk = images->count < CHUNKS_MAX ? map(LH_IMAGE_CHUNK_BYTES) : NULL;
    if (chunk == NULL) {
        return false;
    }
    images->chunks[images->count++] = chunk;
    images->used = 0;
    return true;
}

void *lh_images_put(struct lh_images *images, uint32_t number, size_t bytes)
{
    assert(bytes <= LH_IMAGE_BYTES_MAX && !lh_images_has(images, number));
    if (images->count == 0 || images->used + bytes > LH_IMAGE_CHUNK_BYTES) {
        if (images->failed || !add_chunk(images)) {
            images->failed = true;
            return NULL;
        }
    }
    uint32_t chunk = images->count - 1;
    images->at[number] = 1 + chunk * UNITS_A_CHUNK + images->used / UNIT;
    char *image = images->chunks[chunk] + images->used;
    images->used += (uint32_t)((bytes + UNIT - 1) / UNIT * UNIT);
    return image;
}

void lh_images_release(struct lh_images *images, uint32_t chunks)
{
    for (; chunks > 0 && images->released < images->count; chunks--) {
        munmap(images->chunks[images->released++], LH_IMAGE_CHUNK_BYTES);
    }
}

uint64_t lh_images_bytes(const struct lh_images *images)
{
    return (uint64_t)images->count * LH_IMAGE_CHUNK_BYTES;
}
