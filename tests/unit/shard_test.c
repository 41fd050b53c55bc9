/* shards/shard: random batches against a plain model, promises, metadata, pages, recall. */
#include "base/limits.h"
#include "shards/placement.h"
#include "shards/shard.h"
#include "unit/batch_help.h"
#include "unit/seed.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define IDS       800u
#define DIMENSION 24u
#define STEPS     1500u
#define BATCH_MAX 40u

struct model_item {
    bool is_there;
    bool has_metadata;
    float row[DIMENSION];
    char metadata[64];
};

struct model {
    struct lh_shard *shard;
    enum lh_distance distance;
    uint64_t rng;
    uint32_t count;
    struct lh_shard_room room; /* promised and not used, as vectord keeps its balance */
    struct model_item items[IDS];
};

static struct model *make_model(enum lh_distance distance, uint64_t seed)
{
    struct lh_graph_options options = {.dimension = DIMENSION,
                                       .distance = distance,
                                       .m = 16,
                                       .ef_construction = 100,
                                       .seed = seed};
    struct model *model = calloc(1, sizeof *model);
    assert_non_null(model);
    model->distance = distance;
    model->rng = seed;
    assert_int_equal(lh_shard_create(&options, &model->shard), LH_OK);
    return model;
}

static void destroy_model(struct model *model)
{
    lh_shard_destroy(model->shard);
    free(model);
}

static struct lh_found_options want_all(void)
{
    return (struct lh_found_options){
        .with_metadata = true, .with_vector = true, .bytes_max = LH_ANSWER_BYTES_MAX};
}

/* ---- steps, each on the shard and on the model ---- */

static void promise_for(struct model *model, const struct test_batch *made)
{
    struct lh_shard_room need = {.nodes = made->batch.count};
    for (uint32_t i = 0; i < made->batch.count; i++)
        need.bytes += lh_shard_item_bytes(&made->batch.items[i]);
    if (need.nodes > model->room.nodes || need.bytes > model->room.bytes) {
        uint32_t ahead = lh_test_below(&model->rng, 100);
        struct lh_shard_room more = {need.nodes + ahead, need.bytes + 30 * ahead};
        assert_int_equal(lh_shard_reserve(model->shard, more), LH_OK);
        model->room.nodes += more.nodes;
        model->room.bytes += more.bytes;
    }
    model->room.nodes -= need.nodes;
    model->room.bytes -= need.bytes;
}

static void add_to_model(struct model *model, uint32_t id, const float *row, const char *metadata,
                         struct lh_shard_counts *counts)
{
    struct model_item *item = &model->items[id];
    if (item->is_there) {
        counts->updated++;
    } else {
        counts->added++;
        model->count++;
        *item = (struct model_item){.is_there = true};
    }
    memcpy(item->row, row, sizeof item->row);
    if (metadata != NULL) {
        item->has_metadata = true;
        snprintf(item->metadata, sizeof item->metadata, "%s", metadata);
    }
}

/* A batch with the same id twice often, and with metadata, {} or none. */
static void add(struct model *model)
{
    struct test_batch made;
    struct lh_shard_counts want = {0}, got = {0};
    struct lh_shard_room unused = {0};
    test_batch_init(&made, DIMENSION);
    uint32_t count = 1 + lh_test_below(&model->rng, BATCH_MAX);
    uint32_t near = lh_test_below(&model->rng, IDS);
    for (uint32_t i = 0; i < count; i++) {
        float row[DIMENSION];
        char metadata[64];
        uint32_t kind = lh_test_below(&model->rng, 3);
        uint32_t id = (near + lh_test_below(&model->rng, 30)) % IDS;
        for (uint32_t d = 0; d < DIMENSION; d++)
            row[d] = lh_test_float(&model->rng);
        if (lh_test_below(&model->rng, 8) == 0 && model->items[id].is_there)
            memcpy(row, model->items[id].row, sizeof row); /* the same vector once more */
        snprintf(metadata, sizeof metadata, "{\"n\":%u}", lh_test_below(&model->rng, 1000000));
        const char *text = kind == 0 ? NULL : kind == 1 ? "{}" : metadata;
        test_batch_add(&made, id, row, text);
        add_to_model(model, id, row, text, &want);
    }
    promise_for(model, &made);
    lh_shard_add(model->shard, &made.batch, made.numbers, made.hashes, count, &got, &unused);
    model->room.nodes += unused.nodes;
    model->room.bytes += unused.bytes;
    assert_int_equal(got.added, want.added);
    assert_int_equal(got.updated, want.updated);
    assert_int_equal(unused.nodes, want.updated); /* an update takes no node */
    test_batch_deinit(&made);
}

static void delete (struct model *model)
{
    char id[16];
    uint32_t number = lh_test_below(&model->rng, IDS);
    struct lh_str text = test_id(number, id);
    bool was_there = lh_shard_delete(model->shard, text, lh_placement_hash(text));
    assert_int_equal(was_there, model->items[number].is_there);
    model->count -= was_there;
    model->items[number] = (struct model_item){0};
}

/* ---- checks ---- */

static struct lh_str id_of(const struct lh_found_list *list, uint32_t i)
{
    return (struct lh_str){list->text.ptr + list->items[i].text_at, list->items[i].id_len};
}

static uint32_t number_of(const struct lh_found_list *list, uint32_t i)
{
    struct lh_str id = id_of(list, i);
    uint32_t number = test_id_number(id);
    assert_in_range(number, 0, IDS - 1);
    return number;
}

/* Whether what was found is what the model has of that id. */
static void check_found(const struct model *model, const struct lh_found_list *list, uint32_t i)
{
    const struct lh_found *found = &list->items[i];
    const struct model_item *item = &model->items[number_of(list, i)];
    assert_true(item->is_there);
    assert_int_equal(found->has_metadata, item->has_metadata);
    if (item->has_metadata) {
        assert_int_equal(found->metadata_len, strlen(item->metadata));
        assert_memory_equal(list->text.ptr + found->text_at + found->id_len, item->metadata,
                            found->metadata_len);
    }
    assert_memory_equal(list->rows + found->row_at, item->row, sizeof item->row);
}

static void get(struct model *model)
{
    char id[16];
    struct lh_found_options options = want_all();
    struct lh_found_list list = {0};
    uint32_t number = lh_test_below(&model->rng, IDS);
    struct lh_str text = test_id(number, id);
    enum lh_status status =
        lh_shard_get(model->shard, text, lh_placement_hash(text), &options, &list);
    assert_int_equal(status, model->items[number].is_there ? LH_OK : LH_ITEM_NOT_FOUND);
    assert_int_equal(list.count, model->items[number].is_there);
    if (list.count == 1) {
        assert_int_equal(number_of(&list, 0), number);
        check_found(model, &list, 0);
    }
    lh_found_list_deinit(&list);
}

static double distance_of(const struct model *model, const float *a, const float *b)
{
    double dot = 0, aa = 0, bb = 0, sum = 0;
    for (uint32_t d = 0; d < DIMENSION; d++) {
        dot += (double)a[d] * b[d];
        aa += (double)a[d] * a[d];
        bb += (double)b[d] * b[d];
        sum += ((double)a[d] - b[d]) * ((double)a[d] - b[d]);
    }
    switch (model->distance) {
    case LH_DISTANCE_COSINE:
        return 1 - dot / sqrt(aa * bb);
    case LH_DISTANCE_EUCLIDEAN:
        return sqrt(sum);
    default:
        return -dot;
    }
}

/* How many items are nearer to `query` than `distance`, by more than float32 can blur. */
static uint32_t count_nearer(const struct model *model, const float *query, double distance)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < IDS; i++)
        count += model->items[i].is_there &&
                 distance_of(model, query, model->items[i].row) < distance - 1e-5;
    return count;
}

/* Every hit has its true distance, they stand in order, and few nearer ones were missed. */
static void search_one(struct model *model, uint32_t *wanted, uint32_t *missed)
{
    float query[DIMENSION];
    struct lh_found_options options = want_all();
    struct lh_found_list list = {0};
    uint32_t k = 1 + lh_test_below(&model->rng, 20);
    struct lh_search search = {.k = k, .ef = 200};
    for (uint32_t d = 0; d < DIMENSION; d++)
        query[d] = lh_test_float(&model->rng);
    assert_int_equal(lh_shard_search(&model->shard, 1, query, &search, &options, &list), LH_OK);
    assert_int_equal(list.count, k < model->count ? k : model->count);
    for (uint32_t i = 0; i < list.count; i++) {
        check_found(model, &list, i);
        const float *row = model->items[number_of(&list, i)].row;
        double distance = distance_of(model, query, row);
        assert_true(fabs(distance - list.items[i].distance) < 1e-5);
        assert_true(i == 0 || list.items[i - 1].distance <= list.items[i].distance);
    }
    if (list.count > 0) {
        uint32_t nearer = count_nearer(model, query, list.items[list.count - 1].distance);
        *wanted += list.count;
        *missed += nearer > list.count - 1 ? nearer - (list.count - 1) : 0;
    }
    lh_found_list_deinit(&list);
}

/* Pages of any size show each item once. */
static void page(struct model *model)
{
    bool seen[IDS] = {0};
    uint32_t total = 0;
    struct lh_found_options options = want_all();
    for (uint32_t node = 0; node != LH_NO_ITEM;) {
        struct lh_found_list list = {0};
        uint32_t limit = 1 + lh_test_below(&model->rng, 300);
        assert_int_equal(lh_shard_page(model->shard, &node, limit, &options, &list), LH_OK);
        assert_true(list.count <= limit);
        for (uint32_t i = 0; i < list.count; i++) {
            assert_false(seen[number_of(&list, i)]);
            seen[number_of(&list, i)] = true;
            check_found(model, &list, i);
        }
        total += list.count;
        lh_found_list_deinit(&list);
    }
    assert_int_equal(total, model->count);
}

static void validate(const struct model *model)
{
    struct lh_error error = {0};
    enum lh_status status = lh_shard_validate(model->shard, &error);
    if (status != LH_OK)
        print_error("%s\n", error.text);
    assert_int_equal(status, LH_OK);
    assert_int_equal(lh_shard_count(model->shard), model->count);
    assert_true(lh_shard_bytes(model->shard) > 0);
}

static void random_steps(enum lh_distance distance)
{
    struct model *model = make_model(distance, lh_test_seed());
    uint32_t wanted = 0, missed = 0;
    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t kind = lh_test_below(&model->rng, 100);
        if (kind < 25)
            add(model);
        else if (kind < 70)
            delete (model);
        else if (kind < 85)
            get(model);
        else if (kind < 98)
            search_one(model, &wanted, &missed);
        else
            page(model);
        if (step % 100 == 0)
            validate(model);
    }
    while (model->count > 0) /* the last one can go */
        delete (model);
    validate(model);
    search_one(model, &wanted, &missed);
    for (uint32_t i = 0; i < 20; i++) /* and the next add works */
        add(model);
    validate(model);
    print_message("%u of %u nearest missed\n", missed, wanted);
    assert_true(missed * 100 <= wanted * 2);
    destroy_model(model);
}

static void random_steps_agree_with_a_model_under_cosine(void **state)
{
    random_steps(LH_DISTANCE_COSINE);
}

static void random_steps_agree_with_a_model_under_euclidean(void **state)
{
    random_steps(LH_DISTANCE_EUCLIDEAN);
}

static void random_steps_agree_with_a_model_under_dot(void **state)
{
    random_steps(LH_DISTANCE_DOT);
}

/* ---- single rules ---- */

/* Adds one item and returns what a get then finds of its metadata; "-" when it has none. */
static void add_and_read(struct model *model, const char *metadata, float value, char out[64])
{
    char id[16];
    float row[DIMENSION] = {value, 1};
    struct test_batch made;
    struct lh_shard_counts counts = {0};
    struct lh_shard_room unused = {0};
    struct lh_found_list list = {0};
    struct lh_found_options options = want_all();
    struct lh_str text = test_id(5, id);
    test_batch_init(&made, DIMENSION);
    test_batch_add(&made, 5, row, metadata);
    promise_for(model, &made);
    lh_shard_add(model->shard, &made.batch, made.numbers, made.hashes, 1, &counts, &unused);
    assert_int_equal(lh_shard_get(model->shard, text, lh_placement_hash(text), &options, &list),
                     LH_OK);
    assert_true(list.rows[0] == value);
    const struct lh_found *found = &list.items[0];
    snprintf(out, 64, "%.*s", found->has_metadata ? (int)found->metadata_len : 1,
             found->has_metadata ? list.text.ptr + found->text_at + found->id_len : "-");
    lh_found_list_deinit(&list);
    test_batch_deinit(&made);
}

static void metadata_left_out_stays_and_empty_metadata_clears(void **state)
{
    char got[64];
    struct model *model = make_model(LH_DISTANCE_COSINE, 1);
    add_and_read(model, NULL, 1, got);
    assert_string_equal(got, "-");
    add_and_read(model, "{\"a\":1}", 2, got);
    assert_string_equal(got, "{\"a\":1}");
    add_and_read(model, NULL, 3, got);
    assert_string_equal(got, "{\"a\":1}");
    add_and_read(model, "{}", 4, got);
    assert_string_equal(got, "{}");
    add_and_read(model, NULL, 5, got);
    assert_string_equal(got, "{}");
    destroy_model(model);
}

static void an_answer_beyond_its_bytes_says_so(void **state)
{
    uint32_t node = 0;
    struct model *model = make_model(LH_DISTANCE_EUCLIDEAN, 1);
    struct lh_found_list list = {0};
    for (uint32_t i = 0; i < 20; i++)
        add(model);
    struct lh_found_options options = want_all();
    options.bytes_max = 1000;
    assert_int_equal(lh_shard_page(model->shard, &node, 100, &options, &list), LH_LIMIT_EXCEEDED);
    assert_in_range(list.count, 1, 20); /* it stopped where the limit was passed */
    lh_found_list_deinit(&list);
    destroy_model(model);
}

static void a_promise_beyond_the_nodes_of_a_graph_is_refused_and_promises_nothing(void **state)
{
    struct model *model = make_model(LH_DISTANCE_EUCLIDEAN, 1);
    add(model);
    uint64_t bytes = lh_shard_bytes(model->shard);
    struct lh_shard_room room = {.nodes = LH_NODES_MAX};
    assert_int_equal(lh_shard_reserve(model->shard, room), LH_OUT_OF_MEMORY);
    assert_int_equal(lh_shard_bytes(model->shard), bytes);
    for (uint32_t i = 0; i < 100; i++)
        add(model);
    validate(model);
    destroy_model(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_steps_agree_with_a_model_under_cosine),
        cmocka_unit_test(random_steps_agree_with_a_model_under_euclidean),
        cmocka_unit_test(random_steps_agree_with_a_model_under_dot),
        cmocka_unit_test(metadata_left_out_stays_and_empty_metadata_clears),
        cmocka_unit_test(an_answer_beyond_its_bytes_says_so),
        cmocka_unit_test(a_promise_beyond_the_nodes_of_a_graph_is_refused_and_promises_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
