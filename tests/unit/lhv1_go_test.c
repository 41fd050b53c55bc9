/* store/lhv1_go: the Go daemon's files give back what went in, and broken ones are refused with
 * their place. */
#include "lhv1_help.h"

#include "ext/json_read.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* What a whole file gave. */
struct all {
    struct lh_lhv1_envelope envelope;
    struct lh_lhv1_go_facts facts;
    struct lh_batch *batches;
    uint32_t count;
    uint64_t items;
};

static void all_deinit(struct all *all)
{
    for (uint32_t i = 0; i < all->count; i++)
        lh_batch_deinit(&all->batches[i]);
    free(all->batches);
    lh_lhv1_envelope_deinit(&all->envelope);
}

static enum lh_status read_all(const struct lh_buf *file, struct all *all, struct lh_error *error)
{
    struct memory_disk disk = memory_disk_of(file);
    struct lh_lhv1_go *reader = NULL;
    enum lh_status status;
    *all = (struct all){0};
    error->text[0] = '\0';
    status = lh_lhv1_envelope_read(&disk.disk, 0, &all->envelope, error);
    if (status == LH_OK)
        status = lh_lhv1_go_open(&disk.disk, 0, &reader, error);
    while (status == LH_OK) {
        all->batches = realloc(all->batches, (all->count + 1) * sizeof *all->batches);
        assert_non_null(all->batches);
        status = lh_lhv1_go_next(reader, &all->batches[all->count], error);
        if (status == LH_OK)
            all->items += all->batches[all->count++].count;
    }
    if (status == LH_NOT_FOUND) {
        struct lh_batch batch;
        assert_int_equal(lh_lhv1_go_next(reader, &batch, error), LH_NOT_FOUND); /* and stays so */
        all->facts = lh_lhv1_go_facts(reader);
    }
    lh_lhv1_go_close(reader);
    return status;
}

static const struct lh_batch_item *find(const struct all *all, struct lh_str id, const float **row)
{
    for (uint32_t i = 0; i < all->count; i++) {
        const struct lh_batch *batch = &all->batches[i];
        for (uint32_t j = 0; j < batch->count; j++) {
            if (lh_str_eq(batch->items[j].id, id)) {
                *row = batch->rows + (size_t)j * batch->dimension;
                return &batch->items[j];
            }
        }
    }
    return NULL;
}

static const struct lh_batch_item *must_find(const struct all *all, const char *id)
{
    const float *row;
    const struct lh_batch_item *item = find(all, lh_str_of(id), &row);
    assert_non_null(item);
    return item;
}

/* ---- golden files ---- */

static void read_golden(const char *name, const char *suffix, struct lh_buf *out)
{
    char path[512];
    size_t got;
    FILE *file;
    snprintf(path, sizeof path, LH_TESTS_FOLDER "/golden/lhv1-go/%s%s", name, suffix);
    file = fopen(path, "rb");
    assert_non_null(file);
    do {
        assert_int_equal(lh_buf_reserve(out, 65536), LH_OK);
        got = fread(out->ptr + out->len, 1, 65536, file);
        out->len += got;
    } while (got > 0);
    fclose(file);
}

/* Metadata keeps the escapes that it was written with: what counts is what it says. */
static void assert_same_json(struct lh_str text, struct lh_json want)
{
    struct lh_buf a = LH_BUF_EMPTY;
    struct lh_buf b = LH_BUF_EMPTY;
    struct lh_json_doc *doc;
    struct lh_json root;
    struct lh_error error;
    assert_int_equal(lh_json_doc_create(text, &doc, &root, &error), LH_OK);
    lh_json_append(&a, root);
    lh_json_append(&b, want);
    assert_true(a.len > 0 && lh_str_eq(lh_buf_str(&a), lh_buf_str(&b)));
    lh_json_doc_destroy(doc);
    lh_buf_deinit(&a);
    lh_buf_deinit(&b);
}

static void assert_item(const struct all *all, struct lh_json want)
{
    struct lh_json metadata;
    struct lh_json vector;
    struct lh_json number;
    struct lh_json_iter numbers;
    const struct lh_batch_item *item;
    const float *row = NULL;
    struct lh_str id;
    uint32_t i = 0;
    double value;
    assert_true(lh_json_get_str(want, "id", &id) && lh_json_get(want, "vector", &vector));
    item = find(all, id, &row);
    if (item == NULL)
        fail_msg("%.*s is not there", LH_STR_FMT(id));
    for (numbers = lh_json_elements(vector); lh_json_next(&numbers, &number); i++) {
        assert_true(lh_json_as_f64(number, &value));
        assert_true(i < item->dimension && row[i] == (float)value);
    }
    assert_int_equal(i, item->dimension);
    if (lh_json_get(want, "metadata", &metadata))
        assert_same_json(item->metadata, metadata);
}

/* Reads a golden file, which must hold exactly the `items` items of its list. */
static void load_golden(const char *name, uint32_t items, struct all *all)
{
    struct lh_buf file = LH_BUF_EMPTY;
    struct lh_buf list = LH_BUF_EMPTY;
    struct lh_json_doc *doc;
    struct lh_json root;
    struct lh_json item;
    struct lh_json_iter each;
    struct lh_error error;
    read_golden(name, ".lhv1", &file);
    read_golden(name, ".lhv1.items.json", &list);
    if (read_all(&file, all, &error) != LH_NOT_FOUND)
        fail_msg("%s: %s", name, error.text);
    assert_string_equal(all->envelope.params.name, name);
    assert_int_equal(all->items, items);
    assert_int_equal(all->facts.items, items);
    assert_int_equal(lh_json_doc_create(lh_buf_str(&list), &doc, &root, &error), LH_OK);
    assert_int_equal(lh_json_count(root), items);
    for (each = lh_json_elements(root); lh_json_next(&each, &item);)
        assert_item(all, item);
    lh_json_doc_destroy(doc);
    lh_buf_deinit(&file);
    lh_buf_deinit(&list);
}

static void a_file_of_the_daemon_loads_with_all_that_went_in(void **state)
{
    struct all all;
    load_golden("go_cosine_300x16", 300, &all);
    assert_int_equal(all.envelope.version, 1);
    assert_int_equal(all.envelope.params.dimension, 16);
    assert_int_equal(all.envelope.params.distance, 0);
    assert_int_equal(all.envelope.params.m, 16);
    assert_int_equal(all.envelope.params.ef_search, 20);
    assert_int_equal(all.envelope.params.ef_construction, LH_EF_CONSTRUCTION_DEFAULT);
    assert_int_equal(all.envelope.params.shards, 0);
    assert_int_equal(all.facts.layers, 4);
    assert_int_equal(all.facts.metadata, 100);
    for (uint32_t i = 0; i < 300; i++) {
        char id[16];
        char want[64];
        struct lh_str metadata;
        snprintf(id, sizeof id, "w-%03u", i);
        snprintf(want, sizeof want, "{\"row\":%u,\"tag\":\"t%u\"}", i, i % 5);
        metadata = must_find(&all, i == 7 ? "käse/ü 7" : id)->metadata;
        if (i % 3 != 0)
            assert_null(metadata.ptr);
        else
            assert_true(lh_str_eq(metadata, lh_str_of(want)));
    }
    all_deinit(&all);
}

static void an_empty_index_loads(void **state)
{
    struct all all;
    load_golden("go_empty_8", 0, &all);
    assert_int_equal(all.facts.layers, 0);
    all_deinit(&all);
    load_golden("go_cosine_5_emptied", 0, &all);
    assert_int_equal(all.facts.layers, 5);
    all_deinit(&all);
}

/* The library leaves links to deleted nodes behind: they are no reason to lose an index. */
static void an_index_with_deleted_items_loads(void **state)
{
    struct all all;
    load_golden("go_euclidean_140x5_deleted", 140, &all);
    assert_int_equal(all.envelope.params.distance, 1);
    assert_int_equal(all.facts.layers, 5);
    assert_int_equal(all.facts.metadata, 35);
    all_deinit(&all);
}

static void a_disk_that_cannot_be_read_is_no_damaged_file(void **state)
{
    struct lh_buf file = LH_BUF_EMPTY;
    struct lh_lhv1_go *reader;
    struct lh_batch batch;
    struct lh_error error;
    read_golden("go_euclidean_140x5_deleted", ".lhv1", &file);
    for (int reads = 0; reads < 3; reads++) { /* the head, the envelope, the graph */
        struct memory_disk disk = memory_disk_of(&file);
        disk.reads_left = reads;
        assert_int_equal(lh_lhv1_go_open(&disk.disk, 0, &reader, &error), LH_IO);
        assert_int_equal(error.sys_errno, EIO);
    }
    struct memory_disk disk = memory_disk_of(&file);
    disk.reads_left = 3; /* what is in the window needs no more */
    assert_int_equal(lh_lhv1_go_open(&disk.disk, 0, &reader, &error), LH_OK);
    assert_int_equal(lh_lhv1_go_next(reader, &batch, &error), LH_OK);
    lh_batch_deinit(&batch);
    assert_int_equal(lh_lhv1_go_next(reader, &batch, &error), LH_NOT_FOUND);
    lh_lhv1_go_close(reader);
    lh_buf_deinit(&file);
}

static void a_golden_file_cut_anywhere_is_refused(void **state)
{
    struct lh_buf file = LH_BUF_EMPTY;
    struct lh_error error;
    struct all all;
    size_t whole;
    read_golden("go_euclidean_140x5_deleted", ".lhv1", &file);
    for (whole = file.len; file.len > 0;) {
        file.len = file.len > whole - 300 ? file.len - 1 : file.len - (file.len % 97 + 1);
        assert_int_equal(read_all(&file, &all, &error), LH_CORRUPT);
        assert_true(lh_str_has_prefix(lh_str_of(error.text), LH_STR("byte ")));
        all_deinit(&all);
        if (file.len < 98)
            break;
    }
    lh_buf_deinit(&file);
}

/* ---- made files ---- */

#define ENVELOPE(metadata)                                                                \
    "{\"version\":1,\"params\":{\"name\":\"a\",\"dimension\":2,\"m\":4,\"ef_search\":20," \
    "\"distance\":\"cosine\"},\"metadata\":" metadata "}"

static const float one[2] = {1, 0};

static void begin(struct lh_buf *file, const char *envelope)
{
    *file = (struct lh_buf){0};
    lhv1_head(file, (uint32_t)strlen(envelope));
    lh_buf_append_str(file, lh_str_of(envelope));
}

static void header(struct lh_buf *file, double ml, const char *distance, int64_t layers)
{
    go_int(file, 1);
    go_int(file, 4);
    lh_buf_append(file, &ml, sizeof ml);
    go_int(file, 20);
    go_string(file, distance);
    go_int(file, layers);
}

static void node(struct lh_buf *file, const char *id, const float *row, const char *link)
{
    go_string(file, id);
    go_vector(file, row, 2);
    go_int(file, link != NULL);
    if (link != NULL)
        go_string(file, link);
}

/* A file up to layer 0's count. */
static void begin_graph(struct lh_buf *file, const char *envelope, int64_t layers, int64_t nodes)
{
    begin(file, envelope);
    header(file, 0.25, "cosine", layers);
    go_int(file, nodes);
}

/* Reads and frees the file. */
static void assert_refused(struct lh_buf *file, enum lh_status status, const char *want)
{
    struct lh_error error;
    struct all all;
    assert_false(lh_buf_failed(file));
    assert_int_equal(read_all(file, &all, &error), status);
    if (strstr(error.text, want) == NULL)
        fail_msg("\"%s\", not \"%s\"", error.text, want);
    if (status == LH_CORRUPT)
        assert_true(lh_str_has_prefix(lh_str_of(error.text), LH_STR("byte ")));
    all_deinit(&all);
    lh_buf_deinit(file);
}

static void assert_reads(struct lh_buf *file, struct all *all)
{
    struct lh_error error;
    if (read_all(file, all, &error) != LH_NOT_FOUND)
        fail_msg("%s", error.text);
    lh_buf_deinit(file);
}

static void refuse_envelope(const char *envelope, const char *want)
{
    struct lh_buf file;
    begin(&file, envelope);
    header(&file, 0.25, "cosine", 0);
    assert_refused(&file, LH_CORRUPT, want);
}

static void refuse_params(const char *params, const char *want)
{
    char envelope[512];
    snprintf(envelope, sizeof envelope, "{\"version\":1,\"params\":{%s},\"metadata\":{}}", params);
    refuse_envelope(envelope, want);
}

static void wrong_params_are_refused(void **state)
{
    refuse_params("\"name\":\"a/b\",\"dimension\":2,\"m\":4,\"ef_search\":20,\"distance\":"
                  "\"cosine\"",
                  "params.name: \"a/b\" cannot be");
    refuse_params("\"name\":\"a\",\"dimension\":65536,\"m\":4,\"ef_search\":20,\"distance\":"
                  "\"cosine\"",
                  "params.dimension: 65536");
    refuse_params("\"name\":\"a\",\"dimension\":2,\"m\":65,\"ef_search\":20,\"distance\":"
                  "\"cosine\"",
                  "params.m: 65");
    refuse_params("\"name\":\"a\",\"dimension\":2,\"m\":4,\"ef_search\":0,\"distance\":\"cosine\"",
                  "params.ef_search: 0");
    refuse_params("\"name\":\"a\",\"dimension\":2,\"m\":4,\"ef_search\":20,\"distance\":"
                  "\"manhattan\"",
                  "params.distance: \"manhattan\" is not");
    refuse_params("\"name\":\"a\",\"dimension\":2,\"m\":4,\"ef_search\":20", "distance is missing");
    refuse_params("\"name\":\"a\",\"dimension\":2,\"m\":4,\"ef_search\":20,\"distance\":"
                  "\"cosine\",\"seed\":1",
                  "\"seed\" is no member of it in version 1");
}

static void wrong_metadata_maps_are_refused(void **state)
{
    struct lh_buf file = LH_BUF_EMPTY;
    struct lh_buf long_id = LH_BUF_EMPTY;
    refuse_envelope(ENVELOPE("[]"), "metadata: must be an object");
    refuse_envelope(ENVELOPE("{\"\":{}}"), "metadata: an id is not of 1 to 512 bytes");
    refuse_envelope(ENVELOPE("{\"a\":{},\"\\u0061\":{}}"), "metadata: this id is there twice");
    refuse_envelope(ENVELOPE("{\"a\":{}}"), "metadata of an id that the graph does not have");
    refuse_envelope(ENVELOPE("{\"a\":{]}"), "byte ");
    lh_buf_printf(&long_id, "{\"version\":1,\"params\":{\"name\":\"a\",\"dimension\":2,\"m\":4,"
                            "\"ef_search\":20,\"distance\":\"cosine\"},\"metadata\":{\"");
    for (int i = 0; i < 513; i++)
        lh_buf_append_char(&long_id, 'x');
    lh_buf_append(&long_id, "\":{}}}", 7);
    refuse_envelope(long_id.ptr, "metadata: an id is not of 1 to 512 bytes");
    lh_buf_deinit(&long_id);
    begin_graph(&file, ENVELOPE("{\"b\":{}}"), 1, 1);
    node(&file, "a", one, NULL);
    assert_refused(&file, LH_CORRUPT, "metadata of an id that the graph does not have");
}

static void a_header_that_contradicts_the_envelope_is_refused(void **state)
{
    static const double bad_ml[] = {0, -1, NAN, INFINITY};
    struct lh_buf file;
    begin(&file, ENVELOPE("{}"));
    header(&file, 0.25, "euclidean", 0);
    assert_refused(&file, LH_CORRUPT, "the graph's distance is not the envelope's cosine");
    begin(&file, ENVELOPE("{}"));
    header(&file, 0.25, "cosinE", 0);
    assert_refused(&file, LH_CORRUPT, "the graph's distance is not the envelope's cosine");
    for (size_t i = 0; i < sizeof bad_ml / sizeof *bad_ml; i++) {
        begin(&file, ENVELOPE("{}"));
        header(&file, bad_ml[i], "cosine", 0);
        assert_refused(&file, LH_CORRUPT, "the graph's Ml is");
    }
    begin(&file, ENVELOPE("{}"));
    go_int(&file, 1);
    go_int(&file, 5);
    assert_refused(&file, LH_CORRUPT, "the graph's M: 5 is not from 4 to 4");
    begin(&file, ENVELOPE("{}"));
    go_int(&file, 2);
    assert_refused(&file, LH_NOT_IMPLEMENTED, "version 2 of the graph's encoding is not known");
}

static void counts_that_the_file_cannot_hold_are_refused(void **state)
{
    static const int64_t counts[] = {-1, 1000, INT64_MAX, INT64_MIN};
    struct lh_buf file;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        begin(&file, ENVELOPE("{}"));
        header(&file, 0.25, "cosine", counts[i]);
        assert_refused(&file, LH_CORRUPT, "layers");
        begin_graph(&file, ENVELOPE("{}"), 1, counts[i]);
        assert_refused(&file, LH_CORRUPT, "nodes of layer 0");
        begin_graph(&file, ENVELOPE("{}"), 1, 1);
        node(&file, "a", one, NULL);
        file.len--;
        go_int(&file, counts[i]);
        assert_refused(&file, LH_CORRUPT, "links of a node");
        begin_graph(&file, ENVELOPE("{}"), 1, 1);
        go_int(&file, counts[i]);
        lh_buf_append(&file, "0123456789abcdef", 16);
        assert_refused(&file, LH_CORRUPT, "bytes of an id");
        begin_graph(&file, ENVELOPE("{}"), 1, 1);
        go_string(&file, "a");
        go_int(&file, counts[i]);
        lh_buf_append(&file, "0123456789abcdef", 16);
        assert_refused(&file, LH_CORRUPT, "numbers of a vector");
    }
    begin(&file, ENVELOPE("{}"));
    lh_buf_append(&file, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10);
    assert_refused(&file, LH_CORRUPT, "the graph's version: a number of more than 64 bits");
    begin(&file, ENVELOPE("{}"));
    lh_buf_append(&file, "\x82\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 11);
    assert_refused(&file, LH_CORRUPT, "the graph's version: a number of more than 64 bits");
}

static void wrong_vectors_are_refused(void **state)
{
    static const float bad[][2] = {{NAN, 0}, {0, INFINITY}, {-INFINITY, 1}};
    struct lh_buf file;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        begin_graph(&file, ENVELOPE("{}"), 1, 1);
        node(&file, "a", bad[i], NULL);
        assert_refused(&file, LH_CORRUPT, "in a vector is not a finite number");
        begin_graph(&file, ENVELOPE("{}"), 2, 1);
        node(&file, "a", one, NULL);
        go_int(&file, 1);
        node(&file, "a", bad[i], NULL);
        assert_refused(&file, LH_CORRUPT, "in a vector is not a finite number");
    }
    begin_graph(&file, ENVELOPE("{}"), 1, 1);
    go_string(&file, "a");
    go_vector(&file, (float[3]){1, 2, 3}, 3);
    go_int(&file, 0);
    assert_refused(&file, LH_CORRUPT, "numbers of a vector: 3 is not from 2 to 2");
}

static void the_place_of_a_number_is_its_byte(void **state)
{
    struct lh_buf file;
    char want[32];
    begin_graph(&file, ENVELOPE("{}"), 1, 1);
    go_string(&file, "a");
    go_vector(&file, (float[2]){1, NAN}, 2);
    snprintf(want, sizeof want, "byte %zu: NaN", file.len - 4);
    go_int(&file, 0);
    assert_refused(&file, LH_CORRUPT, want);
}

static void wrong_ids_are_refused(void **state)
{
    char long_id[LH_ID_BYTES_MAX + 2] = {0};
    struct lh_buf file;
    memset(long_id, 'x', LH_ID_BYTES_MAX + 1);
    begin_graph(&file, ENVELOPE("{}"), 1, 1);
    node(&file, long_id, one, NULL);
    assert_refused(&file, LH_CORRUPT, "bytes of an id: 513 is not from 1 to 512");
    begin_graph(&file, ENVELOPE("{}"), 1, 1);
    node(&file, "\xc3(", one, NULL);
    assert_refused(&file, LH_CORRUPT, "an id that is not UTF-8");
    begin_graph(&file, ENVELOPE("{}"), 1, 2);
    node(&file, "a", one, NULL);
    node(&file, "a", one, NULL);
    assert_refused(&file, LH_CORRUPT, "this id is twice in layer 0");
}

static void upper_layers_repeat_what_layer_0_has(void **state)
{
    struct lh_buf file;
    struct all all;
    begin_graph(&file, ENVELOPE("{}"), 3, 2);
    node(&file, "a", one, "b");
    node(&file, "b", one, "a");
    go_int(&file, 0);
    go_int(&file, 1);
    node(&file, "b", one, NULL); /* not in layer 1: the library makes such files too */
    assert_reads(&file, &all);
    assert_int_equal(all.items, 2);
    all_deinit(&all);
    begin_graph(&file, ENVELOPE("{}"), 2, 1);
    node(&file, "a", one, NULL);
    go_int(&file, 1);
    node(&file, "b", one, NULL);
    assert_refused(&file, LH_CORRUPT, "a node of layer 1 is not in layer 0");
    begin_graph(&file, ENVELOPE("{}"), 2, 0); /* layer 0 has none at all */
    go_int(&file, 1);
    node(&file, "b", one, NULL);
    assert_refused(&file, LH_CORRUPT, "a node of layer 1 is not in layer 0");
    begin_graph(&file, ENVELOPE("{}"), 2, 1);
    node(&file, "a", one, NULL);
    go_int(&file, 2);
    node(&file, "a", one, NULL);
    node(&file, "a", one, NULL);
    assert_refused(&file, LH_CORRUPT, "this id is twice in layer 1");
}

static void missing_layers_and_trailing_bytes_are_refused(void **state)
{
    struct lh_buf file;
    begin_graph(&file, ENVELOPE("{}"), 2, 1);
    node(&file, "a", one, NULL);
    assert_refused(&file, LH_CORRUPT, "the file ends inside nodes of a layer");
    begin_graph(&file, ENVELOPE("{}"), 1, 1);
    node(&file, "a", one, NULL);
    lh_buf_append(&file, "xyz", 3);
    assert_refused(&file, LH_CORRUPT, "3 bytes behind the graph's end");
}

/* What clients of the Go daemon could send: it kept any JSON value. */
static void metadata_becomes_an_object(void **state)
{
    struct lh_buf file;
    struct all all;
    begin_graph(&file,
                ENVELOPE("{\"a\": null, \"b\":[1, 2e400],\"c\":\"x\",\"d\":{ \"n\" : "
                         "123456789012345678901234567890 },\"\\u00e9\\u003c\":{}}"),
                1, 5);
    node(&file, "a", one, NULL);
    node(&file, "b", one, NULL);
    node(&file, "c", one, NULL);
    node(&file, "d", one, NULL);
    node(&file, "é<", one, NULL);
    assert_reads(&file, &all);
    assert_null(must_find(&all, "a")->metadata.ptr);
    assert_true(lh_str_eq(must_find(&all, "b")->metadata, LH_STR("{\"value\":[1,2e400]}")));
    assert_true(lh_str_eq(must_find(&all, "c")->metadata, LH_STR("{\"value\":\"x\"}")));
    assert_true(lh_str_eq(must_find(&all, "d")->metadata,
                          LH_STR("{\"n\":123456789012345678901234567890}")));
    assert_true(lh_str_eq(must_find(&all, "é<")->metadata, LH_STR("{}")));
    assert_int_equal(all.facts.wrapped, 2);
    assert_int_equal(all.facts.metadata, 4);
    all_deinit(&all);
    begin_graph(&file, ENVELOPE("null"), 1, 1); /* a nil map in Go */
    node(&file, "a", one, NULL);
    assert_reads(&file, &all);
    all_deinit(&all);
}

/* Metadata of `bytes` bytes, nested `depth` deep. */
static void large_metadata(struct lh_buf *file, size_t bytes, unsigned depth)
{
    static const char tail[] = "}}";
    struct lh_buf envelope = LH_BUF_EMPTY;
    struct lh_buf value = LH_BUF_EMPTY;
    lh_buf_append(&value, "{\"a\":", 5);
    for (unsigned i = 1; i < depth; i++)
        lh_buf_append_char(&value, '[');
    lh_buf_append_char(&value, '"');
    while (value.len < bytes - 1 - depth)
        lh_buf_append_char(&value, 'x');
    lh_buf_append_char(&value, '"');
    for (unsigned i = 1; i < depth; i++)
        lh_buf_append_char(&value, ']');
    lh_buf_append_char(&value, '}');
    assert_int_equal(value.len, bytes);
    lh_buf_append(&envelope, ENVELOPE("{\"a\":"), sizeof ENVELOPE("{\"a\":") - 2);
    lh_buf_append_str(&envelope, lh_buf_str(&value));
    lh_buf_append(&envelope, tail, sizeof tail);
    begin_graph(file, envelope.ptr, 1, 1);
    node(file, "a", one, NULL);
    lh_buf_deinit(&envelope);
    lh_buf_deinit(&value);
}

static void metadata_has_its_limits(void **state)
{
    struct lh_buf file;
    struct all all;
    large_metadata(&file, LH_METADATA_BYTES_MAX, 1);
    assert_reads(&file, &all);
    assert_int_equal(must_find(&all, "a")->metadata.len, LH_METADATA_BYTES_MAX);
    all_deinit(&all);
    large_metadata(&file, LH_METADATA_BYTES_MAX + 1, 1);
    assert_refused(&file, LH_CORRUPT, "metadata of 65537 bytes, the limit is 65536");
    large_metadata(&file, 1000, LH_METADATA_DEPTH_MAX);
    assert_reads(&file, &all);
    all_deinit(&all);
    large_metadata(&file, 1000, LH_METADATA_DEPTH_MAX + 1);
    assert_refused(&file, LH_CORRUPT, "metadata: ");
}

/* They have no direction: under cosine they are left out and counted. */
static void zero_vectors_go_under_cosine_only(void **state)
{
    static const float zero[2] = {0, -0.0f};
    struct lh_buf file;
    struct all all;
    begin_graph(&file, ENVELOPE("{\"a\":{}}"), 1, 2);
    node(&file, "a", zero, NULL);
    node(&file, "b", one, NULL);
    assert_reads(&file, &all);
    assert_int_equal(all.items, 1);
    assert_int_equal(all.facts.zero_vectors, 1);
    must_find(&all, "b");
    all_deinit(&all);
    begin(&file, "{\"version\":1,\"params\":{\"name\":\"a\",\"dimension\":2,\"m\":4,"
                 "\"ef_search\":20,\"distance\":\"euclidean\"},\"metadata\":{}}");
    header(&file, 0.25, "euclidean", 1);
    go_int(&file, 1);
    node(&file, "a", zero, NULL);
    assert_reads(&file, &all);
    assert_int_equal(all.items, 1);
    assert_int_equal(all.facts.zero_vectors, 0);
    all_deinit(&all);
}

/* More than a batch and more than a window of the file. */
static void many_items_come_in_batches(void **state)
{
    enum { ITEMS = 60000 };
    struct lh_buf file;
    struct all all;
    uint32_t next = 0;
    begin_graph(&file, ENVELOPE("{}"), 1, ITEMS);
    for (int i = 0; i < ITEMS; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%d", i);
        node(&file, id, (float[2]){1, (float)i}, "id-0");
    }
    assert_true(file.len > 1 << 20);
    assert_reads(&file, &all);
    assert_int_equal(all.items, ITEMS);
    for (uint32_t i = 0; i < all.count; i++) {
        const struct lh_batch *batch = &all.batches[i];
        assert_true(batch->count <= LH_LHV1_GO_BATCH_ITEMS);
        for (uint32_t j = 0; j < batch->count; j++, next++) {
            char id[16];
            snprintf(id, sizeof id, "id-%u", next);
            assert_true(lh_str_eq(batch->items[j].id, lh_str_of(id)));
            assert_true(batch->rows[2 * j + 1] == (float)next);
        }
    }
    all_deinit(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_of_the_daemon_loads_with_all_that_went_in),
        cmocka_unit_test(an_empty_index_loads),
        cmocka_unit_test(an_index_with_deleted_items_loads),
        cmocka_unit_test(a_disk_that_cannot_be_read_is_no_damaged_file),
        cmocka_unit_test(a_golden_file_cut_anywhere_is_refused),
        cmocka_unit_test(wrong_params_are_refused),
        cmocka_unit_test(wrong_metadata_maps_are_refused),
        cmocka_unit_test(a_header_that_contradicts_the_envelope_is_refused),
        cmocka_unit_test(counts_that_the_file_cannot_hold_are_refused),
        cmocka_unit_test(wrong_vectors_are_refused),
        cmocka_unit_test(the_place_of_a_number_is_its_byte),
        cmocka_unit_test(wrong_ids_are_refused),
        cmocka_unit_test(upper_layers_repeat_what_layer_0_has),
        cmocka_unit_test(missing_layers_and_trailing_bytes_are_refused),
        cmocka_unit_test(metadata_becomes_an_object),
        cmocka_unit_test(metadata_has_its_limits),
        cmocka_unit_test(zero_vectors_go_under_cosine_only),
        cmocka_unit_test(many_items_come_in_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
