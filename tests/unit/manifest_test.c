/* actors/manifest: ids, JSON there and back, and what is refused where. */
#include "actors/manifest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void an_id_is_the_names_on_every_host(void **state)
{
    char id[LH_DATASET_ID_BYTES + 1];
    lh_dataset_id(LH_STR("workers_500k"), id);
    assert_string_equal(id, "d380f6b5-dd01-5e97-8b03-e59971ef85bb");
    lh_dataset_id(LH_STR("demo"), id);
    assert_string_equal(id, "679e0307-be5f-5828-a0e7-9afab4462864");
    (void)state;
}

static void a_registration_is_read(void **state)
{
    struct lh_manifest *manifest;
    enum lh_register_mode mode;
    struct lh_error error;
    assert_int_equal(
        lh_registration_read(
            LH_STR("{\"name\":\"people\",\"fingerprint\":\"f1\",\"mode\":\"append\","
                   "\"row_count\":3,\"schema\":[ {\"type\":\"BIGINT\", \"name\":\"id\"} ],"
                   "\"objects\":[{\"key\":\"a/b\",\"size\":7},{\"size\":0,\"key\":\"\\u00e9\"}]}"),
            &manifest, &mode, &error),
        LH_OK);
    assert_int_equal(mode, LH_REGISTER_APPEND);
    assert_string_equal(manifest->name.ptr, "people");
    assert_int_equal(manifest->count, 2);
    assert_string_equal(manifest->objects[1].key.ptr, "\xc3\xa9");
    assert_string_equal(manifest->objects[0].fingerprint.ptr, "f1");
    assert_int_equal(manifest->objects[0].size, 7);
    assert_true(manifest->has_row_count);
    assert_int_equal(manifest->row_count, 3);
    assert_string_equal(manifest->schema_json.ptr, "[{\"name\":\"id\",\"type\":\"BIGINT\"}]");
    lh_manifest_destroy(manifest);
    (void)state;
}

static void a_manifest_comes_back_as_it_was_written(void **state)
{
    struct lh_manifest_object objects[] = {{LH_STR("a \"b\"/\xe2\x82\xac"), 1, LH_STR("old")},
                                           {LH_STR("c"), 9007199254740992, LH_STR("new")}};
    struct lh_manifest shape = {.name = LH_STR("people"),
                                .fingerprint = LH_STR("new"),
                                .version = 12,
                                .objects = objects,
                                .count = 2,
                                .created_ms = 1763736123045};
    struct lh_buf first = LH_BUF_EMPTY, second = LH_BUF_EMPTY;
    struct lh_manifest *read;
    struct lh_error error;
    lh_dataset_id(shape.name, shape.dataset_id);
    lh_manifest_append_json(&shape, &first);
    assert_int_equal(lh_manifest_read(lh_buf_str(&first), &read, &error), LH_OK);
    assert_int_equal(read->created_ms, shape.created_ms);
    assert_int_equal(read->version, 12);
    assert_string_equal(read->objects[0].fingerprint.ptr, "old");
    assert_string_equal(read->objects[1].fingerprint.ptr, "new");
    assert_false(read->has_row_count);
    lh_manifest_append_json(read, &second);
    assert_true(lh_str_eq(lh_buf_str(&first), lh_buf_str(&second)));
    assert_non_null(memmem(first.ptr, first.len, "2025-11-21T14:42:03.045Z", 24));
    lh_manifest_destroy(read);
    lh_buf_deinit(&first);
    lh_buf_deinit(&second);
    (void)state;
}

#define OBJECTS "\"objects\":[{\"key\":\"k\",\"size\":1}]"

static void what_is_wrong_is_told_with_its_place(void **state)
{
    static const struct {
        const char *text;
        const char *place;
    } cases[] = {
        {"[]", "object"},
        {"{\"fingerprint\":\"f\"," OBJECTS "}", "name"},
        {"{\"name\":\"../x\",\"fingerprint\":\"f\"," OBJECTS "}", "name"},
        {"{\"name\":\".x\",\"fingerprint\":\"f\"," OBJECTS "}", "name"},
        {"{\"name\":\"a\"," OBJECTS "}", "fingerprint"},
        {"{\"name\":\"a\",\"fingerprint\":\"\"," OBJECTS "}", "fingerprint"},
        {"{\"name\":\"a\",\"fingerprint\":\"a b\"," OBJECTS "}", "fingerprint"},
        {"{\"name\":\"a\",\"fingerprint\":\"f\"}", "objects"},
        {"{\"name\":\"a\",\"fingerprint\":\"f\",\"objects\":[]}", "objects"},
        {"{\"name\":\"a\",\"fingerprint\":\"f\",\"objects\":[3]}", "objects[0]"},
        {"{\"name\":\"a\",\"fingerprint\":\"f\",\"objects\":[{\"key\":\"k\"}]}", "objects[0].size"},
        {"{\"name\":\"a\",\"fingerprint\":\"f\",\"objects\":[{\"key\":\"k\",\"size\":-1}]}",
         "objects[0].size"},
        {"{\"name\":\"a\",\"fingerprint\":\"f\",\"objects\":[{\"size\":1}]}", "objects[0].key"},
        {"{\"name\":\"a\",\"fingerprint\":\"f\",\"objects\":[{\"key\":\"a/../b\",\"size\":1}]}",
         "objects[0].key"},
        {"{\"name\":\"a\",\"fingerprint\":\"f\",\"objects\":[{\"key\":\"k\",\"size\":1,\"x\":1}]}",
         "objects[0].x"},
        {"{\"name\":\"a\",\"fingerprint\":\"f\",\"objects\":[{\"key\":\"k\",\"size\":1},"
         "{\"key\":\"l\",\"size\":1},{\"key\":\"k\",\"size\":1}]}",
         "objects[2].key"},
        {"{\"name\":\"a\",\"fingerprint\":\"f\"," OBJECTS ",\"mode\":\"upsert\"}", "mode"},
        {"{\"name\":\"a\",\"fingerprint\":\"f\"," OBJECTS ",\"mode\":1}", "mode"},
        {"{\"name\":\"a\",\"fingerprint\":\"f\"," OBJECTS ",\"row_count\":1.5}", "row_count"},
        {"{\"name\":\"a\",\"fingerprint\":\"f\"," OBJECTS ",\"schema\":{}}", "schema"},
        {"{\"name\":\"a\",\"fingerprint\":\"f\"," OBJECTS ",\"schema\":[{\"name\":\"x\"}]}",
         "schema[0]"},
        {"{\"name\":\"a\",\"fingerprint\":\"f\"," OBJECTS ",\"other\":1}", "other"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lh_manifest *manifest;
        enum lh_register_mode mode;
        struct lh_error error = {.status = LH_OK};
        enum lh_status status =
            lh_registration_read(lh_str_of(cases[i].text), &manifest, &mode, &error);
        if (lh_status_http(status) != 400 || strstr(error.text, cases[i].place) == NULL)
            fail_msg("%s: %s", cases[i].text, error.text);
    }
    (void)state;
}

static void schemas_differ_in_a_column(void **state)
{
#define A "{\"name\":\"a\",\"type\":\"BIGINT\"}"
#define B "{\"name\":\"b\",\"type\":\"VARCHAR\"}"
    struct lh_error error;
    assert_int_equal(lh_schema_compare(LH_STR("[" A "," B "]"), LH_STR("[" A "," B "]"), &error),
                     LH_OK);
    assert_int_equal(lh_schema_compare(LH_STR(""), LH_STR("[" A "]"), &error), LH_OK);
    assert_int_equal(lh_schema_compare(LH_STR("[" A "]"), LH_STR(""), &error), LH_OK);
    assert_int_equal(lh_schema_compare(LH_STR("[" A "," B "]"), LH_STR("[" A "," A "]"), &error),
                     LH_SCHEMA_CONFLICT);
    assert_non_null(strstr(error.text, "schema[1]"));
    assert_non_null(strstr(error.text, "\"b\" VARCHAR"));
    assert_int_equal(lh_schema_compare(LH_STR("[" A "]"), LH_STR("[" A "," B "]"), &error),
                     LH_SCHEMA_CONFLICT);
    assert_non_null(strstr(error.text, "2 columns, the dataset has 1"));
    (void)state;
}

static void times_are_read_strictly(void **state)
{
    static const char *const wrong[] = {"",
                                        "2026",
                                        "2026-01-01T00:00:00Z",
                                        "2026-01-01 00:00:00.000Z",
                                        "2026-01-01T00:00:00.000",
                                        "2026-01-01T00:00:00.000Zx",
                                        "2026-01-01T00:00:00.00Z",
                                        "1969-12-31T23:59:59.000Z"};
    uint64_t ms = 0;
    assert_true(lh_read_time(LH_STR("1970-01-01T00:00:01.001Z"), &ms));
    assert_int_equal(ms, 1001);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (lh_read_time(lh_str_of(wrong[i]), &ms))
            fail_msg("%s", wrong[i]);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_id_is_the_names_on_every_host),
        cmocka_unit_test(a_registration_is_read),
        cmocka_unit_test(a_manifest_comes_back_as_it_was_written),
        cmocka_unit_test(what_is_wrong_is_told_with_its_place),
        cmocka_unit_test(schemas_differ_in_a_column),
        cmocka_unit_test(times_are_read_strictly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
