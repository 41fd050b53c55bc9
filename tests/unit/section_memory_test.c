/* shards/section: memory that runs out. Linked with malloc and mmap wrapped: the n-th call after
 * `fail_after` is set fails, and all that follow until it is taken back. */
#include "unit/section_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>

#include <cmocka.h>

#define ITEMS     2000u
#define DIMENSION 32u
#define NEVER     UINT32_MAX

static uint32_t fail_after = NEVER;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *from, size_t bytes);
void *__real_mmap(void *at, size_t bytes, int prot, int flags, int file, off_t offset);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *from, size_t bytes);
void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int file, off_t offset);

static bool fails(void)
{
    if (fail_after == NEVER)
        return false;
    if (fail_after == 0)
        return true;
    fail_after--;
    return false;
}

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *from, size_t bytes)
{
    return fails() ? NULL : __real_realloc(from, bytes);
}

void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int file, off_t offset)
{
    return fails() ? MAP_FAILED : __real_mmap(at, bytes, prot, flags, file, offset);
}

static const struct lh_graph_options options = {.dimension = DIMENSION,
                                                .distance = LH_DISTANCE_EUCLIDEAN,
                                                .m = 8,
                                                .ef_construction = 40,
                                                .seed = 3};

static void fill_batch(struct test_batch *made, uint32_t from, uint32_t to, uint32_t salt)
{
    float row[DIMENSION];
    test_batch_init(made, DIMENSION);
    for (uint32_t i = from; i < to; i++) {
        uint64_t state = i * 31u + salt;
        for (uint32_t j = 0; j < DIMENSION; j++)
            row[j] = lh_test_float(&state);
        test_batch_add(made, i, row, i % 2 ? "{\"a\":1}" : NULL);
    }
}

static struct lh_shard *make_shard(void)
{
    struct lh_shard *shard;
    struct lh_shard_room room = {0};
    struct test_batch made;
    assert_int_equal(lh_shard_create(&options, &shard), LH_OK);
    fill_batch(&made, 0, ITEMS, 0);
    test_shard_apply(shard, &made, &room);
    test_batch_deinit(&made);
    return shard;
}

static struct lh_shard *load(const char *bytes, uint64_t length)
{
    struct lh_shard *shard = NULL;
    struct lh_error error = {0};
    uint64_t rng = 1;
    assert_int_equal(
        test_section_load(&options, bytes, length, &rng, 1u << 16, 100, &shard, &error), LH_OK);
    assert_int_equal(lh_shard_validate(shard, &error), LH_OK);
    return shard;
}

static void a_begin_without_memory_begins_nothing(void **state)
{
    struct lh_shard *shard = make_shard();
    struct lh_section_writer *writer = NULL;
    struct lh_error error = {0};
    enum lh_status status = LH_OUT_OF_MEMORY;
    uint32_t calls = 0;
    for (; status != LH_OK; calls++) {
        fail_after = calls;
        status = lh_section_begin(shard, &writer);
        fail_after = NEVER;
        assert_true(status == LH_OK || status == LH_OUT_OF_MEMORY);
        assert_true(calls < 100);
    }
    assert_true(calls > 5);
    lh_section_end(writer);
    assert_true(test_shard_delete(shard, 1));
    assert_int_equal(lh_shard_validate(shard, &error), LH_OK);
    lh_shard_destroy(shard);
}

/* Changes after the begin that need images, without memory for all of them. */
static void fail_images(uint32_t after)
{
    struct lh_shard *shard = make_shard();
    struct lh_section_writer *writer;
    struct lh_error error = {0};
    struct test_batch made;
    struct lh_shard_room unused = {0}, room = {.nodes = ITEMS};
    struct lh_shard_counts counts = {0};
    char slice[1000];
    size_t got;
    fill_batch(&made, 0, ITEMS, 1);
    for (uint32_t i = 0; i < ITEMS; i++)
        room.bytes += lh_shard_item_bytes(&made.batch.items[i]);
    assert_int_equal(lh_shard_reserve(shard, room), LH_OK);
    assert_int_equal(lh_section_begin(shard, &writer), LH_OK);
    assert_int_equal(lh_section_read(writer, slice, sizeof slice, &got), LH_OK);
    fail_after = after;
    lh_shard_add(shard, &made.batch, made.numbers, made.hashes, ITEMS, &counts, &unused);
    fail_after = NEVER;
    assert_int_equal(counts.updated, ITEMS);
    assert_int_equal(lh_section_read(writer, slice, sizeof slice, &got), LH_OUT_OF_MEMORY);
    assert_int_equal(lh_section_read(writer, slice, sizeof slice, &got), LH_OUT_OF_MEMORY);
    lh_section_end(writer);
    assert_int_equal(lh_shard_validate(shard, &error), LH_OK);
    /* The next one succeeds, and has all changes. */
    uint64_t length;
    char *bytes = test_section_save(shard, &length);
    struct lh_shard *loaded = load(bytes, length);
    struct lh_found_list list = {0};
    struct lh_found_options want = {.with_vector = true, .bytes_max = 1u << 20};
    for (uint32_t i = 0; i < ITEMS; i++) {
        list.count = 0;
        list.row_floats = 0;
        assert_int_equal(lh_shard_get(loaded, made.batch.items[i].id, made.hashes[i], &want, &list),
                         LH_OK);
        assert_memory_equal(list.rows, made.batch.rows + (size_t)i * DIMENSION,
                            DIMENSION * sizeof(float));
    }
    lh_found_list_deinit(&list);
    lh_shard_destroy(loaded);
    lh_shard_destroy(shard);
    test_batch_deinit(&made);
    free(bytes);
}

static void images_without_memory_fail_the_section_and_never_the_change(void **state)
{
    for (uint32_t after = 0; after < 4; after++)
        fail_images(after);
}

static void a_load_without_memory_says_so_and_leaves_nothing(void **state)
{
    struct lh_shard *shard = make_shard(), *loaded = NULL;
    uint64_t length, rng = 1;
    char *bytes = test_section_save(shard, &length);
    enum lh_status status = LH_OUT_OF_MEMORY;
    uint32_t calls = 0;
    for (; status != LH_OK; calls++) {
        struct lh_error error = {0};
        fail_after = calls;
        status = test_section_load(&options, bytes, length, &rng, 1u << 16, 100, &loaded, &error);
        fail_after = NEVER;
        assert_true(status == LH_OK || status == LH_OUT_OF_MEMORY);
        assert_true(calls < 1000);
    }
    assert_true(calls > 20);
    lh_shard_destroy(loaded);
    loaded = load(bytes, length);
    lh_shard_destroy(loaded);
    lh_shard_destroy(shard);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_begin_without_memory_begins_nothing),
        cmocka_unit_test(images_without_memory_fail_the_section_and_never_the_change),
        cmocka_unit_test(a_load_without_memory_says_so_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
