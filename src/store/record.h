/* What one record of the log says: a change to one index. docs/FORMAT.md has the bytes. */
#ifndef LH_STORE_RECORD_H
#define LH_STORE_RECORD_H

#include "base/buf.h"
#include "ext/decode.h"

enum lh_record_type {
    LH_RECORD_CREATE = 1, /* a new index */
    LH_RECORD_DROP,       /* the index is gone */
    LH_RECORD_ADD,        /* upserts: ids, vectors, metadata where it was given */
    LH_RECORD_DELETE,     /* ids */
    LH_RECORD_RESHARD     /* another shard count */
};

/* What an index is, as a log record and a file's envelope both say it. */
struct lh_index_params {
    char name[LH_NAME_BYTES_MAX + 1];
    uint8_t uuid[16];
    uint32_t dimension;
    uint32_t distance; /* 0 cosine, 1 euclidean, 2 dot */
    uint32_t m;
    uint32_t ef_construction;
    uint32_t ef_search;
    uint32_t shards;
    uint64_t seed; /* of levels and rotation */
};

struct lh_record {
    enum lh_record_type type;
    uint64_t lsn;
    uint8_t uuid[16];              /* whose change this is */
    struct lh_index_params params; /* CREATE */
    uint32_t shards;               /* RESHARD */
    struct lh_batch batch;         /* ADD, DELETE; decoded: owned by the record */
};

#define LH_RECORD_BYTES_MIN 24u /* of a payload: type and uuid */

/* Appends the record's payload (type and uuid included, LSN and checksum not: the log adds them) to
 * `out`. Of a batch, the first batch.count items. LH_OUT_OF_MEMORY leaves `out` as long as it was.
 */
LH_MUST_USE enum lh_status lh_record_encode(const struct lh_record *record, struct lh_buf *out);

/* Bytes that lh_record_encode will append. */
size_t lh_record_bytes(const struct lh_record *record);

/* Reads a payload, `bytes` at a multiple of 4. Everything is checked as if it came from a client:
 * lengths, limits, UTF-8 of ids and metadata, finite numbers; that metadata is JSON is the writer's
 * word. LH_CORRUPT names the byte; `record` holds nothing then. */
LH_MUST_USE enum lh_status lh_record_decode(const void *bytes, size_t len, struct lh_record *record,
                                            struct lh_error *error);
/* Of a decoded record. */
void lh_record_deinit(struct lh_record *record);

#endif
