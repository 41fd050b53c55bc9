/* LHV1 version 1, as the Go daemon wrote it: items out of one, in batches.
 *
 * Its graph is not taken over: it is built anew from the items, and the next checkpoint writes
 * version 2. docs/FORMAT.md has the bytes, and what is refused. */
#ifndef LH_STORE_LHV1_GO_H
#define LH_STORE_LHV1_GO_H

#include "store/lhv1.h"

#define LH_LHV1_GO_BATCH_ITEMS 1024u
#define LH_LHV1_GO_BATCH_BYTES (8u << 20) /* of rows: at 65,535 dimensions, 32 items */

struct lh_lhv1_go;

/* What the file holds; `items` and `layers` are known when it is open, the rest at its end. */
struct lh_lhv1_go_facts {
    uint64_t items;
    uint64_t layers;
    uint64_t metadata; /* items that have some */
    /* Items that were left out: zero vectors under cosine, which have no direction. The Go library
     * took them, and no search could find them. */
    uint64_t zero_vectors;
    /* Items whose metadata was no object: it has become {"value": ...}. */
    uint64_t wrapped;
};

/* Opens what lh_lhv1_envelope_read has found to be version 1. The file must stay open until close,
 * and whoever calls must be allowed to block. */
LH_MUST_USE enum lh_status lh_lhv1_go_open(struct lh_disk *disk, int file,
                                           struct lh_lhv1_go **reader, struct lh_error *error);

/* The next items with rows and metadata; the caller deinitialises the batch. LH_NOT_FOUND: there
 * were no more, and the rest of the file was checked too. LH_CORRUPT names the byte, and nothing
 * that came before is to be kept. `batch` is zeroed or deinitialised before. */
LH_MUST_USE enum lh_status lh_lhv1_go_next(struct lh_lhv1_go *reader, struct lh_batch *batch,
                                           struct lh_error *error);

struct lh_lhv1_go_facts lh_lhv1_go_facts(const struct lh_lhv1_go *reader);
void lh_lhv1_go_close(struct lh_lhv1_go *reader);

#endif
