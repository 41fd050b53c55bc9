/* What must hold for each body that a decoder accepts or refuses. */
#ifndef LH_TESTS_FUZZ_DECODE_CHECK_H
#define LH_TESTS_FUZZ_DECODE_CHECK_H

#include "ext/decode.h"

#include <math.h>
#include <stdlib.h>

static inline void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* The body in a buffer of its own size, so that a sanitizer sees each byte read behind it. */
static inline struct lh_buf tight_body(const uint8_t *bytes, size_t size)
{
    struct lh_buf body = LH_BUF_EMPTY;
    body.ptr = malloc(size + 1);
    check(body.ptr != NULL);
    if (size > 0) {
        memcpy(body.ptr, bytes, size);
    }
    body.len = size;
    body.cap = size + 1;
    return body;
}

/* An error becomes part of a JSON answer, so its text is UTF-8. */
static inline void check_error(const struct lh_error *error)
{
    struct lh_str text = lh_str_of(error->text);
    check(error->status != LH_OK && text.len > 0);
    check(lh_str_is_utf8(text));
}

static inline void check_rows(const struct lh_batch *batch)
{
    uint32_t whole = batch->odd_item == LH_NO_ITEM ? batch->count : batch->odd_item;
    check((uintptr_t)batch->rows % 64 == 0);
    for (size_t i = 0; i < (size_t)whole * batch->dimension; i++) {
        check(isfinite(batch->rows[i]));
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        check(batch->items[i].dimension >= 1 && batch->items[i].dimension <= LH_DIMENSION_MAX);
    }
}

/* Metadata that was accepted is accepted again, as it stands. */
static inline void check_metadata(struct lh_decoder *decoder, struct lh_str metadata)
{
    struct lh_buf body = LH_BUF_EMPTY;
    struct lh_batch batch;
    struct lh_error error;
    lh_buf_printf(&body, "{\"items\":[{\"id\":\"a\",\"vector\":[1],\"metadata\":");
    lh_buf_append_str(&body, metadata);
    lh_buf_printf(&body, "}]}");
    check(lh_decode_items(decoder, &body, &batch, &error) == LH_OK);
    check(lh_str_eq(batch.items[0].metadata, metadata));
    lh_batch_deinit(&batch);
    lh_buf_deinit(&body);
}

static inline void check_items(struct lh_decoder *decoder, const struct lh_batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct lh_batch_item *item = &batch->items[i];
        check(item->id.len >= 1 && item->id.len <= LH_ID_BYTES_MAX && lh_str_is_utf8(item->id));
        if (item->metadata.ptr != NULL) {
            check(item->metadata.len >= 2 && item->metadata.len <= LH_METADATA_BYTES_MAX);
            check_metadata(decoder, item->metadata);
        }
    }
}

#endif
