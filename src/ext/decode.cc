/* Bodies of items, ids and queries to batches. Runs on a decoder thread, one decoder each.
 *
 * Invariant: a batch that is returned with LH_OK holds only ids, numbers and metadata that the
 * contract allows; with any other status it holds nothing. */
#include "ext/decode.h"
#include "ext/reader.h"

#include <cassert>
#include <cstdlib>
#include <new>

namespace
{

using namespace lh__reader;

struct item_fields {
    struct lh_batch_item item = {};
    const char *end = nullptr; /* of the vector's text */
};

enum lh_status read_item(const context &c, value v, struct lh_batch *batch, item_fields &fields);

enum lh_status read_item_object(const context &c, object &o, struct lh_batch *batch,
                                item_fields &fields)
{
    static constexpr const char *names[] = {"id", "vector", "metadata"};
    unsigned seen = 0;
    enum lh_status status = each_member(c, o, names, seen, [&](unsigned i, value v) {
        switch (i) {
        case 0:
            return read_id(c, names[i], v, batch, fields.item.id);
        case 1:
            return read_vector(c, names[i], v, fields.item.dimension, fields.end);
        default:
            return read_metadata(c, names[i], v, batch, fields.item.metadata);
        }
    });
    for (unsigned i = 0; status == LH_OK && i < 2; i++) {
        if ((seen & 1u << i) == 0) {
            status = refuse(c, names[i], LH_INVALID_ARGUMENT, "is missing");
        }
    }
    return status;
}

enum lh_status read_item(const context &c, value v, struct lh_batch *batch, item_fields &fields)
{
    object o;
    if (token(v).ptr[0] != '{') {
        return refuse_type(c, "", "an object", v);
    }
    error_code code = v.get_object().get(o);
    return code == simdjson::SUCCESS ? read_item_object(c, o, batch, fields)
                                     : refuse_broken(c, code);
}

/* How many items a text of `len` bytes has when its first one ends after `first_len`. */
size_t guess_count(size_t len, size_t first_len)
{
    return len / first_len + 1;
}

enum lh_status add_row(const context &c, struct lh_batch *batch, const item_fields &fields,
                       size_t rows_expected)
{
    enum lh_status status = lh_batch_add_row(batch, &fields.item, c.decoder->row, rows_expected);
    return status == LH_OK ? LH_OK : lh_error_set(c.error, status, "not enough memory");
}

enum lh_status read_items(context &c, document &doc, object &root, struct lh_batch *batch)
{
    static constexpr const char *names[] = {"items"};
    unsigned seen = 0;
    enum lh_status status = each_member(c, root, names, seen, [&](unsigned, value list) {
        return each_element(c, "items", list, [&](value v) {
            item_fields fields;
            enum lh_status read = read_item(c, v, batch, fields);
            return read != LH_OK
                       ? read
                       : add_row(c, batch, fields,
                                 guess_count(c.text.len, (size_t)(fields.end - c.text.ptr)));
        });
    });
    if (status == LH_OK && seen == 0) {
        status = refuse(c, names[0], LH_INVALID_ARGUMENT, "is missing");
    }
    return status == LH_OK ? close(c, doc) : status;
}

enum lh_status read_ids(context &c, document &doc, object &root, struct lh_batch *batch)
{
    static constexpr const char *names[] = {"ids"};
    unsigned seen = 0;
    enum lh_status status = each_member(c, root, names, seen, [&](unsigned, value list) {
        return each_element(c, "ids", list, [&](value v) {
            if (batch->count == LH_BATCH_IDS_MAX) {
                context whole = c;
                whole.list = nullptr;
                return refuse(whole, "ids", LH_LIMIT_EXCEEDED, "more than the limit of %u ids",
                              LH_BATCH_IDS_MAX);
            }
            struct lh_batch_item item = {};
            enum lh_status read = read_id(c, "", v, batch, item.id);
            if (read == LH_OK && (read = lh_batch_add(batch, &item)) != LH_OK) {
                lh_error_set(c.error, read, "not enough memory");
            }
            return read;
        });
    });
    if (status == LH_OK && seen == 0) {
        status = refuse(c, names[0], LH_INVALID_ARGUMENT, "is missing");
    }
    return status == LH_OK ? close(c, doc) : status;
}

/* A body that is one document, read by `read` into `batch`. */
template <class reader>
enum lh_status decode_document(struct lh_decoder *decoder, struct lh_buf *body,
                               struct lh_batch *batch, struct lh_error *error, reader read)
{
    document doc;
    object root;
    lh_batch_init(batch);
    enum lh_status status = pad(body, error);
    if (status == LH_OK) {
        context c = {decoder, error, {body->ptr, body->len}};
        status = open(c, doc, root);
        if (status == LH_OK) {
            status = read(c, doc, root, batch);
        }
    }
    if (status != LH_OK) {
        lh_batch_deinit(batch);
    }
    shrink(decoder);
    return status;
}

/* One line that is not blank. `rest` is from its start to the end of the whole text. A line whose
 * dimension differs starts the next batch: then LH_OK, and `belongs` false. */
enum lh_status read_line(struct lh_decoder *decoder, struct lh_str text, size_t rest, uint64_t line,
                         struct lh_batch *batch, bool &belongs, struct lh_error *error)
{
    context c = {decoder, error, text, line};
    document doc;
    object root;
    item_fields fields;
    belongs = true;
    if (text.len > LH_NDJSON_LINE_BYTES_MAX) {
        return refuse(c, "", LH_LINE_TOO_LONG, "longer than the limit of %u bytes",
                      LH_NDJSON_LINE_BYTES_MAX);
    }
    enum lh_status status = open(c, doc, root);
    if (status == LH_OK) {
        status = read_item_object(c, root, batch, fields);
    }
    if (status == LH_OK) {
        status = close(c, doc);
    }
    if (status != LH_OK) {
        return status;
    }
    if (batch->count > 0 && fields.item.dimension != batch->dimension) {
        belongs = false;
        return LH_OK;
    }
    size_t expected = guess_count(rest, text.len);
    return add_row(c, batch, fields,
                   expected < LH_NDJSON_BATCH_ITEMS ? expected : LH_NDJSON_BATCH_ITEMS);
}

struct lh_str trim_line(const char *from, const char *to)
{
    while (to > from && (to[-1] == '\r' || to[-1] == ' ' || to[-1] == '\t')) {
        to--;
    }
    while (from < to && (*from == ' ' || *from == '\t' || *from == '\r')) {
        from++;
    }
    return {from, (size_t)(to - from)};
}

} // namespace

extern "C" enum lh_status lh_decoder_create(struct lh_decoder **decoder)
{
    struct lh_decoder *made = new (std::nothrow) lh_decoder();
    if (made == nullptr) {
        return LH_OUT_OF_MEMORY;
    }
    /* Base64 of LH_DIMENSION_MAX floats may carry two bytes more before its length is judged. */
    made->row = static_cast<float *>(malloc((LH_DIMENSION_MAX + 2) * sizeof(float)));
    if (made->row == nullptr) {
        delete made;
        return LH_OUT_OF_MEMORY;
    }
    *decoder = made;
    return LH_OK;
}

extern "C" void lh_decoder_destroy(struct lh_decoder *decoder)
{
    if (decoder != nullptr) {
        free(decoder->row);
        delete decoder;
    }
}

extern "C" enum lh_status lh_decode_items(struct lh_decoder *decoder, struct lh_buf *body,
                                          struct lh_batch *batch, struct lh_error *error)
{
    return decode_document(decoder, body, batch, error, read_items);
}

extern "C" enum lh_status lh_decode_ids(struct lh_decoder *decoder, struct lh_buf *body,
                                        struct lh_batch *batch, struct lh_error *error)
{
    return decode_document(decoder, body, batch, error, read_ids);
}

extern "C" enum lh_status lh_decode_ndjson(struct lh_decoder *decoder, struct lh_buf *text,
                                           size_t offset, bool is_last, uint64_t line,
                                           struct lh_batch *batch, size_t *consumed,
                                           uint64_t *lines, struct lh_error *error)
{
    assert(offset <= text->len);
    lh_batch_init(batch);
    *consumed = 0;
    *lines = 0;
    enum lh_status status = pad(text, error);
    const char *at = text->ptr + offset;
    const char *end = text->ptr + text->len;
    while (status == LH_OK && at < end && batch->count < LH_NDJSON_BATCH_ITEMS) {
        const char *newline = static_cast<const char *>(memchr(at, '\n', (size_t)(end - at)));
        bool whole = newline != nullptr || is_last;
        struct lh_str trimmed = trim_line(at, newline != nullptr ? newline : end);
        bool belongs = true;
        if (!whole && trimmed.len <= LH_NDJSON_LINE_BYTES_MAX) {
            break; /* its end is still to come */
        }
        if (trimmed.len > 0) {
            status = read_line(decoder, trimmed, (size_t)(end - at), line + *lines, batch, belongs,
                               error);
        }
        if (status != LH_OK || !belongs) {
            break;
        }
        if (trimmed.len > 0) {
            batch->items[batch->count - 1].line = (uint32_t)*lines;
        }
        at = newline != nullptr ? newline + 1 : end;
        *lines += 1;
        *consumed = (size_t)(at - (text->ptr + offset));
    }
    if (status != LH_OK && batch->count > 0) {
        status = LH_OK; /* the bad line is the first of the next call */
    }
    if (status != LH_OK) {
        lh_batch_deinit(batch);
    }
    shrink(decoder);
    return status;
}
