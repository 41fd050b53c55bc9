/* actors/catalog_files: manifests as Parquet, there and back; what is broken stays alone. */
#include "actors/catalog_files.h"

#include "base/clock.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char folder[64];
    struct lh_catalog_files files;
    struct lh_error error;
};

static int setup(void **state)
{
    static struct fixture fixture;
    if (lh_sql_version() == NULL)
        return 0;
    strcpy(fixture.folder, "/tmp/catalog_files_XXXXXX");
    assert_non_null(mkdtemp(fixture.folder));
    assert_int_equal(lh_catalog_files_init(&fixture.files, fixture.folder, &fixture.error), LH_OK);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    if (fixture == NULL)
        return 0;
    lh_catalog_files_deinit(&fixture->files);
    return rmdir(fixture->folder); /* fails when a file was left */
}

static struct fixture *fixture_of(void **state)
{
    if (*state == NULL)
        skip();
    return *state;
}

static struct lh_manifest *make(const char *name, uint64_t version, uint32_t count)
{
    struct lh_manifest_object *objects = calloc(count, sizeof *objects);
    char(*keys)[64] = calloc(count, sizeof *keys);
    struct lh_manifest shape = {.name = lh_str_of(name),
                                .fingerprint = LH_STR("f2"),
                                .version = version,
                                .objects = objects,
                                .count = count,
                                .schema_json = LH_STR("[{\"name\":\"it's \\\"q\\\"\",\"type\":"
                                                      "\"STRUCT(a BIGINT)\"}]"),
                                .has_row_count = true,
                                .row_count = 9007199254740992,
                                .created_ms = 1780000000123};
    for (uint32_t i = 0; i < count; i++) {
        snprintf(keys[i], sizeof keys[i], "datasets/%s/it's \xc3\xa9 %u.parquet", name, i);
        objects[i] =
            (struct lh_manifest_object){.key = lh_str_of(keys[i]),
                                        .size = 1000000007ull * i,
                                        .fingerprint = lh_str_of(i == count - 1 ? "f2" : "f1")};
    }
    lh_dataset_id(shape.name, shape.dataset_id);
    struct lh_manifest *made = lh_manifest_create(&shape);
    free(objects);
    free(keys);
    assert_non_null(made);
    return made;
}

static void assert_equal(const struct lh_manifest *a, const struct lh_manifest *b)
{
    struct lh_buf left = LH_BUF_EMPTY, right = LH_BUF_EMPTY;
    lh_manifest_append_json(a, &left);
    lh_manifest_append_json(b, &right);
    lh_buf_append_char(&left, '\0');
    lh_buf_append_char(&right, '\0');
    assert_string_equal(left.ptr, right.ptr);
    lh_buf_deinit(&left);
    lh_buf_deinit(&right);
}

static void write_file(struct fixture *fixture, const struct lh_manifest *manifest,
                       struct lh_catalog_file *file)
{
    *file = (struct lh_catalog_file){.name = manifest->name, .version = manifest->version};
    if (lh_catalog_files_write(&fixture->files, manifest, &file->bytes, &fixture->error) != LH_OK)
        fail_msg("%s", fixture->error.text);
}

static void what_is_written_is_read(void **state)
{
    struct fixture *fixture = fixture_of(state);
    static const uint32_t counts[] = {1, 2, 3000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct lh_manifest *manifest = make("people", i + 1, counts[i]);
        struct lh_catalog_file file;
        manifest->has_row_count = i != 1;
        write_file(fixture, manifest, &file);
        assert_int_equal(lh_catalog_files_read(&fixture->files, &file, 1, &fixture->error), LH_OK);
        if (file.manifest == NULL)
            fail_msg("%s", file.error.text);
        assert_equal(manifest, file.manifest);
        lh_manifest_destroy(manifest);
        lh_manifest_destroy(file.manifest);
    }
}

static void a_manifest_without_a_schema(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct lh_manifest *manifest = make("people", 7, 1);
    struct lh_catalog_file file;
    manifest->schema_json = LH_STR("");
    write_file(fixture, manifest, &file);
    assert_int_equal(lh_catalog_files_read(&fixture->files, &file, 1, &fixture->error), LH_OK);
    assert_non_null(file.manifest);
    assert_int_equal(file.manifest->schema_json.len, 0);
    assert_equal(manifest, file.manifest);
    lh_manifest_destroy(manifest);
    lh_manifest_destroy(file.manifest);
}

/* A whole batch with a torn file, one that is no Parquet, an empty one, and one of another name. */
static void a_broken_file_costs_itself(void **state)
{
    struct fixture *fixture = fixture_of(state);
    static struct lh_catalog_file list[LH_CATALOG_FILES_BATCH];
    static char names[LH_CATALOG_FILES_BATCH][16];
    for (uint32_t i = 0; i < LH_CATALOG_FILES_BATCH; i++) {
        snprintf(names[i], sizeof names[i], "d%u", i);
        struct lh_manifest *manifest = make(names[i], 1, 1 + i % 3);
        write_file(fixture, manifest, &list[i]);
        list[i].name = lh_str_of(names[i]);
        lh_manifest_destroy(manifest);
    }
    list[3].bytes.len /= 2;
    memset(list[5].bytes.ptr, 'x', list[5].bytes.len);
    list[7].bytes.len = 0;
    list[9].name = LH_STR("other");
    list[11].version = 2;
    assert_int_equal(
        lh_catalog_files_read(&fixture->files, list, LH_CATALOG_FILES_BATCH, &fixture->error),
        LH_OK);
    for (uint32_t i = 0; i < LH_CATALOG_FILES_BATCH; i++) {
        bool is_broken = i >= 3 && i <= 11 && i % 2 == 1;
        if (is_broken != (list[i].manifest == NULL))
            fail_msg("file %u: %s", i, list[i].error.text);
        if (is_broken) {
            assert_int_equal(list[i].error.status, LH_CORRUPT);
            assert_true(strlen(list[i].error.text) > 0);
        }
        lh_manifest_destroy(list[i].manifest);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(a_manifest_without_a_schema),
        cmocka_unit_test(a_broken_file_costs_itself),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
