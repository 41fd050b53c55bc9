/* store/lhv1_check: a whole file passes, and no byte that counts can be another. */
#include "store/lhv1_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define FILE_BYTES_MAX (1u << 20)

struct copy {
    char folder[64];
    char path[80];
    char *bytes;
    size_t len;
};

static int set_up(void **state)
{
    struct copy *copy = calloc(1, sizeof *copy);
    assert_non_null(copy);
    snprintf(copy->folder, sizeof copy->folder, "lhv1_check.XXXXXX");
    assert_non_null(mkdtemp(copy->folder));
    snprintf(copy->path, sizeof copy->path, "%s/copy", copy->folder);
    copy->bytes = malloc(FILE_BYTES_MAX);
    assert_non_null(copy->bytes);
    *state = copy;
    return 0;
}

static int tear_down(void **state)
{
    struct copy *copy = *state;
    unlink(copy->path);
    rmdir(copy->folder);
    free(copy->bytes);
    free(copy);
    return 0;
}

static void load(struct copy *copy, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, LH_TESTS_FOLDER "/golden/%s", name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    copy->len = fread(copy->bytes, 1, FILE_BYTES_MAX, file);
    assert_true(copy->len > 0 && copy->len < FILE_BYTES_MAX);
    fclose(file);
}

/* Checks the first `len` bytes of the copy as a file. */
static enum lh_status check(struct copy *copy, size_t len, struct lh_error *error)
{
    struct lh_lhv1_envelope envelope;
    struct lh_disk *disk;
    int file;
    FILE *out = fopen(copy->path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(copy->bytes, 1, len, out), len);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(lh_disk_open_plain(copy->folder, &disk, error), LH_OK);
    assert_int_equal(lh_disk_open(disk, "copy", LH_DISK_OPEN_READ, &file), 0);
    enum lh_status status = lh_lhv1_check(disk, file, &envelope, error);
    if (status == LH_OK)
        lh_lhv1_envelope_deinit(&envelope);
    lh_disk_close(disk, file);
    lh_disk_destroy(disk);
    return status;
}

static void whole_files_of_both_versions_pass(void **state)
{
    static const char *const files[] = {"lhv1-v2/words.lhv1", "lhv1-go/go_cosine_300x16.lhv1",
                                        "lhv1-go/go_euclidean_140x5_deleted.lhv1",
                                        "lhv1-go/go_empty_8.lhv1"};
    struct copy *copy = *state;
    struct lh_error error;
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        load(copy, files[i]);
        assert_int_equal(check(copy, copy->len, &error), LH_OK);
    }
}

static void a_bit_in_any_section_or_in_the_envelope_is_found(void **state)
{
    struct copy *copy = *state;
    struct lh_lhv1_envelope envelope;
    struct lh_error error;
    struct lh_disk *disk;
    int file;
    load(copy, "lhv1-v2/words.lhv1");
    assert_int_equal(check(copy, copy->len, &error), LH_OK);
    assert_int_equal(lh_disk_open_plain(copy->folder, &disk, &error), LH_OK);
    assert_int_equal(lh_disk_open(disk, "copy", LH_DISK_OPEN_READ, &file), 0);
    assert_int_equal(lh_lhv1_envelope_read(disk, file, &envelope, &error), LH_OK);
    for (uint32_t i = 0; i < envelope.params.shards; i++) {
        const struct lh_lhv1_section *section = &envelope.sections[i];
        uint64_t places[] = {section->offset, section->offset + section->length / 2,
                             section->offset + section->length - 1};
        for (unsigned p = 0; p < 3; p++) {
            copy->bytes[places[p]] ^= 4;
            assert_int_equal(check(copy, copy->len, &error), LH_CORRUPT);
            assert_non_null(strstr(error.text, "their checksum is"));
            copy->bytes[places[p]] ^= 4;
        }
    }
    copy->bytes[20] ^= 1;
    assert_int_equal(check(copy, copy->len, &error), LH_CORRUPT);
    lh_lhv1_envelope_deinit(&envelope);
    lh_disk_close(disk, file);
    lh_disk_destroy(disk);
}

static void a_file_that_ends_early_is_found(void **state)
{
    static const char *const files[] = {"lhv1-v2/words.lhv1", "lhv1-go/go_cosine_300x16.lhv1"};
    struct copy *copy = *state;
    struct lh_error error;
    for (unsigned i = 0; i < 2; i++) {
        load(copy, files[i]);
        size_t lengths[] = {0, 7, copy->len / 2, copy->len - 1};
        for (unsigned l = 0; l < 4; l++)
            assert_int_equal(check(copy, lengths[l], &error), LH_CORRUPT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole_files_of_both_versions_pass, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_bit_in_any_section_or_in_the_envelope_is_found, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_ends_early_is_found, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
