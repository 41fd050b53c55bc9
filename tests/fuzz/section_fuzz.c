/* Any bytes as a shard's section: no crash, no overrun, no endless loop; and what loads can be
 * used, saved, and loaded again. The first two bytes choose the index's options. No checksum guards
 * this layer. */
#include "base/limits.h"
#include "shards/placement.h"
#include "shards/section.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES 1000u /* no divisor of any table */
#define ITEMS_MAX   64u
#define FLOATS      (ITEMS_MAX + 64u)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static enum lh_status load(const struct lh_graph_options *options, const char *bytes,
                           uint64_t length, struct lh_shard **shard, struct lh_error *error)
{
    struct lh_section_loader *loader;
    size_t at = 0, room;
    void *to;
    bool is_done = false;
    if (lh_section_load(options, length, &loader) != LH_OK)
        return lh_error_set(error, LH_CORRUPT, "too short");
    enum lh_status status = LH_OK;
    while (status == LH_OK && (to = lh_section_next(loader, &room)) != NULL) {
        size_t piece = room < PIECE_BYTES ? room : PIECE_BYTES;
        memcpy(to, bytes + at, piece);
        at += piece;
        status = lh_section_filled(loader, piece, error);
    }
    while (status == LH_OK && !is_done)
        status = lh_section_finish(loader, 7, &is_done, error);
    if (status != LH_OK) {
        check(status == LH_CORRUPT || status == LH_NOT_IMPLEMENTED || status == LH_OUT_OF_MEMORY);
        check(error->text[0] != 0);
        lh_section_abandon(loader);
        return status;
    }
    check(at == length);
    *shard = lh_section_take(loader);
    return LH_OK;
}

static void save_and_load(const struct lh_graph_options *options, struct lh_shard *shard)
{
    struct lh_section_writer *writer;
    struct lh_shard *again;
    struct lh_error error;
    size_t got = 1, at = 0;
    check(lh_section_begin(shard, &writer) == LH_OK);
    uint64_t length = lh_section_length(writer);
    char *bytes = malloc(length);
    check(bytes != NULL);
    while (got > 0) {
        check(lh_section_read(writer, bytes + at, length - at, &got) == LH_OK);
        at += got;
    }
    check(at == length && lh_section_count(writer) == lh_shard_count(shard));
    lh_section_end(writer);
    check(load(options, bytes, length, &again, &error) == LH_OK);
    check(lh_shard_count(again) == lh_shard_count(shard));
    lh_shard_destroy(again);
    free(bytes);
}

static void add(struct lh_shard *shard, const struct lh_graph_options *options, const float *rows,
                uint32_t count)
{
    char ids[ITEMS_MAX][16];
    struct lh_batch_item items[ITEMS_MAX];
    uint64_t hashes[ITEMS_MAX];
    uint32_t numbers[ITEMS_MAX];
    struct lh_batch batch = {.count = count,
                             .dimension = options->dimension,
                             .items = items,
                             .rows = (float *)rows,
                             .odd_item = LH_NO_ITEM,
                             .zero_item = LH_NO_ITEM};
    struct lh_shard_room room = {.nodes = count}, unused = {0};
    struct lh_shard_counts counts = {0};
    for (uint32_t i = 0; i < count; i++) {
        snprintf(ids[i], sizeof ids[i], "id-%u", i);
        items[i] = (struct lh_batch_item){.id = lh_str_of(ids[i]), .dimension = options->dimension};
        items[i].metadata = i % 2 ? LH_STR("{}") : (struct lh_str){NULL, 0};
        hashes[i] = lh_placement_hash(items[i].id);
        numbers[i] = i;
        room.bytes += lh_shard_item_bytes(&items[i]);
    }
    check(lh_shard_reserve(shard, room) == LH_OK);
    lh_shard_add(shard, &batch, numbers, hashes, count, &counts, &unused);
}

/* Deletes every other item and adds others: whatever the links say, nothing falls over. */
static void use(struct lh_shard *shard, const struct lh_graph_options *options)
{
    struct lh_found_options want = {
        .with_metadata = true, .with_vector = true, .bytes_max = LH_ANSWER_BYTES_MAX};
    struct lh_found_list page = {0}, found = {0};
    struct lh_search search = {.k = 10, .ef = 50};
    struct lh_error error;
    uint32_t node = 0;
    float rows[ITEMS_MAX * FLOATS];
    for (uint32_t i = 0; i < ITEMS_MAX * FLOATS; i++)
        rows[i] = (float)(i * 7919u % 1000u) / 500.0f - 0.999f;
    check(lh_shard_page(shard, &node, UINT32_MAX, &want, &page) == LH_OK || page.count == 0);
    check(page.count == lh_shard_count(shard));
    check(lh_shard_search(&shard, 1, rows, &search, &want, &found) == LH_OK);
    add(shard, options, rows, ITEMS_MAX / 2);
    for (uint32_t i = 0; i < page.count; i += 2) {
        struct lh_str id = {page.text.ptr + page.items[i].text_at, page.items[i].id_len};
        check(lh_shard_delete(shard, id, lh_placement_hash(id)));
    }
    add(shard, options, rows + options->dimension, ITEMS_MAX);
    check(lh_shard_search(&shard, 1, rows, &search, &want, &found) == LH_OK);
    (void)lh_shard_validate(shard, &error);
    lh_found_list_deinit(&page);
    lh_found_list_deinit(&found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t dimensions[] = {1, 3, 17, 64};
    static const uint32_t ms[] = {2, 4, 16};
    struct lh_shard *shard;
    struct lh_error error = {0};
    if (size < 2)
        return 0;
    struct lh_graph_options options = {.dimension = dimensions[data[0] % 4],
                                       .distance = (enum lh_distance)(data[0] / 4 % 3),
                                       .m = ms[data[1] % 3],
                                       .ef_construction = 20,
                                       .seed = 1};
    if (load(&options, (const char *)data + 2, size - 2, &shard, &error) != LH_OK)
        return 0;
    save_and_load(&options, shard);
    use(shard, &options);
    save_and_load(&options, shard);
    lh_shard_destroy(shard);
    return 0;
}
