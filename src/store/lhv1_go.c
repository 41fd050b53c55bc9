/* LHV1 version 1: the envelope's metadata by id, then the graph's layers node by node. Runs on the
 * thread that loads an index, which may block.
 *
 * Layer 0 holds every node and is all that is kept; the layers above are read to the end to know
 * that the file is whole. Links are only stepped over: the library leaves those of deleted nodes
 * behind (of 200 nodes, 60 deleted, about a quarter of the links of the rest lead nowhere), so that
 * links to missing nodes are no sign of a damaged file, and the graph is built anew anyway.
 *
 * Invariants: nothing is allocated by a number in the file that the file's own size does not bear
 * out; an id is in the table once it is seen in layer 0 or has metadata. */
#include "store/lhv1_go.h"

#include "ext/batch.h"
#include "ext/json.h"
#include "store/lhv1_envelope.h"
#include "store/lhv1_ids.h"
#include "store/lhv1_window.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#define GRAPH_VERSION 1u

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rows are copied as they stand");
_Static_assert(LH__WINDOW_BYTES >= LH_DIMENSION_MAX * sizeof(float), "a vector fits");

struct lh_lhv1_go {
    struct lh__lhv1_text text; /* its metadata is borrowed from here */
    struct lh_index_params params;
    struct lh__lhv1_ids ids;
    struct lh__window window;
    struct lh_lhv1_go_facts facts;
    uint64_t nodes_left; /* of layer 0 */
    bool is_done;
    float row[LH_DIMENSION_MAX]; /* aligned, as a file's are not */
};

/* ---- opening ---- */

/* Enters one member of "metadata": which id has it, and where it stands. */
static enum lh_status enter_metadata(struct lh_lhv1_go *reader, struct lh_str name,
                                     struct lh_str value, struct lh_error *error)
{
    char id[LH_ID_BYTES_MAX * LH_JSON_ESCAPE_MAX + 2];
    size_t at = (size_t)(name.ptr - reader->text.bytes.ptr);
    size_t len = 0;
    struct lh_json_fault fault;
    struct lh__lhv1_id *slot;
    if (name.len > sizeof id || !lh_json_unescape(name, id, &len, &fault) || len == 0 ||
        len > LH_ID_BYTES_MAX)
        return lh_error_set(error, LH_CORRUPT, "byte %zu: metadata: an id is not of 1 to %u bytes",
                            at, LH_ID_BYTES_MAX);
    slot = lh__lhv1_ids_put(&reader->ids, (struct lh_str){id, len});
    if (slot == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the ids");
    if (slot->metadata_at != 0)
        return lh_error_set(error, LH_CORRUPT, "byte %zu: metadata: this id is there twice", at);
    slot->metadata_at = (uint32_t)(value.ptr - reader->text.bytes.ptr);
    slot->metadata_len = (uint32_t)value.len;
    return LH_OK;
}

static enum lh_status read_envelope(struct lh_lhv1_go *reader, struct lh_disk *disk, int file,
                                    struct lh_error *error)
{
    struct lh_lhv1_envelope envelope = {0};
    struct lh_json_walk walk;
    struct lh_str metadata;
    struct lh_str name;
    struct lh_str value;
    enum lh_status status = lh__lhv1_text_read(disk, file, &reader->text, error);
    if (status != LH_OK)
        return status;
    assert(reader->text.version == 1);
    status = lh__lhv1_parse_go(&reader->text, &envelope, &metadata, error);
    reader->params = envelope.params;
    lh_lhv1_envelope_deinit(&envelope);
    if (status != LH_OK)
        return status;
    walk = lh_json_walk_begin(metadata);
    while (status == LH_OK && lh_json_step(&walk, &name, &value))
        status = enter_metadata(reader, name, value, error);
    return status;
}

/* The least that a node takes: lengths of key, vector and links, one byte of key, the vector. */
static uint64_t node_bytes_least(const struct lh_lhv1_go *reader)
{
    return 4 + (uint64_t)reader->params.dimension * sizeof(float);
}

/* The graph's parameters say again what the envelope said. */
static enum lh_status read_header(struct lh_lhv1_go *reader, struct lh_error *error)
{
    struct lh__window *window = &reader->window;
    const char *distance = lh_lhv1_distance_name(reader->params.distance);
    uint64_t m = reader->params.m;
    uint64_t number;
    uint64_t at;
    const uint8_t *bytes;
    double ml;
    enum lh_status status =
        lh__window_number(window, 0, INT64_MAX, "the graph's version", &number, error);
    if (status == LH_OK && number != GRAPH_VERSION)
        return lh_error_set(error, LH_NOT_IMPLEMENTED,
                            "version %" PRIu64 " of the graph's encoding is not known, 1 is",
                            number);
    if (status == LH_OK)
        status = lh__window_number(window, m, m, "the graph's M", &number, error);
    at = lh__window_offset(window);
    if (status == LH_OK)
        status = lh__window_take(window, sizeof ml, "the graph's Ml", &bytes, error);
    if (status != LH_OK)
        return status;
    memcpy(&ml, bytes, sizeof ml);
    if (!isfinite(ml) || ml <= 0)
        return lh_error_set(error, LH_CORRUPT, "byte %" PRIu64 ": the graph's Ml is %g", at, ml);
    status = lh__window_number(window, 1, INT32_MAX, "the graph's EfSearch", &number, error);
    at = lh__window_offset(window);
    if (status == LH_OK)
        status = lh__window_count(window, 1, "characters of a distance", &number, error);
    if (status == LH_OK && number != strlen(distance))
        return lh_error_set(error, LH_CORRUPT,
                            "byte %" PRIu64 ": the graph's distance is not the envelope's %s", at,
                            distance);
    if (status == LH_OK)
        status = lh__window_take(window, number, "the graph's distance", &bytes, error);
    if (status == LH_OK && memcmp(bytes, distance, number) != 0)
        return lh_error_set(error, LH_CORRUPT,
                            "byte %" PRIu64 ": the graph's distance is not the envelope's %s", at,
                            distance);
    return status;
}

enum lh_status lh_lhv1_go_open(struct lh_disk *disk, int file, struct lh_lhv1_go **reader,
                               struct lh_error *error)
{
    struct lh_lhv1_go *made = calloc(1, sizeof *made);
    enum lh_status status;
    if (made == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to read a file");
    status = read_envelope(made, disk, file, error);
    if (status == LH_OK)
        status = lh__window_init(&made->window, disk, file, made->text.file_bytes,
                                 made->text.bytes.len, error);
    if (status == LH_OK)
        status = read_header(made, error);
    if (status == LH_OK)
        status = lh__window_count(&made->window, 1, "layers", &made->facts.layers, error);
    if (status == LH_OK && made->facts.layers > 0)
        status = lh__window_count(&made->window, node_bytes_least(made), "nodes of layer 0",
                                  &made->facts.items, error);
    if (status != LH_OK) {
        lh_lhv1_go_close(made);
        return status;
    }
    made->nodes_left = made->facts.items;
    *reader = made;
    return LH_OK;
}

void lh_lhv1_go_close(struct lh_lhv1_go *reader)
{
    if (reader == NULL)
        return;
    lh__window_deinit(&reader->window);
    lh__lhv1_ids_deinit(&reader->ids);
    lh__lhv1_text_deinit(&reader->text);
    free(reader);
}

struct lh_lhv1_go_facts lh_lhv1_go_facts(const struct lh_lhv1_go *reader)
{
    return reader->facts;
}

/* ---- nodes ---- */

/* A key, which stays until the next take from the window. */
static enum lh_status read_key(struct lh_lhv1_go *reader, struct lh_str *key,
                               struct lh_error *error)
{
    uint64_t at = lh__window_offset(&reader->window);
    uint64_t len;
    const uint8_t *bytes;
    enum lh_status status =
        lh__window_number(&reader->window, 1, LH_ID_BYTES_MAX, "bytes of an id", &len, error);
    if (status == LH_OK)
        status = lh__window_take(&reader->window, len, "an id", &bytes, error);
    if (status != LH_OK)
        return status;
    *key = (struct lh_str){(const char *)bytes, len};
    if (!lh_str_is_utf8(*key))
        return lh_error_set(error, LH_CORRUPT, "byte %" PRIu64 ": an id that is not UTF-8", at);
    return LH_OK;
}

/* Reads a vector into reader->row. */
static enum lh_status read_vector(struct lh_lhv1_go *reader, struct lh_error *error)
{
    uint32_t dimension = reader->params.dimension;
    uint64_t number;
    uint64_t at;
    const uint8_t *bytes;
    enum lh_status status = lh__window_number(&reader->window, dimension, dimension,
                                              "numbers of a vector", &number, error);
    at = lh__window_offset(&reader->window);
    if (status == LH_OK)
        status =
            lh__window_take(&reader->window, dimension * sizeof(float), "a vector", &bytes, error);
    if (status != LH_OK)
        return status;
    memcpy(reader->row, bytes, dimension * sizeof(float));
    for (uint32_t i = 0; i < dimension; i++) {
        if (!isfinite(reader->row[i]))
            return lh_error_set(error, LH_CORRUPT,
                                "byte %" PRIu64 ": %s in a vector is not a finite number",
                                at + i * sizeof(float), isnan(reader->row[i]) ? "NaN" : "infinity");
    }
    return LH_OK;
}

static enum lh_status skip_links(struct lh_lhv1_go *reader, struct lh_error *error)
{
    struct lh_str key;
    uint64_t count;
    enum lh_status status = lh__window_count(&reader->window, 2, "links of a node", &count, error);
    for (uint64_t i = 0; status == LH_OK && i < count; i++)
        status = read_key(reader, &key, error);
    return status;
}

/* Notes that the node of `key` is in `layer`; each is there once, and in layer 0 too. */
static enum lh_status enter_node(struct lh_lhv1_go *reader, struct lh_str key, uint64_t layer,
                                 uint64_t at, struct lh__lhv1_id **slot, struct lh_error *error)
{
    *slot = layer == 0 ? lh__lhv1_ids_put(&reader->ids, key) : lh__lhv1_ids_find(&reader->ids, key);
    if (*slot == NULL && layer == 0)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the ids");
    if (*slot == NULL)
        return lh_error_set(error, LH_CORRUPT,
                            "byte %" PRIu64 ": a node of layer %" PRIu64 " is not in layer 0", at,
                            layer);
    if ((*slot)->layer == layer + 1)
        return lh_error_set(error, LH_CORRUPT,
                            "byte %" PRIu64 ": this id is twice in layer %" PRIu64, at, layer);
    (*slot)->layer = layer + 1;
    return LH_OK;
}

/* ---- items ---- */

/* Copies an item's metadata into the batch, minified. The Go daemon kept any JSON value; here it
 * is an object, so that null is none, and anything else becomes a member of one. */
static enum lh_status take_metadata(struct lh_lhv1_go *reader, const struct lh__lhv1_id *slot,
                                    struct lh_batch *batch, struct lh_str *metadata,
                                    struct lh_error *error)
{
    struct lh_str value = {reader->text.bytes.ptr + slot->metadata_at, slot->metadata_len};
    bool is_object = value.len > 0 && value.ptr[0] == '{';
    struct lh_str open = is_object ? LH_STR("") : LH_STR("{\"value\":");
    struct lh_str close = is_object ? LH_STR("") : LH_STR("}");
    size_t room = open.len + value.len + close.len;
    size_t len = 0;
    struct lh_json_fault fault;
    char *bytes;
    if (value.len == 0 || lh_str_eq(value, LH_STR("null")))
        return LH_OK;
    bytes = lh_batch_bytes(batch, room);
    if (bytes == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for metadata");
    memcpy(bytes, open.ptr, open.len);
    if (!lh_json_check(value, LH_METADATA_DEPTH_MAX - !is_object, bytes + open.len, &len, &fault))
        return lh_error_set(error, LH_CORRUPT, "byte %zu: metadata: %s",
                            slot->metadata_at + fault.offset, fault.reason);
    memcpy(bytes + open.len + len, close.ptr, close.len);
    len += open.len + close.len;
    if (len > LH_METADATA_BYTES_MAX)
        return lh_error_set(error, LH_CORRUPT,
                            "byte %" PRIu32 ": metadata of %zu bytes, the limit is %u",
                            slot->metadata_at, len, LH_METADATA_BYTES_MAX);
    lh_batch_give_back(batch, room - len);
    *metadata = (struct lh_str){bytes, len};
    reader->facts.metadata++;
    reader->facts.wrapped += !is_object;
    return LH_OK;
}

static bool is_zero(const float *row, uint32_t dimension)
{
    for (uint32_t i = 0; i < dimension; i++) {
        if (row[i] != 0)
            return false;
    }
    return true;
}

/* Reads a node of layer 0 and makes it the batch's next item. */
static enum lh_status read_item(struct lh_lhv1_go *reader, size_t rows_expected,
                                struct lh_batch *batch, struct lh_error *error)
{
    struct lh_batch_item item = {.dimension = reader->params.dimension};
    uint64_t at = lh__window_offset(&reader->window);
    struct lh__lhv1_id *slot;
    struct lh_str key;
    char *id;
    enum lh_status status = read_key(reader, &key, error);
    if (status == LH_OK)
        status = enter_node(reader, key, 0, at, &slot, error);
    if (status != LH_OK)
        return status;
    id = lh_batch_bytes(batch, key.len);
    if (id == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the ids");
    memcpy(id, key.ptr, key.len);
    item.id = (struct lh_str){id, key.len};
    status = read_vector(reader, error);
    if (status == LH_OK)
        status = skip_links(reader, error);
    if (status != LH_OK)
        return status;
    if (reader->params.distance == 0 && is_zero(reader->row, item.dimension)) {
        reader->facts.zero_vectors++;
        lh_batch_give_back(batch, key.len);
        return LH_OK;
    }
    status = take_metadata(reader, slot, batch, &item.metadata, error);
    if (status == LH_OK && lh_batch_add_row(batch, &item, reader->row, rows_expected) != LH_OK)
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the vectors");
    return status;
}

/* ---- the end ---- */

/* Metadata without an item says that the item is missing. */
static enum lh_status check_metadata(const struct lh_lhv1_go *reader, struct lh_error *error)
{
    for (size_t i = 0; i < reader->ids.capacity; i++) {
        const struct lh__lhv1_id *slot = &reader->ids.slots[i];
        if (slot->low != 0 && slot->layer == 0)
            return lh_error_set(error, LH_CORRUPT,
                                "byte %" PRIu32 ": metadata of an id that the graph does not have",
                                slot->metadata_at);
    }
    return LH_OK;
}

static enum lh_status read_upper_layer(struct lh_lhv1_go *reader, uint64_t layer,
                                       struct lh_error *error)
{
    uint64_t count;
    enum lh_status status = lh__window_count(&reader->window, node_bytes_least(reader),
                                             "nodes of a layer", &count, error);
    for (uint64_t i = 0; status == LH_OK && i < count; i++) {
        uint64_t at = lh__window_offset(&reader->window);
        struct lh__lhv1_id *slot;
        struct lh_str key;
        status = read_key(reader, &key, error);
        if (status == LH_OK)
            status = enter_node(reader, key, layer, at, &slot, error);
        if (status == LH_OK)
            status = read_vector(reader, error);
        if (status == LH_OK)
            status = skip_links(reader, error);
    }
    return status;
}

/* Behind layer 0: LH_NOT_FOUND when the rest of the file is as it should be. */
static enum lh_status finish(struct lh_lhv1_go *reader, struct lh_error *error)
{
    enum lh_status status = check_metadata(reader, error);
    for (uint64_t layer = 1; status == LH_OK && layer < reader->facts.layers; layer++)
        status = read_upper_layer(reader, layer, error);
    if (status != LH_OK)
        return status;
    if (lh__window_left(&reader->window) > 0)
        return lh_error_set(error, LH_CORRUPT,
                            "byte %" PRIu64 ": %" PRIu64 " bytes behind the graph's end",
                            lh__window_offset(&reader->window), lh__window_left(&reader->window));
    reader->is_done = true;
    return LH_NOT_FOUND;
}

enum lh_status lh_lhv1_go_next(struct lh_lhv1_go *reader, struct lh_batch *batch,
                               struct lh_error *error)
{
    size_t row_bytes = reader->params.dimension * sizeof(float);
    uint64_t wanted = LH_LHV1_GO_BATCH_BYTES / row_bytes;
    enum lh_status status = LH_OK;
    lh_batch_init(batch);
    if (wanted > LH_LHV1_GO_BATCH_ITEMS)
        wanted = LH_LHV1_GO_BATCH_ITEMS;
    if (wanted > reader->nodes_left)
        wanted = reader->nodes_left;
    while (status == LH_OK && reader->nodes_left > 0 && batch->count < wanted) {
        status = read_item(reader, wanted, batch, error);
        reader->nodes_left--;
    }
    if (status == LH_OK && batch->count == 0)
        status = reader->is_done ? LH_NOT_FOUND : finish(reader, error);
    if (status != LH_OK)
        lh_batch_deinit(batch);
    return status;
}
