/* Sequential reading of a file through a buffer, with the place of whatever is wrong. Private to
 * this folder. */
#ifndef LH_STORE_LHV1_WINDOW_H
#define LH_STORE_LHV1_WINDOW_H

#include "store/disk.h"

/* Holds the longest single thing, a vector, four times over: reads are of this size. */
#define LH__WINDOW_BYTES (1u << 20)

struct lh__window {
    struct lh_disk *disk;
    int file;
    uint64_t file_bytes;
    uint64_t begin; /* where in the file bytes[0] is from */
    size_t at;      /* the next byte to be taken */
    size_t len;
    uint8_t *bytes;
};

/* Starts at `offset`. */
LH_MUST_USE enum lh_status lh__window_init(struct lh__window *window, struct lh_disk *disk,
                                           int file, uint64_t file_bytes, uint64_t offset,
                                           struct lh_error *error);
void lh__window_deinit(struct lh__window *window);

/* Where in the file the next byte is, and how many are left. */
uint64_t lh__window_offset(const struct lh__window *window);
uint64_t lh__window_left(const struct lh__window *window);

/* The next `len` <= LH__WINDOW_BYTES bytes, which stay until the next take. LH_CORRUPT: the file
 * ends inside `what`. */
LH_MUST_USE enum lh_status lh__window_take(struct lh__window *window, size_t len, const char *what,
                                           const uint8_t **bytes, struct lh_error *error);

/* The next signed variable-length integer (zig-zag), which must be from `min` to `max`. */
LH_MUST_USE enum lh_status lh__window_number(struct lh__window *window, uint64_t min, uint64_t max,
                                             const char *what, uint64_t *number,
                                             struct lh_error *error);

/* The same for a count of things of at least `bytes_each` bytes, of which only so many can be in
 * the rest of the file: nothing is believed, or allocated, beyond that. */
LH_MUST_USE enum lh_status lh__window_count(struct lh__window *window, uint64_t bytes_each,
                                            const char *what, uint64_t *count,
                                            struct lh_error *error);

#endif
