/* Decoding and encoding when the n-th allocation fails, for every n: each time the status is
 * LH_OUT_OF_MEMORY, and nothing that was allocated before stays behind. The build wraps the
 * allocator here; C++'s operators are replaced below. */
#include "actors/decoder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- the allocator ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *memory);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *memory);

static unsigned fail_at; /* 0: none fails */
static unsigned calls;
static long live; /* allocations that have not been freed */

static bool fails(void)
{
    return fail_at != 0 && ++calls == fail_at;
}

static void *counted(void *memory)
{
    live += memory != NULL;
    return memory;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : counted(__real_calloc(count, size));
}

void *__wrap_realloc(void *memory, size_t size)
{
    if (fails())
        return NULL;
    return memory == NULL ? counted(__real_realloc(NULL, size)) : __real_realloc(memory, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : counted(__real_aligned_alloc(alignment, size));
}

void __wrap_free(void *memory)
{
    live -= memory != NULL;
    __real_free(memory);
}

/* operator new and delete, by their names in the Itanium C++ ABI. Only the forms that may return
 * NULL are made to fail: nothing on the way of a body uses the others. */
void *new_or_null(size_t size, const void *nothrow) __asm__("_ZnwmRKSt9nothrow_t");
void *new_array_or_null(size_t size, const void *nothrow) __asm__("_ZnamRKSt9nothrow_t");
void *new_one(size_t size) __asm__("_Znwm");
void *new_array(size_t size) __asm__("_Znam");
void delete_one(void *memory) __asm__("_ZdlPv");
void delete_array(void *memory) __asm__("_ZdaPv");
void delete_sized(void *memory, size_t size) __asm__("_ZdlPvm");
void delete_array_sized(void *memory, size_t size) __asm__("_ZdaPvm");

void *new_or_null(size_t size, const void *nothrow)
{
    (void)nothrow;
    return __wrap_malloc(size);
}

void *new_array_or_null(size_t size, const void *nothrow)
{
    (void)nothrow;
    return __wrap_malloc(size);
}

void *new_one(size_t size)
{
    return counted(__real_malloc(size));
}

void *new_array(size_t size)
{
    return counted(__real_malloc(size));
}

void delete_one(void *memory)
{
    __wrap_free(memory);
}

void delete_array(void *memory)
{
    __wrap_free(memory);
}

void delete_sized(void *memory, size_t size)
{
    (void)size;
    __wrap_free(memory);
}

void delete_array_sized(void *memory, size_t size)
{
    (void)size;
    __wrap_free(memory);
}

/* ---- the driver ---- */

/* Runs it with each allocation failing in turn until it makes no more; how many it makes. Of them
 * `unused` are made and not used, so that it goes well without. */
static unsigned each_failure(enum lh_status (*run)(const void *arg), const void *arg,
                             unsigned unused)
{
    assert_int_equal(run(arg), LH_OK); /* and what libraries make once is made */
    for (unsigned n = 1;; n++) {
        const long before = live;
        enum lh_status status;
        calls = 0;
        fail_at = n;
        status = run(arg);
        fail_at = 0;
        if (live != before)
            fail_msg("allocation %u failed: %ld left behind", n, live - before);
        if (calls < n) {
            assert_int_equal(status, LH_OK);
            assert_int_equal(unused, 0);
            return n - 1;
        }
        if (status == LH_OK && unused > 0) {
            unused--;
            continue;
        }
        if (status != LH_OUT_OF_MEMORY)
            fail_msg("allocation %u failed: %s", n, lh_status_code(status));
    }
}

/* ---- bodies ---- */

#define TEN_NUMBERS "1,-2.5,3e-3,4,5,6,7,8,9,10"

static const char items[] =
    "{\"items\":[{\"id\":\"a\\n\\u2603\",\"vector\":[" TEN_NUMBERS
    "],\"metadata\":{\"a\" : [1, 2, {\"b\":\"\\u0041\"}]}},"
    "{\"id\":\"b\",\"vector\":\"AACAPwAAAEAAAEBAAACAQAAAoEAAAMBAAADgQAAAAEEAABBBAAAgQQ==\"},"
    "{\"id\":\"c\",\"vector\":"
    "\"AACAPwAAAEAAAEBAAACAQAAAoEAAAMBAAADgQAAAAEEAABBBAAAgQQ=\\u003d\"},"
    "{\"id\":\"d\",\"vector\":[" TEN_NUMBERS "],\"metadata\":{}},"
    "{\"id\":\"e\",\"vector\":[" TEN_NUMBERS "]}]}";
static const char ids[] = "{\"ids\":[\"a\",\"b\\n\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\"]}";
static const char search[] = "{\"vector\":[" TEN_NUMBERS "],\"k\":3}";
static const char searches[] = "{\"vectors\":[[1,2],[3,4],[5,6],\"AACAPwAAAEA=\"],\"k\":3}";
static const char new_index[] = "{\"name\":\"a\",\"dimension\":3,\"distance\":\"dot\"}";
static const char line[] = "{\"id\":\"a\\n\",\"vector\":[1,2],\"metadata\":{\"a\" : 1}}\n";

static struct lh_buf body_of(const char *text)
{
    struct lh_buf body = LH_BUF_EMPTY;
    lh_buf_append_str(&body, lh_str_of(text));
    return body;
}

/* Everything that a decoder thread does with a body, from the decoder's making on. */
static enum lh_status run_batch(const char *text,
                                enum lh_status (*decode)(struct lh_decoder *, struct lh_buf *,
                                                         struct lh_batch *, struct lh_error *))
{
    struct lh_buf body = body_of(text);
    struct lh_decoder *decoder = NULL;
    struct lh_batch batch = {0};
    struct lh_error error;
    enum lh_status status = lh_buf_failed(&body) ? LH_OUT_OF_MEMORY : lh_decoder_create(&decoder);
    if (status == LH_OK) {
        status = decode(decoder, &body, &batch, &error);
        if (status != LH_OK)
            assert_int_equal(error.status, status);
        lh_batch_deinit(&batch);
    }
    lh_decoder_destroy(decoder);
    lh_buf_deinit(&body);
    return status;
}

static enum lh_status decode_search(struct lh_decoder *decoder, struct lh_buf *body,
                                    struct lh_batch *batch, struct lh_error *error)
{
    struct lh_search_request request = {0};
    enum lh_status status = lh_decode_search(decoder, body, &request, error);
    if (status == LH_OK)
        *batch = request.queries;
    return status;
}

static enum lh_status decode_index(struct lh_decoder *decoder, struct lh_buf *body,
                                   struct lh_batch *batch, struct lh_error *error)
{
    struct lh_index_request request;
    (void)batch;
    return lh_decode_index(decoder, body, &request, error);
}

static enum lh_status decode_line(struct lh_decoder *decoder, struct lh_buf *body,
                                  struct lh_batch *batch, struct lh_error *error)
{
    size_t consumed;
    uint64_t lines;
    return lh_decode_ndjson(decoder, body, 0, false, 1, batch, &consumed, &lines, error);
}

static enum lh_status run_items(const void *arg)
{
    return run_batch(arg, lh_decode_items);
}

static enum lh_status run_ids(const void *arg)
{
    return run_batch(arg, lh_decode_ids);
}

static enum lh_status run_search(const void *arg)
{
    return run_batch(arg, decode_search);
}

static enum lh_status run_index(const void *arg)
{
    return run_batch(arg, decode_index);
}

static enum lh_status run_line(const void *arg)
{
    return run_batch(arg, decode_line);
}

static void decoding_without_memory_is_told_and_leaves_nothing(void **state)
{
    /* At the least: the decoder, its row, the parser's three buffers and the body. The parser's
     * buffer for strings is not used (see ext/reader.h). */
    assert_true(each_failure(run_items, items, 1) > 10);
    assert_true(each_failure(run_ids, ids, 1) > 8);
    assert_true(each_failure(run_search, search, 1) > 8);
    assert_true(each_failure(run_search, searches, 1) > 8);
    assert_true(each_failure(run_index, new_index, 1) > 5);
    assert_true(each_failure(run_line, line, 1) > 8);
    (void)state;
}

static enum lh_status run_one_id(const void *arg)
{
    struct lh_batch batch = {0};
    enum lh_status status = lh_batch_of_id(&batch, lh_str_of(arg));
    lh_batch_deinit(&batch);
    return status;
}

static void a_batch_of_one_id_without_memory_is_told_and_leaves_nothing(void **state)
{
    assert_true(each_failure(run_one_id, "an id", 0) >= 3);
    (void)state;
}

/* ---- answers ---- */

#define DIMENSION 300u /* its text outgrows a buffer's first sizes */

static void *must(void *memory)
{
    assert_non_null(memory);
    return memory;
}

static void find(struct lh_found_list *list, uint32_t count)
{
    list->items = must(calloc(count, sizeof *list->items));
    list->rows = must(calloc((size_t)count * DIMENSION, sizeof *list->rows));
    for (uint32_t i = 0; i < count; i++) {
        struct lh_found *found = &list->items[i];
        found->text_at = list->text.len;
        found->id_len = 3;
        found->metadata_len = 9;
        found->has_metadata = true;
        found->row_at = (size_t)i * DIMENSION;
        found->distance = (float)i;
        lh_buf_append_str(&list->text, LH_STR("a\n\"{\"b\":1.5}"));
    }
    list->count = count;
}

/* As vectord leaves it: two shards with three items for each query. */
static struct lh_request *gathered(enum lh_op op, uint32_t queries)
{
    struct lh_request *request = must(lh_request_create(op));
    request->part_count = 2;
    request->parts = must(calloc(request->part_count, sizeof *request->parts));
    for (uint32_t p = 0; p < request->part_count; p++) {
        struct lh_part *part = &request->parts[p];
        find(&part->found, 3 * queries);
        part->graph.dimension = DIMENSION;
        part->ends = must(calloc(queries + 1, sizeof *part->ends));
        for (uint32_t i = 0; i < queries; i++)
            part->ends[i] = 3 * (i + 1);
    }
    request->batch.count = queries;
    request->batch.dimension = DIMENSION;
    request->search.k = 5;
    request->search.is_batch = queries > 1;
    request->search.with_vector = true;
    request->with_vector = true;
    lh_buf_append_str(&request->text, LH_STR("a cursor"));
    return request;
}

struct encoding {
    enum lh_op op;
    uint32_t queries;
};

static enum lh_status run_encode(const void *arg)
{
    const struct encoding *encoding = arg;
    const unsigned n = fail_at;
    fail_at = 0; /* what the shards found is there */
    struct lh_request *request = gathered(encoding->op, encoding->queries);
    fail_at = n;
    lh_encode_answer(request);
    enum lh_status status = request->error.status;
    bool is_whole = request->answer.len > 2 * DIMENSION;
    lh_request_destroy(request);
    assert_true(status != LH_OK || is_whole);
    return status;
}

static void encoding_without_memory_is_told_and_leaves_nothing(void **state)
{
    const struct encoding encodings[] = {
        {LH_OP_SEARCH, 1}, {LH_OP_SEARCH, 4}, {LH_OP_ITEM_GET, 1}, {LH_OP_ITEMS_PAGE, 1}};
    for (size_t i = 0; i < sizeof encodings / sizeof *encodings; i++)
        assert_true(each_failure(run_encode, &encodings[i], 0) >= 2);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_without_memory_is_told_and_leaves_nothing),
        cmocka_unit_test(a_batch_of_one_id_without_memory_is_told_and_leaves_nothing),
        cmocka_unit_test(encoding_without_memory_is_told_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
