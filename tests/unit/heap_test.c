/* shards/heap: records against a plain model, promises, and what evacuation gives back. */
#include "base/limits.h"
#include "shards/heap.h"
#include "unit/seed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define WORDS         3000u
#define STEPS         60000u
#define LENGTH_MAX    2000u
#define GARBAGE_STEPS 40000u

/* What the heap should hold: word -> a length and a byte that its bytes follow from. */
struct model {
    struct lh_heap heap;
    uint32_t offsets[WORDS];
    uint32_t lengths[WORDS];
    uint32_t stamps[WORDS];
    unsigned moves;
};

static void note_move(void *arg, uint32_t word, uint32_t offset)
{
    struct model *model = arg;
    assert_in_range(word, 0, WORDS - 1);
    assert_int_not_equal(model->offsets[word], LH_HEAP_NONE);
    assert_int_not_equal(model->offsets[word], offset);
    model->offsets[word] = offset;
    model->moves++;
}

static void fill(char *bytes, uint32_t stamp, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        bytes[i] = (char)(stamp * 31u + i * 7u);
}

static void check(const struct model *model, uint32_t word)
{
    char want[LH_METADATA_BYTES_MAX];
    struct lh_str got = lh_heap_get(&model->heap, model->offsets[word]);
    assert_int_equal(got.len, model->lengths[word]);
    fill(want, model->stamps[word], model->lengths[word]);
    assert_memory_equal(got.ptr, want, got.len);
}

static void put(struct model *model, uint32_t word, uint32_t stamp, uint32_t len)
{
    char bytes[LH_METADATA_BYTES_MAX];
    fill(bytes, stamp, len);
    model->lengths[word] = len;
    model->stamps[word] = stamp;
    model->offsets[word] = lh_heap_put(&model->heap, word, (struct lh_str){bytes, len});
}

static void drop(struct model *model, uint32_t word)
{
    uint32_t offset = model->offsets[word];
    model->offsets[word] = LH_HEAP_NONE; /* a drop may tell of moves, never of this record */
    lh_heap_drop(&model->heap, offset);
}

static struct model *make_model(void)
{
    struct model *model = malloc(sizeof *model);
    assert_non_null(model);
    lh_heap_init(&model->heap, note_move, model);
    memset(model->offsets, 0xff, sizeof model->offsets);
    model->moves = 0;
    return model;
}

static void destroy_model(struct model *model)
{
    lh_heap_deinit(&model->heap);
    free(model);
}

/* Small records mostly, the longest ones sometimes. */
static uint32_t draw_length(uint64_t *rng)
{
    if (lh_test_below(rng, 200) == 0)
        return LH_METADATA_BYTES_MAX - lh_test_below(rng, 9);
    return lh_test_below(rng, LENGTH_MAX);
}

static void random_records_agree_with_a_model_through_evacuations(void **state)
{
    uint64_t rng = lh_test_seed();
    struct model *model = make_model();
    uint64_t promised = 0;
    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t word = lh_test_below(&rng, WORDS);
        if (model->offsets[word] != LH_HEAP_NONE) {
            check(model, word);
            drop(model, word);
        }
        if (lh_test_below(&rng, 3) > 0) {
            uint32_t len = draw_length(&rng);
            uint64_t need = lh_heap_record_bytes(len);
            if (need > promised || lh_test_below(&rng, 4) == 0) {
                uint64_t ahead = need + lh_test_below(&rng, 500000);
                assert_int_equal(lh_heap_reserve(&model->heap, ahead), LH_OK);
                promised += ahead;
            }
            promised -= need;
            put(model, word, step, len);
        }
        if (lh_test_below(&rng, 50) == 0 && promised > 0) {
            uint64_t back = lh_test_below(&rng, (uint32_t)promised);
            lh_heap_unreserve(&model->heap, back);
            promised -= back;
        }
        assert_int_equal(model->heap.promised, promised);
    }
    for (uint32_t word = 0; word < WORDS; word++) {
        if (model->offsets[word] != LH_HEAP_NONE)
            check(model, word);
    }
    assert_true(model->moves > 0);
    destroy_model(model);
}

static void a_promise_holds_whatever_is_put_and_dropped_before_it_is_used(void **state)
{
    uint64_t rng = lh_test_seed();
    struct model *model = make_model();
    /* The worst records for a chunk: each wastes nearly its own length at the chunk's end. */
    const uint32_t len = LH_METADATA_BYTES_MAX;
    const uint32_t count = 500;
    assert_int_equal(lh_heap_reserve(&model->heap, count * lh_heap_record_bytes(len)), LH_OK);
    uint32_t chunks = model->heap.count;
    /* Others reserve, put and drop meanwhile. */
    for (uint32_t step = 0; step < 5000; step++) {
        uint32_t word = count + lh_test_below(&rng, WORDS - count);
        if (model->offsets[word] != LH_HEAP_NONE)
            drop(model, word);
        uint32_t other = draw_length(&rng);
        assert_int_equal(lh_heap_reserve(&model->heap, lh_heap_record_bytes(other)), LH_OK);
        put(model, word, step, other);
    }
    uint32_t grown = model->heap.count;
    assert_true(grown >= chunks);
    for (uint32_t word = 0; word < count; word++)
        put(model, word, word, len);
    assert_int_equal(model->heap.count, grown); /* using a promise allocates nothing */
    assert_int_equal(model->heap.promised, 0);
    for (uint32_t word = 0; word < WORDS; word++) {
        if (model->offsets[word] != LH_HEAP_NONE)
            check(model, word);
    }
    destroy_model(model);
}

static void one_record_replaced_for_ever_takes_no_more_memory(void **state)
{
    struct model *model = make_model();
    /* A neighbour that stays keeps its chunk from being all garbage. */
    assert_int_equal(lh_heap_reserve(&model->heap, lh_heap_record_bytes(10)), LH_OK);
    put(model, 1, 1, 10);
    for (uint32_t step = 0; step < GARBAGE_STEPS; step++) {
        assert_int_equal(lh_heap_reserve(&model->heap, lh_heap_record_bytes(1000)), LH_OK);
        if (model->offsets[0] != LH_HEAP_NONE)
            drop(model, 0);
        put(model, 0, step, 1000);
    }
    check(model, 0);
    check(model, 1);
    assert_in_range(model->heap.count, 1, 4); /* 40 MB went through it */
    destroy_model(model);
}

static void records_that_stay_among_garbage_are_moved_together(void **state)
{
    struct model *model = make_model();
    /* Each chunk gets eighty small records that stay and is filled up with what does not. */
    for (uint32_t round = 0; round < 30; round++) {
        for (uint32_t i = 0; i < 80; i++) {
            assert_int_equal(lh_heap_reserve(&model->heap, lh_heap_record_bytes(20)), LH_OK);
            put(model, 1 + round * 80 + i, round + i, 20);
        }
        for (uint32_t i = 0; i < 1100; i++) {
            assert_int_equal(lh_heap_reserve(&model->heap, lh_heap_record_bytes(1000)), LH_OK);
            if (model->offsets[0] != LH_HEAP_NONE)
                drop(model, 0);
            put(model, 0, i, 1000);
        }
    }
    assert_true(model->moves >= 80);
    assert_in_range(model->heap.count, 1, 6);
    for (uint32_t word = 0; word <= 30 * 80; word++)
        check(model, word);
    destroy_model(model);
}

static void what_was_all_dropped_is_used_again(void **state)
{
    struct model *model = make_model();
    uint32_t highest = 0;
    for (uint32_t round = 0; round < 20; round++) {
        assert_int_equal(lh_heap_reserve(&model->heap, WORDS * lh_heap_record_bytes(1500)), LH_OK);
        for (uint32_t word = 0; word < WORDS; word++)
            put(model, word, round + word, 1500);
        for (uint32_t word = 0; word < WORDS; word++) {
            check(model, word);
            drop(model, word);
        }
        if (round == 1)
            highest = model->heap.count;
    }
    assert_int_equal(model->heap.count, highest);
    assert_true(lh_heap_bytes(&model->heap) >= (uint64_t)highest * LH_HEAP_CHUNK_BYTES);
    destroy_model(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_records_agree_with_a_model_through_evacuations),
        cmocka_unit_test(a_promise_holds_whatever_is_put_and_dropped_before_it_is_used),
        cmocka_unit_test(one_record_replaced_for_ever_takes_no_more_memory),
        cmocka_unit_test(records_that_stay_among_garbage_are_moved_together),
        cmocka_unit_test(what_was_all_dropped_is_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
