/* Records of the log: their payloads, out and in. Any thread; no state.
 *
 * All numbers are little-endian. Every payload begins with
 *
 *      0  u8   type            1  u8[3]  zero
 *      4  u32  n               8  u8[16] uuid
 *
 * and goes on at byte 24, by type:
 *
 *   CREATE   n: bytes of the name. u32 dimension, distance, m, ef_construction, ef_search, shards;
 *            u64 seed; the name.
 *   DROP     n: 0.
 *   ADD      n: items. u32 dimension, u32 zero; for each item {u16 id bytes, u16 1 when it has
 *            metadata, u32 metadata bytes}; the rows, n x dimension float32; each item's id and
 *            metadata, without anything between.
 *   DELETE   as ADD, with dimension 0 and so without rows.
 *   RESHARD  n: shards.
 *
 * Invariant: what lh_record_decode takes, lh_record_encode gives back byte for byte. */
#include "store/record.h"

#include "ext/batch.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "structs below are the bytes on disk");

struct head {
    uint8_t type;
    uint8_t zero[3];
    uint32_t n;
    uint8_t uuid[16];
};

struct create {
    uint32_t dimension;
    uint32_t distance;
    uint32_t m;
    uint32_t ef_construction;
    uint32_t ef_search;
    uint32_t shards;
    uint64_t seed;
};

struct items {
    uint32_t dimension;
    uint32_t zero;
};

struct item {
    uint16_t id_bytes;
    uint16_t has_metadata;
    uint32_t metadata_bytes;
};

_Static_assert(sizeof(struct head) == LH_RECORD_BYTES_MIN && sizeof(struct create) == 32 &&
                   sizeof(struct items) == 8 && sizeof(struct item) == 8,
               "no padding");

static bool has_batch(enum lh_record_type type)
{
    return type == LH_RECORD_ADD || type == LH_RECORD_DELETE;
}

static size_t row_floats(const struct lh_record *record)
{
    return record->type == LH_RECORD_ADD ? (size_t)record->batch.count * record->batch.dimension
                                         : 0;
}

size_t lh_record_bytes(const struct lh_record *record)
{
    const struct lh_batch *batch = &record->batch;
    size_t bytes = sizeof(struct head);
    if (record->type == LH_RECORD_CREATE)
        bytes += sizeof(struct create) + strlen(record->params.name);
    if (has_batch(record->type)) {
        bytes += sizeof(struct items) + batch->count * sizeof(struct item);
        bytes += row_floats(record) * sizeof(float);
        for (uint32_t i = 0; i < batch->count; i++)
            bytes += batch->items[i].id.len +
                     (batch->items[i].metadata.ptr != NULL ? batch->items[i].metadata.len : 0);
    }
    return bytes;
}

/* ---- out: room for all of it is there ---- */

static char *put(char *at, const void *bytes, size_t len)
{
    if (len > 0)
        memcpy(at, bytes, len);
    return at + len;
}

static char *put_create(char *at, const struct lh_index_params *params)
{
    struct create create = {.dimension = params->dimension,
                            .distance = params->distance,
                            .m = params->m,
                            .ef_construction = params->ef_construction,
                            .ef_search = params->ef_search,
                            .shards = params->shards,
                            .seed = params->seed};
    at = put(at, &create, sizeof create);
    return put(at, params->name, strlen(params->name));
}

static char *put_batch(char *at, const struct lh_record *record)
{
    const struct lh_batch *batch = &record->batch;
    struct items items = {.dimension = record->type == LH_RECORD_ADD ? batch->dimension : 0};
    at = put(at, &items, sizeof items);
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct lh_batch_item *from = &batch->items[i];
        struct item item = {.id_bytes = (uint16_t)from->id.len};
        assert(from->id.len <= LH_ID_BYTES_MAX);
        if (from->metadata.ptr != NULL) {
            assert(from->metadata.len <= LH_METADATA_BYTES_MAX);
            item.has_metadata = 1;
            item.metadata_bytes = (uint32_t)from->metadata.len;
        }
        at = put(at, &item, sizeof item);
    }
    at = put(at, batch->rows, row_floats(record) * sizeof(float));
    for (uint32_t i = 0; i < batch->count; i++) {
        at = put(at, batch->items[i].id.ptr, batch->items[i].id.len);
        if (batch->items[i].metadata.ptr != NULL)
            at = put(at, batch->items[i].metadata.ptr, batch->items[i].metadata.len);
    }
    return at;
}

enum lh_status lh_record_encode(const struct lh_record *record, struct lh_buf *out)
{
    struct head head = {.type = (uint8_t)record->type};
    size_t bytes = lh_record_bytes(record);
    char *at;
    if (lh_buf_reserve(out, bytes) != LH_OK)
        return LH_OUT_OF_MEMORY;
    if (record->type == LH_RECORD_CREATE)
        head.n = (uint32_t)strlen(record->params.name);
    else if (record->type == LH_RECORD_RESHARD)
        head.n = record->shards;
    else if (has_batch(record->type))
        head.n = record->batch.count;
    memcpy(head.uuid, record->uuid, sizeof head.uuid);
    at = put(out->ptr + out->len, &head, sizeof head);
    if (record->type == LH_RECORD_CREATE)
        at = put_create(at, &record->params);
    else if (has_batch(record->type))
        at = put_batch(at, record);
    out->len += bytes;
    assert(at == out->ptr + out->len);
    return LH_OK;
}

/* ---- in ---- */

struct input {
    const char *bytes;
    size_t len;
    size_t at;
    struct lh_error *error;
};

#define CORRUPT(in, offset, ...) corrupt((in)->error, (offset), __VA_ARGS__)

__attribute__((format(printf, 3, 4))) static enum lh_status
corrupt(struct lh_error *error, size_t offset, const char *format, ...)
{
    char text[128];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return lh_error_set(error, LH_CORRUPT, "byte %zu: %s", offset, text);
}

/* The next `len` bytes; NULL with the error when there are fewer. */
static const void *take(struct input *in, size_t len, const char *what, enum lh_status *status)
{
    const char *bytes = in->bytes + in->at;
    if (len > in->len - in->at) {
        *status =
            CORRUPT(in, in->at, "%s needs %zu bytes, %zu are left", what, len, in->len - in->at);
        return NULL;
    }
    in->at += len;
    return bytes;
}

static enum lh_status take_create(struct input *in, uint32_t name_bytes,
                                  struct lh_index_params *params)
{
    enum lh_status status = LH_OK;
    size_t begin = in->at;
    struct create create;
    const void *bytes = take(in, sizeof create, "an index", &status);
    if (bytes == NULL)
        return status;
    memcpy(&create, bytes, sizeof create);
    if (create.dimension < 1 || create.dimension > LH_DIMENSION_MAX)
        return CORRUPT(in, begin, "dimension %u", create.dimension);
    if (create.distance > 2)
        return CORRUPT(in, begin + 4, "distance %u", create.distance);
    if (create.m < LH_M_MIN || create.m > LH_M_MAX)
        return CORRUPT(in, begin + 8, "m %u", create.m);
    if (create.ef_construction < 1 || create.ef_construction > LH_EF_MAX)
        return CORRUPT(in, begin + 12, "ef_construction %u", create.ef_construction);
    if (create.ef_search < 1 || create.ef_search > LH_EF_MAX)
        return CORRUPT(in, begin + 16, "ef_search %u", create.ef_search);
    if (create.shards < 1 || create.shards > LH_SHARDS_MAX)
        return CORRUPT(in, begin + 20, "%u shards", create.shards);
    begin = in->at;
    bytes = take(in, name_bytes, "the name", &status);
    if (bytes == NULL)
        return status;
    if (!lh_index_name_is_valid((struct lh_str){bytes, name_bytes}))
        return CORRUPT(in, begin, "not the name of an index");
    *params = (struct lh_index_params){.dimension = create.dimension,
                                       .distance = create.distance,
                                       .m = create.m,
                                       .ef_construction = create.ef_construction,
                                       .ef_search = create.ef_search,
                                       .shards = create.shards,
                                       .seed = create.seed};
    memcpy(params->name, bytes, name_bytes);
    return LH_OK;
}

/* An id or a metadata text, copied into the batch. */
static enum lh_status take_text(struct input *in, size_t len, const char *what,
                                struct lh_batch *batch, struct lh_str *text)
{
    enum lh_status status = LH_OK;
    size_t begin = in->at;
    const char *bytes = take(in, len, what, &status);
    char *copy;
    if (bytes == NULL)
        return status;
    if (!lh_str_is_utf8((struct lh_str){bytes, len}))
        return CORRUPT(in, begin, "%s is not UTF-8", what);
    copy = lh_batch_bytes(batch, len);
    if (copy == NULL)
        return lh_error_set(in->error, LH_OUT_OF_MEMORY, "no memory for a record");
    memcpy(copy, bytes, len);
    *text = (struct lh_str){copy, len};
    return LH_OK;
}

/* One item but for its row; `item` is what the table says of it. */
static enum lh_status take_item(struct input *in, size_t table_at, struct item item,
                                struct lh_batch *batch, struct lh_batch_item *out)
{
    enum lh_status status;
    if (item.id_bytes < 1 || item.id_bytes > LH_ID_BYTES_MAX)
        return CORRUPT(in, table_at, "an id of %u bytes", item.id_bytes);
    if (item.has_metadata > 1)
        return CORRUPT(in, table_at + 2, "flags %#x", item.has_metadata);
    if (item.metadata_bytes > LH_METADATA_BYTES_MAX ||
        (item.metadata_bytes >= 2) != (item.has_metadata == 1) || item.metadata_bytes == 1)
        return CORRUPT(in, table_at + 4, "metadata of %u bytes", item.metadata_bytes);
    status = take_text(in, item.id_bytes, "an id", batch, &out->id);
    if (status != LH_OK || item.has_metadata == 0)
        return status;
    status = take_text(in, item.metadata_bytes, "metadata", batch, &out->metadata);
    if (status != LH_OK)
        return status;
    if (out->metadata.ptr[0] != '{' || out->metadata.ptr[out->metadata.len - 1] != '}')
        return CORRUPT(in, in->at - item.metadata_bytes, "metadata is not an object");
    return LH_OK;
}

static enum lh_status check_row(struct input *in, const float *row, uint32_t dimension)
{
    for (uint32_t i = 0; i < dimension; i++)
        if (!isfinite(row[i]))
            return CORRUPT(in, (size_t)((const char *)&row[i] - in->bytes), "not a finite number");
    return LH_OK;
}

static enum lh_status take_items(struct input *in, uint32_t count, uint32_t dimension,
                                 struct lh_batch *batch)
{
    enum lh_status status = LH_OK;
    size_t table_at = in->at;
    const char *table = take(in, count * sizeof(struct item), "the table of items", &status);
    const float *rows =
        table == NULL ? NULL : take(in, count * sizeof(float) * dimension, "the rows", &status);
    for (uint32_t i = 0; i < count && status == LH_OK; i++) {
        struct lh_batch_item item = {.dimension = dimension};
        const float *row = rows + (size_t)i * dimension;
        struct item entry;
        memcpy(&entry, table + i * sizeof entry, sizeof entry);
        status = take_item(in, table_at + i * sizeof entry, entry, batch, &item);
        if (status == LH_OK)
            status = check_row(in, row, dimension);
        if (status != LH_OK)
            break;
        status =
            dimension > 0 ? lh_batch_add_row(batch, &item, row, count) : lh_batch_add(batch, &item);
        if (status != LH_OK)
            (void)lh_error_set(in->error, status, "no memory for a record");
    }
    return status;
}

static enum lh_status take_batch(struct input *in, const struct head *head, struct lh_batch *batch)
{
    enum lh_status status = LH_OK;
    size_t begin = in->at;
    struct items items;
    const void *bytes = take(in, sizeof items, "a batch", &status);
    if (bytes == NULL)
        return status;
    memcpy(&items, bytes, sizeof items);
    if (items.zero != 0)
        return CORRUPT(in, begin + 4, "not zero");
    if (head->type == LH_RECORD_DELETE ? items.dimension != 0
                                       : items.dimension < 1 || items.dimension > LH_DIMENSION_MAX)
        return CORRUPT(in, begin, "dimension %u", items.dimension);
    batch->dimension = items.dimension; /* of an empty batch too */
    return take_items(in, head->n, items.dimension, batch);
}

static enum lh_status take_body(struct input *in, const struct head *head, struct lh_record *record)
{
    switch (record->type) {
    case LH_RECORD_CREATE:
        return take_create(in, head->n, &record->params);
    case LH_RECORD_DROP:
        return head->n == 0 ? LH_OK : CORRUPT(in, 4, "not zero");
    case LH_RECORD_ADD:
    case LH_RECORD_DELETE:
        return take_batch(in, head, &record->batch);
    case LH_RECORD_RESHARD:
        record->shards = head->n;
        return head->n >= 1 && head->n <= LH_SHARDS_MAX ? LH_OK
                                                        : CORRUPT(in, 4, "%u shards", head->n);
    }
    return CORRUPT(in, 0, "type %u", head->type);
}

enum lh_status lh_record_decode(const void *bytes, size_t len, struct lh_record *record,
                                struct lh_error *error)
{
    struct input in = {bytes, len, 0, error};
    enum lh_status status = LH_OK;
    struct head head;
    const void *begin;
    assert((uintptr_t)bytes % sizeof(float) == 0);
    *record = (struct lh_record){0};
    lh_batch_init(&record->batch);
    begin = take(&in, sizeof head, "a record", &status);
    if (begin == NULL)
        return status;
    memcpy(&head, begin, sizeof head);
    if (head.zero[0] != 0 || head.zero[1] != 0 || head.zero[2] != 0)
        return CORRUPT(&in, 1, "not zero");
    record->type = head.type;
    memcpy(record->uuid, head.uuid, sizeof head.uuid);
    status = take_body(&in, &head, record);
    memcpy(record->params.uuid, head.uuid, sizeof head.uuid);
    if (status == LH_OK && in.at != len)
        status = CORRUPT(&in, in.at, "%zu bytes too many", len - in.at);
    if (status != LH_OK)
        lh_record_deinit(record);
    return status;
}

void lh_record_deinit(struct lh_record *record)
{
    lh_batch_deinit(&record->batch);
    *record = (struct lh_record){0};
}
