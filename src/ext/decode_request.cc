/* Bodies of searches and of new indexes. Runs on a decoder thread, one decoder each.
 *
 * Invariant: as in ext/decode.cc; every option of an accepted request is within its limits. */
#include "ext/decode.h"
#include "ext/reader.h"

namespace
{

using namespace lh__reader;

enum lh_status read_query(const context &c, const char *field, value v, struct lh_batch *batch)
{
    struct lh_batch_item item = {};
    const char *end = nullptr;
    enum lh_status status = read_vector(c, field, v, item.dimension, end);
    if (status == LH_OK) {
        size_t rows = c.list == nullptr ? 1 : c.text.len / (size_t)(end - c.text.ptr) + 1;
        status = lh_batch_add_row(batch, &item, c.decoder->row,
                                  rows < LH_BATCH_SEARCH_MAX ? rows : LH_BATCH_SEARCH_MAX);
        if (status != LH_OK) {
            lh_error_set(c.error, status, "not enough memory");
        }
    }
    return status;
}

enum lh_status read_queries(context &c, value list, struct lh_batch *batch)
{
    return each_element(c, "vectors", list, [&](value v) {
        if (batch->count == LH_BATCH_SEARCH_MAX) {
            context whole = c;
            whole.list = nullptr;
            return refuse(whole, "vectors", LH_LIMIT_EXCEEDED, "more than the limit of %u vectors",
                          LH_BATCH_SEARCH_MAX);
        }
        return read_query(c, "", v, batch);
    });
}

enum search_member { VECTOR, VECTORS, K, EF, WITH_METADATA, WITH_VECTOR };

constexpr const char *search_names[] = {"vector", "vectors",       "k",
                                        "ef",     "with_metadata", "with_vector"};

enum lh_status check_search(const context &c, unsigned seen,
                            const struct lh_search_request *request)
{
    bool one = (seen & 1u << VECTOR) != 0;
    bool many = (seen & 1u << VECTORS) != 0;
    if (one == many) {
        return refuse(c, "vector", LH_INVALID_ARGUMENT,
                      one ? "\"vector\" and \"vectors\" exclude one another"
                          : "\"vector\" or \"vectors\" is missing");
    }
    if (request->queries.count == 0) {
        return refuse(c, "vectors", LH_INVALID_ARGUMENT, "an empty list");
    }
    if ((uint64_t)request->queries.count * request->k > LH_BATCH_RESULTS_MAX) {
        return refuse(c, "vectors", LH_LIMIT_EXCEEDED,
                      "%u vectors with k = %u are more than the limit of %u results",
                      request->queries.count, request->k, LH_BATCH_RESULTS_MAX);
    }
    return LH_OK;
}

enum lh_status read_search(context &c, document &doc, object &root,
                           struct lh_search_request *request)
{
    unsigned seen = 0;
    enum lh_status status = each_member(c, root, search_names, seen, [&](unsigned i, value v) {
        const char *name = search_names[i];
        if ((i == VECTOR || i == VECTORS) && request->queries.count > 0) {
            return refuse(c, name, LH_INVALID_ARGUMENT,
                          "\"vector\" and \"vectors\" exclude one another");
        }
        switch (i) {
        case VECTOR:
            return read_query(c, name, v, &request->queries);
        case VECTORS:
            request->is_batch = true;
            return read_queries(c, v, &request->queries);
        case K:
            return read_integer(c, name, v, 1, LH_K_MAX, request->k);
        case EF:
            return read_integer(c, name, v, 1, LH_EF_MAX, request->ef);
        case WITH_METADATA:
            return read_bool(c, name, v, request->with_metadata);
        default:
            return read_bool(c, name, v, request->with_vector);
        }
    });
    if (status == LH_OK) {
        status = check_search(c, seen, request);
    }
    return status == LH_OK ? close(c, doc) : status;
}

enum lh_status read_name(const context &c, value v, char out[LH_NAME_BYTES_MAX + 1])
{
    size_t len = 0;
    enum lh_status status = read_string(c, "name", v, LH_NAME_BYTES_MAX, out, len);
    if (status == LH_OK && !lh_index_name_is_valid({out, len})) {
        return refuse(c, "name", LH_INVALID_ARGUMENT,
                      "\"%s\" is not a letter or digit and then letters, digits, . _ -",
                      shown({out, len}).text);
    }
    if (status == LH_OK) {
        out[len] = 0;
    }
    return status;
}

enum lh_status read_distance(const context &c, value v, uint32_t &distance)
{
    static constexpr const char *names[] = {"cosine", "euclidean", "dot"};
    char text[LH_NAME_BYTES_MAX];
    size_t len = 0;
    enum lh_status status = read_string(c, "distance", v, sizeof text, text, len);
    if (status != LH_OK) {
        return status;
    }
    for (uint32_t i = 0; i < 3; i++) {
        if (lh_str_eq({text, len}, lh_str_of(names[i]))) {
            distance = i;
            return LH_OK;
        }
    }
    return refuse(c, "distance", LH_INVALID_ARGUMENT, "\"%s\" is not cosine, euclidean or dot",
                  shown({text, len}).text);
}

enum index_member { NAME, DIMENSION, DISTANCE, M, EF_CONSTRUCTION, EF_SEARCH, SHARDS };

constexpr const char *index_names[] = {"name",      "dimension", "distance", "m", "ef_construction",
                                       "ef_search", "shards"};

constexpr const char *reshard_names[] = {"shards"};

enum lh_status read_reshard(const context &c, document &doc, object &root, uint32_t *shards)
{
    unsigned seen = 0;
    enum lh_status status = each_member(c, root, reshard_names, seen, [&](unsigned, value v) {
        return read_integer(c, "shards", v, 1, LH_SHARDS_MAX, *shards);
    });
    if (status == LH_OK && seen == 0) {
        status = refuse(c, "shards", LH_INVALID_ARGUMENT, "is missing");
    }
    return status == LH_OK ? close(c, doc) : status;
}

enum lh_status read_index(const context &c, document &doc, object &root,
                          struct lh_index_request *request)
{
    unsigned seen = 0;
    enum lh_status status = each_member(c, root, index_names, seen, [&](unsigned i, value v) {
        const char *name = index_names[i];
        switch (i) {
        case NAME:
            return read_name(c, v, request->name);
        case DIMENSION:
            return read_integer(c, name, v, 1, LH_DIMENSION_MAX, request->dimension);
        case DISTANCE:
            return read_distance(c, v, request->distance);
        case M:
            return read_integer(c, name, v, LH_M_MIN, LH_M_MAX, request->m);
        case EF_CONSTRUCTION:
            return read_integer(c, name, v, 1, LH_EF_MAX, request->ef_construction);
        case EF_SEARCH:
            return read_integer(c, name, v, 1, LH_EF_MAX, request->ef_search);
        default:
            return read_integer(c, name, v, 1, LH_SHARDS_MAX, request->shards);
        }
    });
    for (unsigned i = NAME; status == LH_OK && i <= DIMENSION; i++) {
        if ((seen & 1u << i) == 0) {
            status = refuse(c, index_names[i], LH_INVALID_ARGUMENT, "is missing");
        }
    }
    return status == LH_OK ? close(c, doc) : status;
}

} // namespace

extern "C" enum lh_status lh_decode_search(struct lh_decoder *decoder, struct lh_buf *body,
                                           struct lh_search_request *request,
                                           struct lh_error *error)
{
    document doc;
    object root;
    *request = lh_search_request();
    lh_batch_init(&request->queries);
    request->k = LH_K_DEFAULT;
    request->with_metadata = true;
    enum lh_status status = pad(body, error);
    if (status == LH_OK) {
        context c = {decoder, error, {body->ptr, body->len}};
        status = open(c, doc, root);
        if (status == LH_OK) {
            status = read_search(c, doc, root, request);
        }
    }
    if (status != LH_OK) {
        lh_batch_deinit(&request->queries);
    }
    shrink(decoder);
    return status;
}

extern "C" enum lh_status lh_decode_index(struct lh_decoder *decoder, struct lh_buf *body,
                                          struct lh_index_request *request, struct lh_error *error)
{
    document doc;
    object root;
    *request = lh_index_request();
    request->m = LH_M_DEFAULT;
    request->ef_construction = LH_EF_CONSTRUCTION_DEFAULT;
    request->ef_search = LH_EF_SEARCH_DEFAULT;
    enum lh_status status = pad(body, error);
    if (status == LH_OK) {
        context c = {decoder, error, {body->ptr, body->len}};
        status = open(c, doc, root);
        if (status == LH_OK) {
            status = read_index(c, doc, root, request);
        }
    }
    shrink(decoder);
    return status;
}

extern "C" enum lh_status lh_decode_reshard(struct lh_decoder *decoder, struct lh_buf *body,
                                            uint32_t *shards, struct lh_error *error)
{
    document doc;
    object root;
    *shards = 0;
    enum lh_status status = pad(body, error);
    if (status == LH_OK) {
        context c = {decoder, error, {body->ptr, body->len}};
        status = open(c, doc, root);
        if (status == LH_OK) {
            status = read_reshard(c, doc, root, shards);
        }
    }
    shrink(decoder);
    return status;
}

extern "C" bool lh_index_name_is_valid(struct lh_str name)
{
    if (name.len < 1 || name.len > LH_NAME_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (!plain && (i == 0 || (c != '.' && c != '_' && c != '-'))) {
            return false;
        }
    }
    return true;
}
