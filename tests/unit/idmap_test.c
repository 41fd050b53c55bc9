/* shards/idmap: ids against a plain array, through growth in mid-migration and drops in both
 * tables. */
#include "shards/idmap.h"
#include "shards/placement.h"
#include "unit/seed.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define NODES 200000u

struct model {
    struct lh_idmap map;
    bool is_there[NODES];
    uint32_t count;
    bool same_tags; /* hashes that differ in their high half only: one long cluster */
};

static char *name_of(uint32_t node, char text[16])
{
    snprintf(text, 16, "id-%u", node);
    return text;
}

/* The ids live in a table of the test's own, by node. */
static char names[NODES][16];

static struct lh_str id_of(const void *arg, uint32_t node)
{
    const struct model *model = arg;
    assert_in_range(node, 0, NODES - 1);
    assert_true(model->is_there[node]); /* it asks for live nodes only */
    return lh_str_of(name_of(node, names[node]));
}

static uint64_t hash_of(const struct model *model, uint32_t node)
{
    char text[16];
    if (model->same_tags)
        return (uint64_t)node << 32 | 7u;
    return lh_placement_hash(lh_str_of(name_of(node, text)));
}

static uint32_t find(const struct model *model, uint32_t node)
{
    char text[16];
    return lh_idmap_find(&model->map, lh_str_of(name_of(node, text)), hash_of(model, node));
}

static void put(struct model *model, uint32_t node)
{
    assert_int_equal(lh_idmap_reserve(&model->map, model->count + 1), LH_OK);
    model->is_there[node] = true;
    model->count++;
    lh_idmap_put(&model->map, hash_of(model, node), node);
}

static void drop(struct model *model, uint32_t node)
{
    lh_idmap_drop(&model->map, hash_of(model, node), node);
    model->is_there[node] = false;
    model->count--;
}

static void check_all(const struct model *model, uint32_t nodes)
{
    for (uint32_t node = 0; node < nodes; node++)
        assert_int_equal(find(model, node), model->is_there[node] ? node : LH_IDMAP_NONE);
    assert_int_equal(model->map.now.count + model->map.old.count, model->count);
}

static struct model *make_model(void)
{
    struct model *model = calloc(1, sizeof *model);
    assert_non_null(model);
    lh_idmap_init(&model->map, id_of, model);
    return model;
}

static void destroy_model(struct model *model)
{
    lh_idmap_deinit(&model->map);
    free(model);
}

static void random_ids_agree_with_an_array_while_the_map_grows(void **state)
{
    uint64_t rng = lh_test_seed();
    struct model *model = make_model();
    uint32_t in_migration = 0;
    uint32_t dropped_from_old = 0;
    /* The range grows with the steps, so that the map grows through a dozen migrations. */
    for (uint32_t step = 1; step < 400000; step++) {
        uint32_t range = step / 4 + 10 < NODES ? step / 4 + 10 : NODES;
        uint32_t node = lh_test_below(&rng, range);
        assert_int_equal(find(model, node), model->is_there[node] ? node : LH_IDMAP_NONE);
        in_migration += model->map.old.capacity != 0;
        if (!model->is_there[node]) {
            put(model, node);
        } else if (lh_test_below(&rng, 3) == 0) {
            uint32_t before = model->map.old.count;
            drop(model, node);
            dropped_from_old += model->map.old.count < before;
        }
        if (step % 50000 == 0)
            check_all(model, range);
    }
    check_all(model, NODES);
    assert_true(in_migration > 1000);
    assert_true(dropped_from_old > 100);
    destroy_model(model);
}

static void a_growth_in_mid_migration_finishes_it_first(void **state)
{
    struct model *model = make_model();
    uint32_t node = 0;
    while (model->map.old.count < 1000) {
        put(model, node++);
        assert_in_range(node, 0, NODES - 1);
    }
    /* A promise for a very large batch comes while ids are still in the old table. */
    uint64_t before = lh_idmap_bytes(&model->map);
    assert_int_equal(lh_idmap_reserve(&model->map, 1000000), LH_OK);
    assert_true(lh_idmap_bytes(&model->map) > before);
    check_all(model, node);
    for (uint32_t i = 0; i < 5000; i++)
        put(model, node++);
    check_all(model, node);
    destroy_model(model);
}

static void drops_in_mid_migration_break_no_cluster(void **state)
{
    uint64_t rng = lh_test_seed();
    struct model *model = make_model();
    uint32_t node = 0;
    while (model->map.old.count < 3000)
        put(model, node++);
    while (model->count > 0) {
        uint32_t victim = lh_test_below(&rng, node);
        while (!model->is_there[victim])
            victim = (victim + 1) % node;
        drop(model, victim);
        if (model->count % 500 == 0)
            check_all(model, node);
    }
    check_all(model, node);
    for (uint32_t i = 0; i < node; i++)
        put(model, i); /* and all over again */
    check_all(model, node);
    destroy_model(model);
}

static void ids_whose_tags_are_all_the_same_are_still_told_apart(void **state)
{
    uint64_t rng = lh_test_seed();
    struct model *model = make_model();
    model->same_tags = true;
    for (uint32_t step = 0; step < 6000; step++) {
        uint32_t node = lh_test_below(&rng, 700);
        if (model->is_there[node])
            drop(model, node);
        else
            put(model, node);
        if (step % 1000 == 0)
            check_all(model, 700);
    }
    check_all(model, 700);
    destroy_model(model);
}

static void an_empty_map_finds_nothing_and_takes_nothing(void **state)
{
    struct model *model = make_model();
    assert_int_equal(find(model, 3), LH_IDMAP_NONE);
    assert_int_equal(lh_idmap_bytes(&model->map), 0);
    destroy_model(model);
}

static void a_promise_beyond_any_memory_is_refused_and_changes_nothing(void **state)
{
    struct model *model = make_model();
    for (uint32_t node = 0; node < 100; node++)
        put(model, node);
    assert_int_equal(lh_idmap_reserve(&model->map, UINT32_MAX), LH_OUT_OF_MEMORY);
    check_all(model, 200);
    destroy_model(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_ids_agree_with_an_array_while_the_map_grows),
        cmocka_unit_test(a_growth_in_mid_migration_finishes_it_first),
        cmocka_unit_test(drops_in_mid_migration_break_no_cluster),
        cmocka_unit_test(ids_whose_tags_are_all_the_same_are_still_told_apart),
        cmocka_unit_test(an_empty_map_finds_nothing_and_takes_nothing),
        cmocka_unit_test(a_promise_beyond_any_memory_is_refused_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
