/* shards/section: the edges. Empty shards, sections that are not what they say, byte by byte. */
#include "base/limits.h"
#include "shards/section_layout.h"
#include "unit/section_help.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct lh_graph_options options_of_three = {
    .dimension = 3, .distance = LH_DISTANCE_COSINE, .m = 2, .ef_construction = 20, .seed = 5};

/* `count` items; every third has the vector of the one before it, every fourth has metadata. */
static struct lh_shard *make_shard(const struct lh_graph_options *options, uint32_t count)
{
    struct lh_shard *shard;
    struct lh_shard_room room = {0};
    struct test_batch made;
    float row[8];
    assert_int_equal(lh_shard_create(options, &shard), LH_OK);
    test_batch_init(&made, options->dimension);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t state = i - (i % 3 == 2);
        for (uint32_t j = 0; j < options->dimension; j++)
            row[j] = lh_test_float(&state);
        test_batch_add(&made, i, row, i % 4 == 0 ? "{\"a\":1}" : NULL);
    }
    test_shard_apply(shard, &made, &room);
    test_batch_deinit(&made);
    return shard;
}

static struct lh_shard *make_worn_shard(const struct lh_graph_options *options)
{
    struct lh_shard *shard = make_shard(options, 24);
    for (uint32_t i = 1; i < 24; i += 5)
        assert_true(test_shard_delete(shard, i));
    return shard;
}

static enum lh_status load(const struct lh_graph_options *options, const char *bytes,
                           uint64_t length, struct lh_shard **shard, struct lh_error *error)
{
    uint64_t rng = 9;
    return test_section_load(options, bytes, length, &rng, 3000, 5, shard, error);
}

static void assert_loads(struct lh_shard *shard, const struct lh_graph_options *options)
{
    struct lh_shard *loaded = NULL;
    struct lh_error error = {0};
    uint64_t length;
    char *bytes = test_section_save(shard, &length);
    assert_int_equal(load(options, bytes, length, &loaded, &error), LH_OK);
    assert_int_equal(lh_shard_count(loaded), lh_shard_count(shard));
    lh_shard_destroy(loaded);
    free(bytes);
}

static void an_empty_shard_is_a_header(void **state)
{
    struct lh_shard *shard = make_shard(&options_of_three, 0);
    uint64_t length;
    char *bytes = test_section_save(shard, &length);
    assert_int_equal(length, LH__SECTION_HEADER_BYTES);
    assert_loads(shard, &options_of_three);
    free(bytes);
    lh_shard_destroy(shard);
}

static void a_shard_whose_items_are_all_deleted_loads_and_is_used_again(void **state)
{
    struct lh_shard *shard = make_shard(&options_of_three, 40), *loaded = NULL;
    struct lh_error error = {0};
    uint64_t length;
    for (uint32_t i = 0; i < 40; i++)
        assert_true(test_shard_delete(shard, i));
    char *bytes = test_section_save(shard, &length);
    assert_int_equal(load(&options_of_three, bytes, length, &loaded, &error), LH_OK);
    assert_int_equal(lh_shard_count(loaded), 0);
    assert_int_equal(lh_graph_slots(lh_shard_graph(loaded)), 40);
    struct test_batch made;
    struct lh_shard_room room = {0};
    float row[3] = {1, 2, 3};
    test_batch_init(&made, 3);
    test_batch_add(&made, 7, row, NULL);
    assert_int_equal(test_shard_apply(loaded, &made, &room).added, 1);
    assert_true(lh_graph_slots(lh_shard_graph(loaded)) == 40); /* a slot is used again */
    assert_int_equal(lh_shard_validate(loaded, &error), LH_OK);
    test_batch_deinit(&made);
    lh_shard_destroy(loaded);
    lh_shard_destroy(shard);
    free(bytes);
}

static void the_longest_ids_and_metadata_pass(void **state)
{
    struct lh_shard *shard = make_shard(&options_of_three, 0), *loaded = NULL;
    struct lh_error error = {0};
    struct lh_shard_room room = {0};
    struct test_batch made;
    uint64_t length;
    float row[3] = {1, 2, 3};
    test_batch_init(&made, 3);
    for (uint32_t i = 0; i < 12; i++) {
        test_batch_add(&made, i, row, "");
        struct lh_batch_item *item = &made.batch.items[i];
        item->id.len = LH_ID_BYTES_MAX - (i % 2);
        item->metadata.len = LH_METADATA_BYTES_MAX - (i % 3);
        char *id = test_must(realloc((char *)item->id.ptr, LH_ID_BYTES_MAX));
        char *metadata = test_must(realloc((char *)item->metadata.ptr, LH_METADATA_BYTES_MAX));
        memset(id, 'a' + (int)i, LH_ID_BYTES_MAX);
        memset(metadata, 'A' + (int)i, LH_METADATA_BYTES_MAX);
        item->id.ptr = id;
        item->metadata.ptr = metadata;
        made.hashes[i] = lh_placement_hash(item->id);
    }
    test_shard_apply(shard, &made, &room);
    char *bytes = test_section_save(shard, &length);
    assert_int_equal(load(&options_of_three, bytes, length, &loaded, &error), LH_OK);
    struct lh_found_list list = {0};
    struct lh_found_options want = {.with_metadata = true, .bytes_max = LH_ANSWER_BYTES_MAX};
    for (uint32_t i = 0; i < 12; i++) {
        const struct lh_batch_item *item = &made.batch.items[i];
        list.count = 0;
        list.text.len = 0;
        assert_int_equal(lh_shard_get(loaded, item->id, made.hashes[i], &want, &list), LH_OK);
        assert_int_equal(list.items[0].metadata_len, item->metadata.len);
        assert_memory_equal(list.text.ptr + item->id.len, item->metadata.ptr, item->metadata.len);
    }
    lh_found_list_deinit(&list);
    test_batch_deinit(&made);
    lh_shard_destroy(loaded);
    lh_shard_destroy(shard);
    free(bytes);
}

/* A change to a section's bytes, and a word of what is said about it. */
struct damage {
    int table; /* -1: the header */
    uint32_t at;
    uint32_t len;
    uint8_t bytes[4];
    const char *says;
};

static void each_damage_is_named(void **state)
{
    static const struct damage damages[] = {
        {-1, 0, 1, {'X'}, "not that of a shard"},
        {-1, 8, 1, {2}, "version 2"},
        {-1, 12, 1, {4}, "dimension 4"},
        {-1, 20, 1, {3}, "m 3"},
        {-1, 24, 1, {6}, "seed 6"},
        {-1, 32, 4, {0xff, 0xff, 0xff, 0x7f}, "slots"},
        {-1, 40, 4, {0xff, 0xff, 0xff, 0xff}, "blocks of upper links"},
        {-1, 36, 1, {18}, "header has 18"},
        {-1, 44, 1, {200}, "entry point 200"},
        {-1, 48, 4, {0, 0, 0x80, 0x7f}, "norm scale inf"},
        {-1, 64, 1, {1}, "byte 64"},
        {-1, 4095, 1, {1}, "byte 4095"},
        {LH_TABLE_LEVELS, 0, 1, {0x3f}, "node 0: level byte 0x3f"},
        {LH_TABLE_LEVELS, 0, 1, {0xc0}, "belongs to no node"},
        {LH_TABLE_CHECKED, 0, 1, {9}, "checked prefix 9"},
        {LH_TABLE_LINKS, 0, 4, {0, 0, 0, 0}, "node 0 level 0: link 0 to 0"},
        {LH_TABLE_LINKS, 0, 4, {1, 0, 0, 0}, "link 0 to 1"},
        {LH_TABLE_LINKS, 0, 4, {24, 0, 0, 0}, "link 0 to 24"},
        {LH_TABLE_LINKS, 60, 4, {3, 0, 0, 0}, "a link behind the last"},
        {LH_TABLE_ROWS, 0, 4, {0, 0, 0xc0, 0x7f}, "not finite"},
        {LH__SECTION_ITEMS, 0, 2, {0, 0}, "an id of 0 bytes"},
        {LH__SECTION_ITEMS, 0, 2, {1, 2}, "an id of 513 bytes"},
        {LH__SECTION_ITEMS, 2, 4, {1, 0, 1, 0}, "65537 bytes of metadata"},
        {LH__SECTION_ITEMS, 6, 1, {0xff}, "not UTF-8"},
    };
    struct lh_shard *shard = make_worn_shard(&options_of_three), *loaded = NULL;
    struct lh__section_layout layout;
    struct lh_error error;
    uint64_t length;
    char *bytes = test_section_save(shard, &length);
    char *damaged = test_must(malloc(length));
    assert_int_equal(lh__section_header_decode(bytes, length, lh_shard_graph(shard),
                                               &options_of_three, &layout, &error),
                     LH_OK);
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        const struct damage *damage = &damages[i];
        uint64_t at = damage->table < 0 ? 0 : layout.at[damage->table];
        memcpy(damaged, bytes, length);
        memcpy(damaged + at + damage->at, damage->bytes, damage->len);
        error.text[0] = 0;
        enum lh_status status = load(&options_of_three, damaged, length, &loaded, &error);
        if (status == LH_OK || strstr(error.text, damage->says) == NULL)
            print_error("damage %zu: \"%s\" does not say \"%s\"\n", i, error.text, damage->says);
        assert_true(status == LH_CORRUPT || status == LH_NOT_IMPLEMENTED);
        assert_non_null(strstr(error.text, damage->says));
    }
    free(damaged);
    free(bytes);
    lh_shard_destroy(shard);
}

/* In each list in turn, the second link becomes the first once more. */
static void a_link_that_is_there_twice_is_named(void **state)
{
    struct lh_shard *shard = make_shard(&options_of_three, 200), *loaded = NULL;
    struct lh__section_layout layout;
    struct lh_error error = {0};
    uint64_t length;
    uint32_t lists = 0;
    char *bytes = test_section_save(shard, &length);
    assert_int_equal(lh__section_header_decode(bytes, length, lh_shard_graph(shard),
                                               &options_of_three, &layout, &error),
                     LH_OK);
    uint64_t stride = layout.bytes[LH_TABLE_LINKS] / layout.shape.slots;
    for (uint32_t node = 0; node < layout.shape.slots; node++) {
        char *list = bytes + layout.at[LH_TABLE_LINKS] + node * stride;
        uint32_t links[2], none = 0xffffffffu;
        char says[64];
        memcpy(links, list, sizeof links);
        if (links[1] == none)
            continue;
        memcpy(list + sizeof *links, links, sizeof *links);
        snprintf(says, sizeof says, "node %u level 0: link 1 to %u", node, links[0]);
        assert_int_equal(load(&options_of_three, bytes, length, &loaded, &error), LH_CORRUPT);
        assert_string_equal(error.text, says);
        memcpy(list, links, sizeof links);
        lists++;
    }
    assert_true(lists > 60);
    free(bytes);
    lh_shard_destroy(shard);
}

/* Near one another, so that both are read ahead at once, and far apart. */
static void an_id_that_is_there_twice_is_named(void **state)
{
    enum { ITEMS = 90, FIRST = 10 };
    struct lh_shard *shard = make_shard(&options_of_three, ITEMS), *loaded = NULL;
    struct lh__section_layout layout;
    struct lh_error error = {0};
    uint64_t length;
    char *bytes = test_section_save(shard, &length);
    assert_int_equal(lh__section_header_decode(bytes, length, lh_shard_graph(shard),
                                               &options_of_three, &layout, &error),
                     LH_OK);
    char *first = NULL, *item = bytes + layout.at[LH__SECTION_ITEMS];
    for (uint32_t node = 0; node < ITEMS; node++) {
        uint16_t id_len;
        uint32_t metadata_len;
        char id[LH_ID_BYTES_MAX], says[64];
        memcpy(&id_len, item, sizeof id_len);
        memcpy(&metadata_len, item + sizeof id_len, sizeof metadata_len);
        char *at = item + LH__ITEM_HEAD_BYTES;
        first = node == FIRST ? at : first;
        if (node > FIRST) { /* all of these have ids of one length */
            memcpy(id, at, id_len);
            memcpy(at, first, id_len);
            snprintf(says, sizeof says, "node %u: its id is that of node %u", node, FIRST);
            assert_int_equal(load(&options_of_three, bytes, length, &loaded, &error), LH_CORRUPT);
            assert_string_equal(error.text, says);
            memcpy(at, id, id_len);
        }
        item = at + id_len + (metadata_len == LH__ITEM_NO_METADATA ? 0 : metadata_len);
    }
    free(bytes);
    lh_shard_destroy(shard);
}

static void any_other_length_is_refused(void **state)
{
    struct lh_shard *shard = make_worn_shard(&options_of_three), *loaded;
    struct lh_error error = {0};
    uint64_t length;
    char *bytes = test_section_save(shard, &length);
    bytes = test_must(realloc(bytes, length + 64));
    memset(bytes + length, 0, 64);
    for (uint64_t other = 0; other < length; other += other < 4000 ? 500 : 1)
        assert_int_equal(load(&options_of_three, bytes, other, &loaded, &error), LH_CORRUPT);
    for (uint64_t other = length + 1; other <= length + 64; other++)
        assert_int_equal(load(&options_of_three, bytes, other, &loaded, &error), LH_CORRUPT);
    free(bytes);
    lh_shard_destroy(shard);
}

/* Any one bit: refused, or (in a vector, a name or a link) something else that is whole. */
static void any_flipped_bit_is_refused_or_harmless(void **state)
{
    struct lh_shard *shard = make_worn_shard(&options_of_three);
    uint64_t length, refused = 0;
    char *bytes = test_section_save(shard, &length);
    for (uint64_t bit = 0; bit < length * 8; bit++) {
        if (bit / 8 >= 200 && bit / 8 < LH__SECTION_HEADER_BYTES && bit % 61 != 0)
            continue; /* zeros: some will do */
        struct lh_shard *loaded = NULL;
        struct lh_error error = {0};
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        if (load(&options_of_three, bytes, length, &loaded, &error) == LH_OK) {
            assert_int_equal(lh_shard_count(loaded), lh_shard_count(shard));
            for (uint32_t i = 0; i < 24; i += 2)
                (void)test_shard_delete(loaded, i);
            assert_loads(loaded, &options_of_three);
            lh_shard_destroy(loaded);
        } else {
            assert_true(error.text[0] != 0);
            refused++;
        }
        bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_true(refused > 1000);
    free(bytes);
    lh_shard_destroy(shard);
}

static void options_of_another_index_are_refused(void **state)
{
    struct lh_shard *shard = make_worn_shard(&options_of_three), *loaded;
    struct lh_error error = {0};
    uint64_t length;
    char *bytes = test_section_save(shard, &length);
    struct lh_graph_options other = options_of_three;
    other.distance = LH_DISTANCE_DOT;
    assert_int_equal(load(&other, bytes, length, &loaded, &error), LH_CORRUPT);
    assert_non_null(strstr(error.text, "distance 0"));
    free(bytes);
    lh_shard_destroy(shard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_shard_is_a_header),
        cmocka_unit_test(a_shard_whose_items_are_all_deleted_loads_and_is_used_again),
        cmocka_unit_test(the_longest_ids_and_metadata_pass),
        cmocka_unit_test(each_damage_is_named),
        cmocka_unit_test(a_link_that_is_there_twice_is_named),
        cmocka_unit_test(an_id_that_is_there_twice_is_named),
        cmocka_unit_test(any_other_length_is_refused),
        cmocka_unit_test(any_flipped_bit_is_refused_or_harmless),
        cmocka_unit_test(options_of_another_index_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
