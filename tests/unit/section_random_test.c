/* shards/section: a shard is changed at random while sections of it are read; what is loaded is
 * the shard as it was at the begin, item by item, link by link and hit by hit. */
#include "base/limits.h"
#include "unit/section_help.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define IDS        3000u
#define QUERIES    4u
#define K          10u
#define STEPS      2500u /* each 8 items on average */
#define LIVE_FLOOR 60u   /* between here and twice as many, shards shrink to nothing now and then */

struct item {
    bool is_there;
    uint32_t row;      /* number of its vector */
    uint32_t metadata; /* number of its metadata; 0: none */
};

/* The shard's state as the section must have it. */
struct frozen {
    struct item items[IDS];
    uint32_t slots;
    uint32_t live;
    uint8_t *levels;
    uint8_t *checked;
    uint32_t *links;
    uint32_t *upper;
    uint32_t upper_used;
    struct lh_hit hits[QUERIES][K];
    uint32_t found[QUERIES];
};

struct model {
    struct lh_graph_options options;
    struct lh_shard *shard;
    struct lh_shard_room room;
    uint64_t rng;
    uint32_t live;
    bool is_growing;
    struct item items[IDS];

    struct lh_section_writer *writer;
    char *bytes;
    uint64_t at;
    uint32_t slice_max;
    struct frozen *frozen;
    uint32_t loaded;
    uint32_t ended_early;
    float *row;
};

/* The vectors are functions of their numbers: few enough for equal ones to be common. */
static void row_of(const struct model *model, uint32_t number, float *row)
{
    uint64_t state = number * 77u + model->options.seed;
    uint64_t centre = number % 16;
    for (uint32_t i = 0; i < model->options.dimension; i++)
        row[i] = lh_test_float(&centre) + 0.5f * lh_test_float(&state);
}

static void metadata_of(uint32_t number, char text[600])
{
    int pad = number % 7 == 0 ? 500 : (int)(number % 40);
    snprintf(text, 600, "{\"n\":%u,\"pad\":\"%0*d\"}", number, pad + 1, 0);
}

static void *copy_of(const void *from, size_t bytes)
{
    void *copy = test_must(malloc(bytes + 1));
    if (bytes > 0)
        memcpy(copy, from, bytes);
    return copy;
}

/* ---- freezing and comparing ---- */

static void search_all(const struct model *model, struct lh_shard *shard,
                       struct lh_hit hits[QUERIES][K], uint32_t found[QUERIES])
{
    for (uint32_t q = 0; q < QUERIES; q++) {
        row_of(model, 1000000 + q, model->row);
        assert_int_equal(
            lh_graph_search(lh_shard_graph(shard), model->row, K, 40, hits[q], &found[q]), LH_OK);
    }
}

static struct frozen *freeze(const struct model *model)
{
    const struct lh_graph *graph = lh_shard_graph(model->shard);
    struct frozen *frozen = test_must(calloc(1, sizeof *frozen));
    memcpy(frozen->items, model->items, sizeof frozen->items);
    frozen->slots = graph->slots;
    frozen->live = model->live;
    frozen->upper_used = graph->upper_used;
    frozen->levels = copy_of(graph->t.levels, graph->slots);
    frozen->checked = copy_of(graph->t.checked, graph->slots);
    frozen->links = copy_of(graph->t.links, (size_t)graph->slots * graph->links_stride * 4);
    frozen->upper = copy_of(graph->t.upper, (size_t)graph->upper_used * graph->upper_stride * 4);
    search_all(model, model->shard, frozen->hits, frozen->found);
    return frozen;
}

static void free_frozen(struct frozen *frozen)
{
    free(frozen->levels);
    free(frozen->checked);
    free(frozen->links);
    free(frozen->upper);
    free(frozen);
}

static void assert_same_items(const struct model *model, struct lh_shard *shard)
{
    struct lh_found_list list = {0};
    struct lh_found_options want = {
        .with_metadata = true, .with_vector = true, .bytes_max = LH_ANSWER_BYTES_MAX};
    assert_int_equal(lh_shard_count(shard), model->frozen->live);
    for (uint32_t i = 0; i < IDS; i++) {
        char text[16], metadata[600];
        struct lh_str id = test_id(i, text);
        const struct item *item = &model->frozen->items[i];
        list.count = 0;
        list.text.len = 0;
        list.row_floats = 0;
        enum lh_status status = lh_shard_get(shard, id, lh_placement_hash(id), &want, &list);
        assert_int_equal(status, item->is_there ? LH_OK : LH_ITEM_NOT_FOUND);
        if (!item->is_there)
            continue;
        row_of(model, item->row, model->row);
        assert_memory_equal(list.rows, model->row, model->options.dimension * sizeof(float));
        assert_int_equal(list.items[0].has_metadata, item->metadata != 0);
        if (item->metadata != 0) {
            metadata_of(item->metadata, metadata);
            assert_int_equal(list.items[0].metadata_len, strlen(metadata));
            assert_memory_equal(list.text.ptr + id.len, metadata, strlen(metadata));
        }
    }
    lh_found_list_deinit(&list);
}

static void assert_same_links(const struct frozen *frozen, const struct lh_graph *graph)
{
    size_t row_bytes = graph->options.dimension * sizeof(float);
    float *none = test_must(calloc(1, row_bytes));
    size_t stride = graph->links_stride;
    assert_int_equal(graph->slots, frozen->slots);
    assert_int_equal(graph->upper_used, frozen->upper_used);
    if (frozen->slots > 0)
        assert_memory_equal(graph->t.levels, frozen->levels, frozen->slots);
    if (frozen->upper_used > 0)
        assert_memory_equal(graph->t.upper, frozen->upper,
                            (size_t)frozen->upper_used * graph->upper_stride * 4);
    for (uint32_t node = 0; node < frozen->slots; node++) {
        if (!lh_graph_is_live(graph, node)) {
            /* What was deleted is not in the section. */
            assert_memory_equal(lh__row(graph, node), none, row_bytes);
            continue;
        }
        assert_int_equal(graph->t.checked[node], frozen->checked[node]);
        assert_memory_equal(lh__links(graph, node, 0), frozen->links + node * stride, stride * 4);
    }
    free(none);
}

static void assert_same_hits(const struct model *model, struct lh_shard *shard)
{
    struct lh_hit hits[QUERIES][K];
    uint32_t found[QUERIES];
    search_all(model, shard, hits, found);
    for (uint32_t q = 0; q < QUERIES; q++) {
        assert_int_equal(found[q], model->frozen->found[q]);
        for (uint32_t i = 0; i < found[q]; i++) {
            assert_int_equal(hits[q][i].node, model->frozen->hits[q][i].node);
            assert_true(hits[q][i].distance == model->frozen->hits[q][i].distance);
        }
    }
}

static void assert_valid(struct lh_shard *shard)
{
    struct lh_error error = {0};
    enum lh_status status = lh_shard_validate(shard, &error);
    if (status != LH_OK)
        print_error("%s\n", error.text);
    assert_int_equal(status, LH_OK);
}

/* ---- steps ---- */

static void add_some(struct model *model)
{
    struct test_batch made;
    uint32_t count = 1 + lh_test_below(&model->rng, 15);
    test_batch_init(&made, model->options.dimension);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = lh_test_below(&model->rng, IDS);
        struct item *item = &model->items[number];
        uint32_t kind = lh_test_below(&model->rng, 10);
        char metadata[600];
        model->live += !item->is_there;
        /* A new vector, the one that it has, or one that others are likely to have. */
        uint32_t row =
            kind < 6 ? (uint32_t)lh_test_next(&model->rng) >> 8 : lh_test_below(&model->rng, 50);
        item->row = kind == 9 && item->is_there ? item->row : row;
        item->metadata = item->is_there ? item->metadata : 0;
        item->is_there = true;
        bool with_metadata = lh_test_below(&model->rng, 2) == 0;
        if (with_metadata)
            item->metadata = 1 + lh_test_below(&model->rng, 1000000);
        metadata_of(item->metadata, metadata);
        row_of(model, item->row, model->row);
        test_batch_add(&made, number, model->row, with_metadata ? metadata : NULL);
    }
    test_shard_apply(model->shard, &made, &model->room);
    test_batch_deinit(&made);
}

static void delete_some(struct model *model)
{
    uint32_t count = 1 + lh_test_below(&model->rng, 15);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = lh_test_below(&model->rng, IDS);
        bool was_there = test_shard_delete(model->shard, number);
        assert_int_equal(was_there, model->items[number].is_there);
        model->live -= was_there;
        model->items[number].is_there = false;
    }
}

static void delete_all(struct model *model)
{
    for (uint32_t number = 0; number < IDS; number++) {
        assert_int_equal(test_shard_delete(model->shard, number), model->items[number].is_there);
        model->items[number].is_there = false;
    }
    model->live = 0;
}

static void begin(struct model *model)
{
    assert_int_equal(lh_section_begin(model->shard, &model->writer), LH_OK);
    assert_int_equal(lh_section_count(model->writer), model->live);
    model->bytes = test_must(malloc(lh_section_length(model->writer)));
    model->at = 0;
    /* Read within a few steps, or within a hundred or two. */
    uint32_t slices = 10u << lh_test_below(&model->rng, 6);
    model->slice_max = 64 + (uint32_t)(2 * lh_section_length(model->writer) / slices);
    model->frozen = freeze(model);
}

static void end(struct model *model)
{
    lh_section_end(model->writer);
    model->writer = NULL;
    free(model->bytes);
    free_frozen(model->frozen);
}

/* All of it has been read: what is loaded equals what was frozen; half of the time it takes the
 * place of the shard, and goes on from there. */
static void load_and_compare(struct model *model)
{
    struct lh_shard *shard = NULL;
    struct lh_error error = {0};
    enum lh_status status = test_section_load(&model->options, model->bytes, model->at, &model->rng,
                                              1u << (4 + lh_test_below(&model->rng, 16)),
                                              1u << lh_test_below(&model->rng, 12), &shard, &error);
    if (status != LH_OK)
        print_error("%s\n", error.text);
    assert_int_equal(status, LH_OK);
    assert_same_items(model, shard);
    assert_same_links(model->frozen, lh_shard_graph(shard));
    assert_same_hits(model, shard);
    assert_valid(shard);
    model->loaded++;
    if (lh_test_below(&model->rng, 2) == 0) {
        lh_shard_destroy(shard);
        end(model);
        return;
    }
    memcpy(model->items, model->frozen->items, sizeof model->items);
    model->live = model->frozen->live;
    end(model);
    lh_shard_destroy(model->shard);
    model->shard = shard;
    model->room = (struct lh_shard_room){0};
}

static void read_slice(struct model *model)
{
    /* Every fourth ends within a list of links or an item. */
    bool is_small = lh_test_below(&model->rng, 4) == 0;
    size_t got, slice = 1 + lh_test_below(&model->rng, is_small ? 40 : model->slice_max);
    uint64_t left = lh_section_length(model->writer) - model->at;
    assert_int_equal(lh_section_read(model->writer, model->bytes + model->at,
                                     slice < left ? slice : (size_t)left, &got),
                     LH_OK);
    model->at += got;
    if (left == 0) {
        assert_int_equal(got, 0);
        load_and_compare(model);
    } else {
        assert_true(got > 0);
    }
}

static void step(struct model *model)
{
    if (model->writer == NULL && lh_test_below(&model->rng, 20) == 0)
        begin(model);
    uint32_t slices = model->writer != NULL ? lh_test_below(&model->rng, 6) : 0;
    for (uint32_t i = 0; i < slices && model->writer != NULL; i++)
        read_slice(model);
    if (model->writer != NULL && lh_test_below(&model->rng, 200) == 0) {
        end(model);
        model->ended_early++;
        assert_valid(model->shard);
    }
    if (lh_test_below(&model->rng, 1000) == 0)
        delete_all(model);
    if (model->live < LIVE_FLOOR)
        model->is_growing = true;
    else if (lh_test_below(&model->rng, 200) == 0)
        model->is_growing = !model->is_growing;
    if (lh_test_below(&model->rng, 10) < (model->is_growing ? 6u : 3u))
        add_some(model);
    else
        delete_some(model);
}

static void run(enum lh_distance distance, uint32_t dimension, uint32_t m)
{
    uint64_t seed = lh_test_seed();
    struct model *model = test_must(calloc(1, sizeof *model));
    model->options = (struct lh_graph_options){
        .dimension = dimension, .distance = distance, .m = m, .ef_construction = 40, .seed = seed};
    model->rng = seed + dimension * 3 + distance;
    model->row = test_must(malloc(dimension * sizeof(float)));
    assert_int_equal(lh_shard_create(&model->options, &model->shard), LH_OK);
    for (uint32_t i = 0; i < STEPS; i++)
        step(model);
    while (model->writer != NULL)
        read_slice(model);
    assert_valid(model->shard);
    printf("dimension %u, distance %d, m %u: %u sections loaded, %u ended early\n", dimension,
           distance, m, model->loaded, model->ended_early);
    assert_true(model->loaded > 0);
    lh_shard_destroy(model->shard);
    free(model->row);
    free(model);
}

static void few_dimensions_loaded_as_frozen(void **state)
{
    run(LH_DISTANCE_COSINE, 3, 2);
    run(LH_DISTANCE_EUCLIDEAN, 3, 16);
    run(LH_DISTANCE_DOT, 3, 2);
}

static void seventeen_dimensions_loaded_as_frozen(void **state)
{
    run(LH_DISTANCE_COSINE, 17, 16);
    run(LH_DISTANCE_EUCLIDEAN, 17, 2);
    run(LH_DISTANCE_DOT, 17, 16);
}

static void hundred_dimensions_loaded_as_frozen(void **state)
{
    run(LH_DISTANCE_COSINE, 100, 2);
    run(LH_DISTANCE_EUCLIDEAN, 100, 16);
    run(LH_DISTANCE_DOT, 100, 2);
}

static void many_dimensions_loaded_as_frozen(void **state)
{
    run(LH_DISTANCE_COSINE, 768, 16);
    run(LH_DISTANCE_EUCLIDEAN, 768, 2);
    run(LH_DISTANCE_DOT, 768, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_dimensions_loaded_as_frozen),
        cmocka_unit_test(seventeen_dimensions_loaded_as_frozen),
        cmocka_unit_test(hundred_dimensions_loaded_as_frozen),
        cmocka_unit_test(many_dimensions_loaded_as_frozen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
