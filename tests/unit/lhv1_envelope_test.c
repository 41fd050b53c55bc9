/* store/lhv1: what an envelope of version 2 says, and every way in which one can be wrong. */
#include "lhv1_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* An index of two shards whose sections are where a writer would put them. */
static struct lh_lhv1_section two_sections[2] = {
    {.offset = 4096, .length = 5000, .count = 3, .xxh3 = 0x0123456789abcdefu},
    {.offset = 12288, .length = 1, .count = 4, .xxh3 = UINT64_MAX},
};

static struct lh_lhv1_envelope two_shards(void)
{
    return (struct lh_lhv1_envelope){
        .version = 2,
        .params = {.name = "words",
                   .uuid = {0x67, 0x9e, 0x03, 7, 0xbe, 0x5f, 0x58, 0x28, 0xa0, 0xe7, 0x9a, 0xfa,
                            0xb4, 0x46, 0x28, 0x64},
                   .dimension = 100,
                   .distance = 1,
                   .m = 16,
                   .ef_construction = 200,
                   .ef_search = 128,
                   .shards = 2,
                   .seed = 42},
        .count = 7,
        .lsn = 9007199254740993u, /* 2^53 + 1: gone in a reader that takes numbers as doubles */
        .created_at_ms = 1795247936123u,
        .sections = two_sections,
    };
}

#define FILE_BYTES 12289u

static const char two_shards_json[] =
    "{\"version\":2,\"uuid\":\"679e0307-be5f-5828-a0e7-9afab4462864\",\"params\":{\"name\":"
    "\"words\",\"dimension\":100,\"distance\":\"euclidean\",\"m\":16,\"ef_construction\":200,"
    "\"ef_search\":128,\"shards\":2,\"seed\":\"000000000000002a\"},\"count\":7,"
    "\"lsn\":9007199254740993,\"shards\":[{\"offset\":4096,\"length\":5000,\"count\":3,"
    "\"xxh3\":\"0123456789abcdef\"},{\"offset\":12288,\"length\":1,\"count\":4,"
    "\"xxh3\":\"ffffffffffffffff\"}],\"created_at\":\"2026-11-21T07:58:56.123Z\"}";

static enum lh_status read_file(const struct lh_buf *bytes, uint64_t file_bytes,
                                struct lh_lhv1_envelope *envelope, struct lh_error *error)
{
    struct memory_disk disk = memory_disk_of(bytes);
    disk.file_bytes = file_bytes;
    error->text[0] = '\0';
    return lh_lhv1_envelope_read(&disk.disk, 0, envelope, error);
}

static void assert_equal(const struct lh_lhv1_envelope *a, const struct lh_lhv1_envelope *b)
{
    assert_int_equal(a->version, b->version);
    assert_string_equal(a->params.name, b->params.name);
    assert_memory_equal(a->params.uuid, b->params.uuid, 16);
    assert_int_equal(a->params.dimension, b->params.dimension);
    assert_int_equal(a->params.distance, b->params.distance);
    assert_int_equal(a->params.m, b->params.m);
    assert_int_equal(a->params.ef_construction, b->params.ef_construction);
    assert_int_equal(a->params.ef_search, b->params.ef_search);
    assert_int_equal(a->params.shards, b->params.shards);
    assert_true(a->params.seed == b->params.seed);
    assert_true(a->count == b->count && a->lsn == b->lsn);
    assert_true(a->created_at_ms == b->created_at_ms);
    for (uint32_t i = 0; i < a->params.shards; i++) {
        assert_true(a->sections[i].offset == b->sections[i].offset);
        assert_true(a->sections[i].length == b->sections[i].length);
        assert_true(a->sections[i].xxh3 == b->sections[i].xxh3);
        assert_int_equal(a->sections[i].count, b->sections[i].count);
    }
}

static void an_envelope_is_these_bytes(void **state)
{
    struct lh_lhv1_envelope envelope = two_shards();
    struct lh_buf file = LH_BUF_EMPTY;
    struct lh_buf want = LH_BUF_EMPTY;
    assert_int_equal(lh_lhv1_envelope_encode(&envelope, &file), LH_OK);
    lhv1_seal(&want, lh_str_of(two_shards_json), 2);
    assert_int_equal(file.len, 4096);
    assert_int_equal(want.len, file.len);
    assert_memory_equal(file.ptr, want.ptr, want.len);
    lh_buf_deinit(&file);
    lh_buf_deinit(&want);
}

static void what_was_encoded_is_read_back(void **state)
{
    struct lh_lhv1_envelope envelope = two_shards();
    struct lh_lhv1_envelope again;
    struct lh_buf file = LH_BUF_EMPTY;
    struct lh_error error;
    assert_int_equal(lh_lhv1_envelope_encode(&envelope, &file), LH_OK);
    assert_int_equal(read_file(&file, FILE_BYTES, &again, &error), LH_OK);
    assert_equal(&envelope, &again);
    assert_int_equal(again.bytes, 4096);
    lh_lhv1_envelope_deinit(&again);
    lh_buf_deinit(&file);
}

/* Every number as long as it can be, behind what `out` held before. */
static void the_largest_envelope_fits_its_room(void **state)
{
    struct lh_lhv1_envelope envelope = two_shards();
    struct lh_lhv1_envelope again;
    struct lh_buf out = LH_BUF_EMPTY;
    struct lh_error error;
    struct lh_lhv1_section *sections = calloc(LH_SHARDS_MAX, sizeof *sections);
    uint64_t at = lh_lhv1_envelope_room(LH_SHARDS_MAX);
    assert_non_null(sections);
    assert_int_equal(at % LH_LHV1_ALIGN_BYTES, 0);
    memset(envelope.params.name, 'n', LH_NAME_BYTES_MAX);
    memset(envelope.params.uuid, 0xff, 16);
    envelope.params.dimension = LH_DIMENSION_MAX;
    envelope.params.m = LH_M_MAX;
    envelope.params.ef_construction = envelope.params.ef_search = LH_EF_MAX;
    envelope.params.seed = envelope.lsn = UINT64_MAX;
    envelope.params.shards = LH_SHARDS_MAX;
    envelope.created_at_ms = 253402300799999u;
    envelope.sections = sections;
    envelope.count = 0;
    for (uint32_t i = 0; i < LH_SHARDS_MAX; i++) {
        at = i == 0 ? at : (UINT64_MAX / LH_SHARDS_MAX * i) & ~(uint64_t)4095;
        sections[i] = (struct lh_lhv1_section){at, 1, UINT64_MAX, LH_NODES_MAX};
        envelope.count += LH_NODES_MAX;
    }
    sections[LH_SHARDS_MAX - 1].length = UINT64_MAX - at;
    lh_buf_append(&out, "before", 6);
    assert_int_equal(lh_lhv1_envelope_encode(&envelope, &out), LH_OK);
    assert_int_equal(out.len, 6 + lh_lhv1_envelope_room(LH_SHARDS_MAX));
    lh_buf_consume(&out, 6);
    assert_int_equal(read_file(&out, UINT64_MAX, &again, &error), LH_OK);
    assert_equal(&envelope, &again);
    lh_lhv1_envelope_deinit(&again);
    lh_buf_deinit(&out);
    free(sections);
}

static void a_bit_flipped_anywhere_is_refused(void **state)
{
    struct lh_lhv1_envelope envelope = two_shards();
    struct lh_lhv1_envelope again;
    struct lh_buf file = LH_BUF_EMPTY;
    struct lh_error error;
    assert_int_equal(lh_lhv1_envelope_encode(&envelope, &file), LH_OK);
    for (size_t i = 0; i < file.len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            file.ptr[i] ^= (char)(1u << bit);
            if (read_file(&file, FILE_BYTES, &again, &error) == LH_OK)
                fail_msg("bit %u of byte %zu", bit, i);
            assert_true(error.text[0] != '\0');
            file.ptr[i] ^= (char)(1u << bit);
        }
    }
    lh_buf_deinit(&file);
}

static void a_file_cut_anywhere_is_refused(void **state)
{
    struct lh_lhv1_envelope envelope = two_shards();
    struct lh_lhv1_envelope again;
    struct lh_buf file = LH_BUF_EMPTY;
    struct lh_error error;
    assert_int_equal(lh_lhv1_envelope_encode(&envelope, &file), LH_OK);
    for (uint64_t len = 0; len < FILE_BYTES; len++) {
        assert_int_equal(read_file(&file, len, &again, &error), LH_CORRUPT);
        assert_true(lh_str_has_prefix(lh_str_of(error.text), LH_STR("byte ")));
    }
    lh_buf_deinit(&file);
}

/* `text` with the first `from` as `to`. */
static void replaced(struct lh_buf *out, const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    assert_non_null(at);
    lh_buf_append(out, text, (size_t)(at - text));
    lh_buf_append_str(out, lh_str_of(to));
    lh_buf_append_str(out, lh_str_of(at + strlen(from)));
}

/* Puts `to` for `from` in the right envelope, with a checksum that says it is meant. */
static void assert_refused(const char *from, const char *to, const char *want)
{
    struct lh_buf json = LH_BUF_EMPTY;
    struct lh_buf file = LH_BUF_EMPTY;
    struct lh_lhv1_envelope envelope;
    struct lh_error error;
    replaced(&json, two_shards_json, from, to);
    lhv1_seal(&file, lh_buf_str(&json), 2);
    assert_int_equal(read_file(&file, FILE_BYTES, &envelope, &error), LH_CORRUPT);
    if (!lh_str_is_utf8(lh_str_of(error.text)) ||
        !lh_str_has_prefix(lh_str_of(error.text), LH_STR("byte ")) ||
        strstr(error.text, want) == NULL)
        fail_msg("%s -> %s: \"%s\", not \"%s\"", from, to, error.text, want);
    lh_buf_deinit(&json);
    lh_buf_deinit(&file);
}

static void values_beyond_their_limits_are_refused(void **state)
{
    assert_refused("\"dimension\":100", "\"dimension\":0", "params.dimension: 0 is not");
    assert_refused("\"dimension\":100", "\"dimension\":65536", "from 1 to 65535");
    assert_refused("\"dimension\":100", "\"dimension\":-1", "params.dimension: -1");
    assert_refused("\"dimension\":100", "\"dimension\":1e2", "params.dimension: 1e2");
    assert_refused("\"dimension\":100", "\"dimension\":\"100\"", "params.dimension: \"100\"");
    assert_refused("\"m\":16", "\"m\":1", "params.m: 1 is not a whole number from 2 to 64");
    assert_refused("\"m\":16", "\"m\":65", "params.m");
    assert_refused("\"ef_construction\":200", "\"ef_construction\":0", "params.ef_construction");
    assert_refused("\"ef_construction\":200", "\"ef_construction\":4097", "from 1 to 4096");
    assert_refused("\"ef_search\":128", "\"ef_search\":4097", "params.ef_search");
    assert_refused("\"shards\":2,", "\"shards\":0,", "params.shards: 0");
    assert_refused("\"shards\":2,", "\"shards\":257,", "params.shards: 257");
    assert_refused("\"count\":3", "\"count\":2147483648", "from 0 to 2147483647");
    assert_refused("9007199254740993", "18446744073709551616", "lsn: 18446744073709551616");
    assert_refused("euclidean", "l2", "params.distance: \"l2\" is not cosine");
    assert_refused("\"words\"", "\"../words\"", "params.name: \"../words\"");
    assert_refused("\"words\"", "\"\"", "params.name");
    assert_refused("\"words\"", "\"w\\u006frds\"", "params.name: must be a string without");
    assert_refused("000000000000002a", "2a", "params.seed: 2 characters");
    assert_refused("000000000000002a", "000000000000002A", "params.seed: not 16 lower-case");
    assert_refused("0123456789abcdef", "0123456789abcde", "xxh3: 15 characters");
}

static void identity_and_time_have_one_text(void **state)
{
    assert_refused("679e0307-be5f", "679E0307-be5f", "uuid: ");
    assert_refused("679e0307-be5f", "679e0307be5f-", "uuid: ");
    assert_refused("679e0307-be5f", "679e0307-be5", "uuid: ");
    assert_refused("679e0307-be5f-5828-a0e7-9afab4462864", "00000000-0000-0000-0000-000000000000",
                   "uuid: ");
    assert_refused("2026-11-21T", "2026-11-31T", "created_at: ");
    assert_refused("2026-11-21T", "2026-13-21T", "created_at: ");
    assert_refused("2026-11-21T", "9999-12-99T", "created_at: ");
    assert_refused("2026-11-21T", "1969-11-21T", "created_at: ");
    assert_refused("56.123Z", "56.123", "created_at: ");
    assert_refused("56.123Z", "5.+123Z", "created_at: ");
    assert_refused("\"2026-11-21T07:58:56.123Z\"", "1795247936123", "created_at: must be a string");
}

static void members_are_there_once_and_known(void **state)
{
    assert_refused("\"lsn\":9007199254740993,", "", "envelope: lsn is missing");
    assert_refused("\"m\":16,", "", "params: m is missing");
    assert_refused("\"length\":1,", "", "shards: length is missing");
    assert_refused("\"m\":16", "\"m\":16,\"m\":16", "params: m is there twice");
    assert_refused("\"m\":16", "\"m\":16,\"quantized\":true",
                   "params: \"quantized\" is no member of it in version 2");
    assert_refused("\"created_at\"", "\"made_at\"", "\"made_at\" is no member");
    assert_refused("\"params\":{", "\"params\":[{", "byte "); /* brackets do not match */
    assert_refused("\"version\":2,", "", "the envelope has no version");
    assert_refused("\"version\":2", "\"version\":2.0", "version: 2.0 is not");
    assert_refused("\"version\":2", "\"version\":0", "version: 0 is not");
}

static void sections_lie_apart_in_order_inside_the_file(void **state)
{
    assert_refused("12288", "12289", "offset: 12289 is not a multiple of 4096");
    assert_refused("\"offset\":4096", "\"offset\":0", "is inside what ends at byte 4096");
    assert_refused("12288", "8192", "offset: 8192 is inside what ends at byte 9096");
    assert_refused("\"length\":5000", "\"length\":8193", "inside what ends at byte 12289");
    assert_refused("\"length\":1,", "\"length\":2,", "the file ends at byte 12289");
    assert_refused("\"length\":1,", "\"length\":0,", "length: 0 is not");
    assert_refused("\"length\":1,", "\"length\":18446744073709551615,", "the file ends at");
    assert_refused("12288", "16384", "the file ends at");
    assert_refused("12288", "18446744073709547520", "the file ends at");
}

static void shards_and_counts_agree(void **state)
{
    assert_refused("\"shards\":2,", "\"shards\":1,", "more than the 1 of params.shards");
    assert_refused("\"shards\":2,", "\"shards\":3,", "shards: 2, params.shards says 3");
    assert_refused("\"count\":7", "\"count\":8", "they hold 7 items, count says 8");
    assert_refused("\"shards\":[", "\"shards\":{},\"x\":[", "\"x\" is no member");
    assert_refused(strstr(two_shards_json, "[{"), "7,\"created_at\":\"2026-11-21T07:58:56.123Z\"}",
                   "shards: must be an array");
    assert_refused("[{\"offset\":4096", "[7,{\"offset\":4096", "shards: must be an object");
}

/* An error is shown to people and sent as JSON: it stays short, and its text UTF-8. */
static void a_long_value_is_cut_between_characters(void **state)
{
    for (int odd = 0; odd < 2; odd++) {
        char name[128] = "\"";
        char want[128] = "params.name: \"";
        strcat(name, odd ? "x" : "");
        strcat(want, odd ? "x" : "");
        for (int i = 0; i < 50; i++)
            strcat(name, "é");
        for (int i = 0; i < 19; i++) /* 39 or 40 bytes with the quote */
            strcat(want, "é");
        strcat(name, "\"");
        strcat(want, " cannot be");
        assert_refused("\"words\"", name, want);
    }
}

static void an_envelope_must_fit_its_room(void **state)
{
    struct lh_buf json = LH_BUF_EMPTY;
    struct lh_buf file = LH_BUF_EMPTY;
    struct lh_lhv1_envelope envelope;
    struct lh_error error;
    lh_buf_append_str(&json, lh_str_of(two_shards_json));
    while (json.len < 4096 - 16) /* as long as can be */
        lh_buf_append_char(&json, ' ');
    lhv1_seal(&file, lh_buf_str(&json), 2);
    assert_int_equal(read_file(&file, FILE_BYTES, &envelope, &error), LH_OK);
    lh_lhv1_envelope_deinit(&envelope);
    file.len = 0;
    lh_buf_append_char(&json, ' ');
    lhv1_seal(&file, lh_buf_str(&json), 2);
    assert_int_equal(read_file(&file, FILE_BYTES, &envelope, &error), LH_CORRUPT);
    assert_string_equal(error.text, "byte 4: an envelope of 4081 bytes, at most 4080 fit");
    lh_buf_deinit(&json);
    lh_buf_deinit(&file);
}

static void a_disk_that_cannot_be_read_is_no_damaged_file(void **state)
{
    struct lh_lhv1_envelope envelope = two_shards();
    struct lh_lhv1_envelope again;
    struct lh_buf file = LH_BUF_EMPTY;
    struct memory_disk disk;
    struct lh_error error;
    int reads = 0;
    assert_int_equal(lh_lhv1_envelope_encode(&envelope, &file), LH_OK);
    disk = memory_disk_of(&file);
    disk.file_bytes = FILE_BYTES;
    for (;; reads++) {
        disk.reads_left = reads;
        if (lh_lhv1_envelope_read(&disk.disk, 0, &again, &error) == LH_OK)
            break;
        assert_int_equal(error.status, LH_IO);
        assert_int_equal(error.sys_errno, EIO);
    }
    assert_true(reads >= 3); /* head, text, checksum */
    lh_lhv1_envelope_deinit(&again);
    lh_buf_deinit(&file);
}

static void an_unknown_version_is_refused_by_its_number(void **state)
{
    struct lh_buf json = LH_BUF_EMPTY;
    struct lh_buf file = LH_BUF_EMPTY;
    struct lh_lhv1_envelope envelope;
    struct lh_error error;
    lhv1_seal(&file, LH_STR("{\"what\":[{}],\"version\":3}"), 1);
    assert_int_equal(read_file(&file, file.len, &envelope, &error), LH_NOT_IMPLEMENTED);
    assert_non_null(strstr(error.text, "version 3 is not known here, 1 and 2 are"));
    lh_buf_deinit(&json);
    lh_buf_deinit(&file);
}

static void assert_file_refused(struct lh_str bytes, const char *want)
{
    struct lh_buf file = LH_BUF_EMPTY;
    struct lh_lhv1_envelope envelope;
    struct lh_error error;
    lh_buf_append_str(&file, bytes);
    assert_int_equal(read_file(&file, file.len, &envelope, &error), LH_CORRUPT);
    if (strstr(error.text, want) == NULL)
        fail_msg("\"%s\", not \"%s\"", error.text, want);
    lh_buf_deinit(&file);
}

static void what_is_no_envelope_is_refused(void **state)
{
    assert_file_refused(LH_STR(""), "byte 0: the file ends here");
    assert_file_refused(LH_STR("LHV1\0\0"), "byte 6: the file ends here");
    assert_file_refused(LH_STR("LHV2\0\0\0\2{}"), "byte 0: not an LHV1 file");
    assert_file_refused(LH_STR("LHV1\0\0\0\0{}"), "byte 4: an envelope of 0 bytes");
    assert_file_refused(LH_STR("LHV1\0\0\0\3{}"), "byte 4: an envelope of 3 bytes; the file has");
    assert_file_refused(LH_STR("LHV1\377\377\377\377{}"), "byte 4: an envelope of 4294967295");
    assert_file_refused(LH_STR("LHV1\0\0\0\2{}"), "byte 8: the envelope has no version");
    assert_file_refused(LH_STR("LHV1\0\0\0\2[]"), "byte 8: the envelope must be an object");
    assert_file_refused(LH_STR("LHV1\0\0\0\2{]"), "byte 9: ");
}

static void paths_follow_the_name(void **state)
{
    struct lh_lhv1_paths paths;
    char name[LH_NAME_BYTES_MAX + 1] = {0};
    lh_lhv1_paths("words", &paths);
    assert_string_equal(paths.file, "_vectors/words.lhv1");
    assert_string_equal(paths.temp, "_vectors/words.lhv1.tmp");
    memset(name, 'n', LH_NAME_BYTES_MAX);
    lh_lhv1_paths(name, &paths);
    assert_int_equal(strlen(paths.temp), 9 + LH_NAME_BYTES_MAX + 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_envelope_is_these_bytes),
        cmocka_unit_test(what_was_encoded_is_read_back),
        cmocka_unit_test(the_largest_envelope_fits_its_room),
        cmocka_unit_test(a_bit_flipped_anywhere_is_refused),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(values_beyond_their_limits_are_refused),
        cmocka_unit_test(identity_and_time_have_one_text),
        cmocka_unit_test(members_are_there_once_and_known),
        cmocka_unit_test(sections_lie_apart_in_order_inside_the_file),
        cmocka_unit_test(shards_and_counts_agree),
        cmocka_unit_test(a_long_value_is_cut_between_characters),
        cmocka_unit_test(an_envelope_must_fit_its_room),
        cmocka_unit_test(a_disk_that_cannot_be_read_is_no_damaged_file),
        cmocka_unit_test(an_unknown_version_is_refused_by_its_number),
        cmocka_unit_test(what_is_no_envelope_is_refused),
        cmocka_unit_test(paths_follow_the_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
