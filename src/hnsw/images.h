/* Copies of what is about to change, put aside by number while a frozen state is being read.
 *
 * Memory is taken as copies come and given back a chunk at a time, so that neither the first copy
 * nor the end of many makes the owner wait. Single-owner. */
#ifndef LH_HNSW_IMAGES_H
#define LH_HNSW_IMAGES_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LH_IMAGE_CHUNK_BYTES (1u << 20)
#define LH_IMAGE_BYTES_MAX   LH_IMAGE_CHUNK_BYTES

struct lh_images {
    uint32_t *at; /* number -> 1 + place of its image, 0: none */
    size_t at_bytes;
    char **chunks;
    uint32_t count; /* of chunks */
    uint32_t capacity;
    uint32_t released; /* chunks below are given back */
    uint32_t used;     /* bytes of the last chunk */
    bool failed;       /* an image is missing, for want of memory */
};

/* For numbers below `numbers`. Takes no time that depends on it. */
LH_MUST_USE enum lh_status lh_images_init(struct lh_images *images, uint32_t numbers);
void lh_images_deinit(struct lh_images *images);

static inline bool lh_images_has(const struct lh_images *images, uint32_t number)
{
    return images->at[number] != 0;
}

/* The image of a number, aligned to 16 bytes; NULL when there is none. */
const void *lh_images_get(const struct lh_images *images, uint32_t number);

/* Room for the image of a number that has none. NULL sets `failed`, which stays. */
void *lh_images_put(struct lh_images *images, uint32_t number, size_t bytes);

/* Gives back up to `chunks` chunks; afterwards images are neither put nor got. */
void lh_images_release(struct lh_images *images, uint32_t chunks);

/* Bytes of chunks taken so far, given back or not. */
uint64_t lh_images_bytes(const struct lh_images *images);

#endif
