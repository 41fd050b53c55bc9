/* JSON bodies in: text to validated ids, float32 rows and metadata (simdjson on demand).
 *
 * Stateless but for reusable scratch: one `struct lh_decoder` a thread. What a request may hold is
 * checked here, all of it, with its place; what depends on the index (its dimension, its distance)
 * is noted in the batch and checked by the one who knows the index. */
#ifndef LH_EXT_DECODE_H
#define LH_EXT_DECODE_H

#include "base/buf.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LH_NO_ITEM UINT32_MAX

/* What one item is beside its row. */
struct lh_batch_item {
    struct lh_str id;       /* empty in a batch of queries */
    struct lh_str metadata; /* minified JSON text of an object; ptr NULL: it was left out */
    uint32_t dimension;     /* of its vector */
    uint32_t line;          /* NDJSON: how many lines of this call stand before it */
};

/* Items or queries in the order of the body, with all their memory. */
struct lh_batch {
    uint32_t count;
    uint32_t dimension; /* of items[0]; rows that differ are not stored, see odd_item */
    struct lh_batch_item *items;
    float *rows;        /* count x dimension, packed, 64-byte aligned */
    uint32_t odd_item;  /* first item whose dimension is not items[0]'s, or LH_NO_ITEM */
    uint32_t zero_item; /* first all-zero vector (refused under cosine), or LH_NO_ITEM */
    uint64_t bytes;     /* memory held */
    void *memory;       /* backing store; the decoder's business */
};

void lh_batch_deinit(struct lh_batch *batch);

/* A batch of one id without a row; the id is copied. `batch` is zeroed or deinitialised before. */
LH_MUST_USE enum lh_status lh_batch_of_id(struct lh_batch *batch, struct lh_str id);

struct lh_decoder;
LH_MUST_USE enum lh_status lh_decoder_create(struct lh_decoder **decoder);
void lh_decoder_destroy(struct lh_decoder *decoder);

/* Every function below borrows `body`, whose capacity may grow by the parser's padding and whose
 * text stays as it is; a batch does not point into it. Errors name the place, such as
 * "items[3].vector[17]: NaN is not a finite number" or "byte 214: ..." for broken JSON. */

/* {"items":[{"id","vector","metadata"?}, ...]}; vector is an array of numbers or base64 of
 * little-endian float32. Unknown members and members that are there twice are errors with their
 * name. An empty list is a batch of 0. Numbers become the nearest float32, as strtof gives it. */
LH_MUST_USE enum lh_status lh_decode_items(struct lh_decoder *decoder, struct lh_buf *body,
                                           struct lh_batch *batch, struct lh_error *error);

/* NDJSON: whole lines from `text`, at most LH_NDJSON_BATCH_ITEMS of them; blank lines are skipped.
 * `line` is the number of the first line of `text` (from 1), for errors ("line 12: ..."). On LH_OK
 * `consumed` and `lines` say what the batch covers. When a line is bad: with lines before it in
 * this call, those are returned as LH_OK and the bad one is left; with none, its error. A line of
 * another dimension than those before it is left for the next call too, so odd_item is never set.
 * LH_OK with `consumed` 0: the line that begins here is not whole yet. `is_last`: text after the
 * last newline is a line too. */
LH_MUST_USE enum lh_status lh_decode_ndjson(struct lh_decoder *decoder, struct lh_buf *text,
                                            size_t offset, bool is_last, uint64_t line,
                                            struct lh_batch *batch, size_t *consumed,
                                            uint64_t *lines, struct lh_error *error);

struct lh_search_request {
    struct lh_batch queries; /* one, or many for {"vectors": [...]} */
    bool is_batch;
    uint32_t k;  /* 1..LH_K_MAX */
    uint32_t ef; /* 1..LH_EF_MAX, or 0: the index's ef_search */
    bool with_metadata;
    bool with_vector;
};

/* {"vector" | "vectors", "k"?, "ef"?, "with_metadata"?, "with_vector"?} */
LH_MUST_USE enum lh_status lh_decode_search(struct lh_decoder *decoder, struct lh_buf *body,
                                            struct lh_search_request *request,
                                            struct lh_error *error);

/* {"ids": ["a", ...]}: a batch without rows. */
LH_MUST_USE enum lh_status lh_decode_ids(struct lh_decoder *decoder, struct lh_buf *body,
                                         struct lh_batch *batch, struct lh_error *error);

struct lh_index_request {
    char name[LH_NAME_BYTES_MAX + 1];
    uint32_t dimension;
    uint32_t distance; /* 0 cosine, 1 euclidean, 2 dot */
    uint32_t m;
    uint32_t ef_construction;
    uint32_t ef_search;
    uint32_t shards; /* 0: the configured default */
};

/* {"name", "dimension", "distance"?, "m"?, "ef_construction"?, "ef_search"?, "shards"?} with the
 * limits of base/limits.h; name [A-Za-z0-9][A-Za-z0-9._-]{0,127}. */
LH_MUST_USE enum lh_status lh_decode_index(struct lh_decoder *decoder, struct lh_buf *body,
                                           struct lh_index_request *request,
                                           struct lh_error *error);

/* {"shards": 4} */
LH_MUST_USE enum lh_status lh_decode_reshard(struct lh_decoder *decoder, struct lh_buf *body,
                                             uint32_t *shards, struct lh_error *error);

/* Whether `name` can be an index's name. */
bool lh_index_name_is_valid(struct lh_str name);

#ifdef __cplusplus
}
#endif

#endif
