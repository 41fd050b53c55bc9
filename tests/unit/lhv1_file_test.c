/* A whole LHV1 file of version 2: shards as sections behind an envelope, written to a folder, read
 * back with nothing but the file. The golden file is the same index as it was first written: a
 * program with an argument writes one there. */
#include "base/limits.h"
#include "batch_help.h"
#include "shards/placement.h"
#include "shards/section.h"
#include "store/lhv1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include <xxhash.h>

#include <cmocka.h>

#define SHARDS    3u
#define ITEMS     600u
#define DIMENSION 12u

static struct lh_index_params params_of_the_index(void)
{
    return (struct lh_index_params){.name = "words",
                                    .uuid = {0xa8, 0xf3, 0xc1, 0xd2, 0x4e, 0x5b, 0x5a, 0x6c, 0x9d,
                                             0x8e, 0x7f, 0x0a, 0x1b, 0x2c, 0x3d, 0x4e},
                                    .dimension = DIMENSION,
                                    .distance = LH_DISTANCE_COSINE,
                                    .m = 8,
                                    .ef_construction = 100,
                                    .ef_search = 64,
                                    .shards = SHARDS,
                                    .seed = 0x9e3779b97f4a7c15u};
}

static struct lh_graph_options graph_options(const struct lh_index_params *params)
{
    return (struct lh_graph_options){.dimension = params->dimension,
                                     .distance = (enum lh_distance)params->distance,
                                     .m = params->m,
                                     .ef_construction = params->ef_construction,
                                     .seed = params->seed};
}

/* Whole numbers, so that every machine computes the same ones. */
static void row_of(uint32_t item, float row[DIMENSION])
{
    for (uint32_t i = 0; i < DIMENSION; i++)
        row[i] = (float)((item * 31 + 7) * (i + 3) % 101) - 50;
}

/* Every seventh item has been deleted; every second of the rest has metadata. */
static bool is_there(uint32_t item)
{
    return item % 7 != 0;
}

static bool metadata_of(uint32_t item, char out[32])
{
    snprintf(out, 32, "{\"n\":%u}", item);
    return item % 2 == 0;
}

static struct lh_shard *build_shard(const struct lh_index_params *params, uint32_t number)
{
    struct lh_graph_options options = graph_options(params);
    struct lh_shard *shard;
    struct lh_shard_room room = {0};
    struct lh_shard_counts counts = {0};
    struct test_batch made;
    test_batch_init(&made, DIMENSION);
    assert_int_equal(lh_shard_create(&options, &shard), LH_OK);
    for (uint32_t i = 0; i < ITEMS; i++) {
        char id[16];
        char metadata[32];
        float row[DIMENSION];
        if (lh_placement_shard(lh_placement_hash(test_id(i, id)), SHARDS) != number)
            continue;
        row_of(i, row);
        test_batch_add(&made, i, row, metadata_of(i, metadata) ? metadata : NULL);
        room.nodes++;
        room.bytes += lh_shard_item_bytes(&made.batch.items[made.batch.count - 1]);
    }
    assert_int_equal(lh_shard_reserve(shard, room), LH_OK);
    lh_shard_add(shard, &made.batch, made.numbers, made.hashes, made.batch.count, &counts, &room);
    for (uint32_t i = 0; i < made.batch.count; i++) {
        if (!is_there(test_id_number(made.batch.items[i].id)))
            assert_true(lh_shard_delete(shard, made.batch.items[i].id, made.hashes[i]));
    }
    test_batch_deinit(&made);
    return shard;
}

/* Appends the section of `shard` at the next boundary, and says where it is. */
static void append_section(struct lh_buf *out, struct lh_shard *shard,
                           struct lh_lhv1_section *section)
{
    struct lh_section_writer *writer;
    size_t got = 0;
    while (out->len % LH_LHV1_ALIGN_BYTES != 0)
        lh_buf_append_char(out, 0);
    assert_int_equal(lh_section_begin(shard, &writer), LH_OK);
    *section = (struct lh_lhv1_section){
        .offset = out->len, .length = lh_section_length(writer), .count = lh_section_count(writer)};
    do {
        assert_int_equal(lh_buf_reserve(out, 65536), LH_OK);
        assert_int_equal(lh_section_read(writer, out->ptr + out->len, 65536, &got), LH_OK);
        out->len += got;
    } while (got > 0);
    lh_section_end(writer);
    assert_true(out->len == section->offset + section->length);
    section->xxh3 = XXH3_64bits(out->ptr + section->offset, section->length);
}

static void write_index(const char *path)
{
    struct lh_lhv1_section sections[SHARDS];
    struct lh_lhv1_envelope envelope = {.version = 2,
                                        .params = params_of_the_index(),
                                        .lsn = 700,
                                        .created_at_ms = 1795247936123u,
                                        .sections = sections};
    struct lh_buf file = LH_BUF_EMPTY;
    struct lh_buf head = LH_BUF_EMPTY;
    FILE *out;
    assert_int_equal(lh_buf_reserve(&file, lh_lhv1_envelope_room(SHARDS)), LH_OK);
    file.len = lh_lhv1_envelope_room(SHARDS);
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct lh_shard *shard = build_shard(&envelope.params, i);
        append_section(&file, shard, &sections[i]);
        envelope.count += sections[i].count;
        lh_shard_destroy(shard);
    }
    assert_int_equal(lh_lhv1_envelope_encode(&envelope, &head), LH_OK);
    memcpy(file.ptr, head.ptr, head.len);
    out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(file.ptr, 1, file.len, out), file.len);
    assert_int_equal(fclose(out), 0);
    lh_buf_deinit(&head);
    lh_buf_deinit(&file);
}

static struct lh_shard *load_shard(struct lh_disk *disk, int file,
                                   const struct lh_lhv1_envelope *envelope, uint32_t number)
{
    const struct lh_lhv1_section *section = &envelope->sections[number];
    struct lh_graph_options options = graph_options(&envelope->params);
    struct lh_section_loader *loader;
    struct lh_shard *shard;
    struct lh_error error = {0};
    uint64_t at = section->offset;
    size_t len = 0;
    size_t got = 0;
    bool is_done = false;
    void *to;
    assert_int_equal(lh_section_load(&options, section->length, &loader), LH_OK);
    while ((to = lh_section_next(loader, &len)) != NULL) {
        assert_int_equal(lh_disk_read(disk, file, to, len, at, &got), 0);
        assert_int_equal(got, len);
        if (lh_section_filled(loader, len, &error) != LH_OK)
            fail_msg("%s", error.text);
        at += len;
    }
    assert_true(at == section->offset + section->length);
    assert_true(lh_section_xxh3(loader) == section->xxh3);
    while (!is_done) {
        if (lh_section_finish(loader, 100, &is_done, &error) != LH_OK)
            fail_msg("%s", error.text);
    }
    shard = lh_section_take(loader);
    assert_int_equal(lh_shard_count(shard), section->count);
    if (lh_shard_validate(shard, &error) != LH_OK)
        fail_msg("%s", error.text);
    return shard;
}

static void assert_item(struct lh_shard *shards[SHARDS], uint32_t item)
{
    const struct lh_found_options all = {true, true, UINT64_MAX};
    struct lh_found_list list = {0};
    float row[DIMENSION];
    char text[16];
    char metadata[32];
    struct lh_str id = test_id(item, text);
    uint64_t hash = lh_placement_hash(id);
    enum lh_status status =
        lh_shard_get(shards[lh_placement_shard(hash, SHARDS)], id, hash, &all, &list);
    assert_int_equal(status, is_there(item) ? LH_OK : LH_ITEM_NOT_FOUND);
    if (status == LH_OK) {
        row_of(item, row);
        assert_memory_equal(list.rows, row, sizeof row);
        assert_int_equal(list.items[0].has_metadata, metadata_of(item, metadata));
        if (list.items[0].has_metadata) {
            assert_int_equal(list.items[0].metadata_len, strlen(metadata));
            assert_memory_equal(list.text.ptr + id.len, metadata, strlen(metadata));
        }
    }
    lh_found_list_deinit(&list);
}

/* A search finds an item by its own vector. */
static void assert_found(struct lh_shard *shards[SHARDS], uint32_t item)
{
    char text[16];
    float row[DIMENSION];
    struct lh_str id = test_id(item, text);
    struct lh_graph *graph =
        lh_shard_graph(shards[lh_placement_shard(lh_placement_hash(id), SHARDS)]);
    struct lh_hit hit;
    uint32_t found = 0;
    row_of(item, row);
    assert_int_equal(lh_graph_search(graph, row, 1, 64, &hit, &found), LH_OK);
    assert_int_equal(found, 1);
    assert_true(hit.distance < 1e-6f);
}

static void assert_holds_the_index(const char *folder, const char *name)
{
    struct lh_index_params want = params_of_the_index();
    struct lh_lhv1_envelope envelope;
    struct lh_shard *shards[SHARDS];
    struct lh_disk *disk;
    struct lh_error error = {0};
    uint32_t there = 0;
    int file;
    assert_int_equal(lh_disk_open_plain(folder, &disk, &error), LH_OK);
    assert_int_equal(lh_disk_open(disk, name, LH_DISK_OPEN_READ, &file), 0);
    if (lh_lhv1_envelope_read(disk, file, &envelope, &error) != LH_OK)
        fail_msg("%s", error.text);
    assert_string_equal(envelope.params.name, want.name);
    assert_memory_equal(envelope.params.uuid, want.uuid, 16);
    assert_int_equal(envelope.params.shards, SHARDS);
    assert_true(envelope.params.seed == want.seed && envelope.lsn == 700);
    for (uint32_t i = 0; i < SHARDS; i++)
        shards[i] = load_shard(disk, file, &envelope, i);
    for (uint32_t i = 0; i < ITEMS; i++) {
        assert_item(shards, i);
        if (is_there(i))
            assert_found(shards, i);
        there += is_there(i);
    }
    assert_int_equal(envelope.count, there);
    for (uint32_t i = 0; i < SHARDS; i++)
        lh_shard_destroy(shards[i]);
    lh_lhv1_envelope_deinit(&envelope);
    lh_disk_close(disk, file);
    lh_disk_destroy(disk);
}

static void an_index_that_was_written_is_read_back(void **state)
{
    char folder[] = "/tmp/lh_lhv1_file_test_XXXXXX";
    char path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/words.lhv1", folder);
    write_index(path);
    assert_holds_the_index(folder, "words.lhv1");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0); /* looking at a folder leaves nothing in it */
}

static void a_file_of_the_first_release_is_read(void **state)
{
    assert_holds_the_index(LH_TESTS_FOLDER "/golden/lhv1-v2", "words.lhv1");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_index_that_was_written_is_read_back),
        cmocka_unit_test(a_file_of_the_first_release_is_read),
    };
    if (argc == 2) {
        write_index(argv[1]);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
