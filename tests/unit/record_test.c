/* store/record: what goes in comes out, and what is damaged is refused with its place. */
#include "ext/batch.h"
#include "store/record.h"
#include "unit/seed.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct lh_record create_record(void)
{
    struct lh_record record = {.type = LH_RECORD_CREATE,
                               .params = {.name = "words",
                                          .dimension = 100,
                                          .distance = 2,
                                          .m = 16,
                                          .ef_construction = 200,
                                          .ef_search = 128,
                                          .shards = 8,
                                          .seed = 0x1122334455667788}};
    memset(record.uuid, 7, sizeof record.uuid);
    memset(record.params.uuid, 7, sizeof record.uuid);
    return record;
}

/* An ADD of three items, or a DELETE of three ids: with metadata, empty, and without. */
static struct lh_record batch_record(enum lh_record_type type)
{
    static const char *const ids[] = {"a", "id-\xc3\xbc", "longer than eight bytes"};
    static const float row[] = {1, -2.5f, 0};
    struct lh_record record = {.type = type};
    lh_batch_init(&record.batch);
    for (int i = 0; i < 3; i++) {
        struct lh_batch_item item = {.id = lh_str_of(ids[i])};
        if (type == LH_RECORD_ADD) {
            item.dimension = 3;
            if (i < 2)
                item.metadata = lh_str_of(i == 0 ? "{\"k\":\"v\"}" : "{}");
            assert_int_equal(lh_batch_add_row(&record.batch, &item, row, 3), LH_OK);
        } else {
            assert_int_equal(lh_batch_add(&record.batch, &item), LH_OK);
        }
    }
    return record;
}

static struct lh_buf encoded(const struct lh_record *record)
{
    struct lh_buf out = LH_BUF_EMPTY;
    assert_int_equal(lh_record_encode(record, &out), LH_OK);
    assert_int_equal(out.len, lh_record_bytes(record));
    return out;
}

static void assert_same_batch(const struct lh_batch *a, const struct lh_batch *b)
{
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->dimension, b->dimension);
    for (uint32_t i = 0; i < a->count; i++) {
        assert_true(lh_str_eq(a->items[i].id, b->items[i].id));
        assert_true(lh_str_eq(a->items[i].metadata, b->items[i].metadata));
        assert_int_equal(a->items[i].metadata.ptr == NULL, b->items[i].metadata.ptr == NULL);
    }
    if (a->dimension > 0)
        assert_memory_equal(a->rows, b->rows, a->count * a->dimension * sizeof(float));
}

static void every_type_comes_back_as_it_was(void **state)
{
    struct lh_record records[] = {create_record(),
                                  {.type = LH_RECORD_DROP, .uuid = {1, 2, 3}},
                                  batch_record(LH_RECORD_ADD),
                                  batch_record(LH_RECORD_DELETE),
                                  {.type = LH_RECORD_RESHARD, .shards = 256}};
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        struct lh_buf out = encoded(&records[i]);
        struct lh_record back;
        struct lh_error error;
        assert_int_equal(lh_record_decode(out.ptr, out.len, &back, &error), LH_OK);
        assert_int_equal(back.type, records[i].type);
        assert_memory_equal(back.uuid, records[i].uuid, sizeof back.uuid);
        assert_int_equal(back.shards, records[i].shards);
        if (back.type == LH_RECORD_CREATE)
            assert_memory_equal(&back.params, &records[i].params, sizeof back.params);
        assert_same_batch(&back.batch, &records[i].batch);
        lh_record_deinit(&back);
        lh_record_deinit(&records[i]);
        lh_buf_deinit(&out);
    }
}

static void a_payload_cut_anywhere_is_refused(void **state)
{
    struct lh_record records[] = {create_record(), batch_record(LH_RECORD_ADD)};
    for (int i = 0; i < 2; i++) {
        struct lh_buf out = encoded(&records[i]);
        for (size_t len = 0; len < out.len; len++) {
            char *tight = malloc(len + 1);
            struct lh_record back;
            struct lh_error error;
            assert_non_null(tight);
            memcpy(tight, out.ptr, len);
            assert_int_equal(lh_record_decode(tight, len, &back, &error), LH_CORRUPT);
            assert_int_equal(memcmp(error.text, "byte ", 5), 0);
            free(tight);
        }
        lh_record_deinit(&records[i]);
        lh_buf_deinit(&out);
    }
}

static void damage_is_refused_with_its_place(void **state)
{
    static const struct {
        bool is_create;
        size_t at;
        uint32_t value;
        const char *text;
    } cases[] = {
        {true, 0, 9, "byte 0: type 9"},
        {true, 0, 0x101, "byte 1: not zero"},
        {true, 4, 4, "byte 60: 1 bytes too many"},
        {true, 4, 6, "byte 56: the name needs 6 bytes, 5 are left"},
        {true, 24, 0, "byte 24: dimension 0"},
        {true, 24, 65536, "byte 24: dimension 65536"},
        {true, 28, 3, "byte 28: distance 3"},
        {true, 32, 1, "byte 32: m 1"},
        {true, 36, 5000, "byte 36: ef_construction 5000"},
        {true, 40, 0, "byte 40: ef_search 0"},
        {true, 44, 257, "byte 44: 257 shards"},
        {true, 56, 0x2f2f2f2f, "byte 56: not the name of an index"},
        {false, 4, 0xffffffff, "byte 32: the table of items needs 34359738360 bytes, 100 are left"},
        {false, 24, 0, "byte 24: dimension 0"},
        {false, 24, 65535, "byte 56: the rows needs 786420 bytes, 76 are left"},
        {false, 28, 1, "byte 28: not zero"},
        {false, 32, 0x10000, "byte 32: an id of 0 bytes"},
        {false, 32, 0x10201, "byte 32: an id of 513 bytes"},
        {false, 32, 0x20001, "byte 34: flags 0x2"},
        {false, 36, 65537, "byte 36: metadata of 65537 bytes"},
        {false, 36, 0, "byte 36: metadata of 0 bytes"},
        {false, 60, 0x7fc00000, "byte 60: not a finite number"},
        {false, 88, 0xff800000, "byte 88: not a finite number"},
        {false, 92, 0xffffffff, "byte 92: an id is not UTF-8"},
        {false, 92, 0x20202061, "byte 93: metadata is not an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lh_record record =
            cases[i].is_create ? create_record() : batch_record(LH_RECORD_ADD);
        struct lh_buf out = encoded(&record);
        struct lh_record back;
        struct lh_error error;
        memcpy(out.ptr + cases[i].at, &cases[i].value, 4);
        assert_int_equal(lh_record_decode(out.ptr, out.len, &back, &error), LH_CORRUPT);
        assert_string_equal(error.text, cases[i].text);
        lh_record_deinit(&record);
        lh_buf_deinit(&out);
    }
}

static void a_flipped_bit_never_crashes_and_what_is_taken_encodes_to_the_same_bytes(void **state)
{
    struct lh_record record = batch_record(LH_RECORD_ADD);
    struct lh_buf out = encoded(&record);
    for (size_t bit = 0; bit < out.len * 8; bit++) {
        struct lh_record back;
        struct lh_error error;
        out.ptr[bit / 8] ^= (char)(1 << bit % 8);
        if (lh_record_decode(out.ptr, out.len, &back, &error) == LH_OK) {
            struct lh_buf again = encoded(&back);
            assert_int_equal(again.len, out.len);
            assert_memory_equal(again.ptr, out.ptr, out.len);
            lh_buf_deinit(&again);
            lh_record_deinit(&back);
        }
        out.ptr[bit / 8] ^= (char)(1 << bit % 8);
    }
    lh_record_deinit(&record);
    lh_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_comes_back_as_it_was),
        cmocka_unit_test(a_payload_cut_anywhere_is_refused),
        cmocka_unit_test(damage_is_refused_with_its_place),
        cmocka_unit_test(a_flipped_bit_never_crashes_and_what_is_taken_encodes_to_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
