/* lakehouse lhv1 inspect and verify: index files, without a server. Main thread.
 *
 * A file is only read, and one that a server has open can be looked at too: a server never changes
 * one in place. */
#include "lakehouse.h"
#include "table.h"

#include "ext/json_read.h"
#include "shards/placement.h"
#include "shards/section.h"
#include "store/lhv1.h"
#include "store/lhv1_go.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <xxhash.h>

#define READ_BYTES  (1u << 20)
#define CHECK_NODES 65536u
#define PAGE_ITEMS  1000u

struct index_file {
    const char *path;
    struct lh_disk *disk;
    int file;
    uint64_t bytes;
    struct lh_lhv1_envelope envelope;
    struct lh_lhv1_go_facts facts; /* of version 1 */
};

/* ---- opening ---- */

static enum lh_status open_file(const char *path, struct index_file *file, struct lh_error *error)
{
    const char *slash = strrchr(path, '/');
    size_t folder_len = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    char *folder = slash == NULL ? strdup(".") : strndup(path, folder_len);
    enum lh_status status;
    int result;
    *file = (struct index_file){.path = path, .file = -1};
    if (folder == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory");
    status = lh_disk_open_plain(folder, &file->disk, error);
    free(folder);
    if (status != LH_OK)
        return status;
    result = lh_disk_open(file->disk, path + folder_len, LH_DISK_OPEN_READ, &file->file);
    if (result == 0)
        result = lh_disk_size(file->disk, file->file, &file->bytes);
    if (result < 0)
        return lh_error_sys(error, LH_IO, -result, "it cannot be opened");
    return lh_lhv1_envelope_read(file->disk, file->file, &file->envelope, error);
}

static void close_file(struct index_file *file)
{
    lh_lhv1_envelope_deinit(&file->envelope);
    if (file->file >= 0)
        lh_disk_close(file->disk, file->file);
    lh_disk_destroy(file->disk);
}

/* Says what is wrong with the file, and what to do about it. */
static enum lh_cli_exit refuse(const struct index_file *file, const struct lh_error *error)
{
    lh_cli_say("%s: %s", file->path, error->text);
    if (error->status == LH_CORRUPT)
        lh_cli_say("the file is damaged: put back a copy of it. lakehoused would set it aside at "
                   "its start, and serve the other indexes");
    else if (error->status == LH_NOT_IMPLEMENTED)
        lh_cli_say("use the version of lakehouse that belongs to the server which wrote it");
    return LH_CLI_USAGE;
}

/* ---- printing ---- */

static void append_sections(const struct lh_lhv1_envelope *envelope, struct lh_buf *json)
{
    lh_buf_append_str(json, LH_STR(",\"sections\":["));
    for (uint32_t i = 0; i < envelope->params.shards; i++) {
        const struct lh_lhv1_section *section = &envelope->sections[i];
        lh_buf_printf(json,
                      "%s{\"shard\":%" PRIu32 ",\"count\":%" PRIu32 ",\"offset\":%" PRIu64
                      ",\"length\":%" PRIu64 ",\"xxh3\":\"%016" PRIx64 "\"}",
                      i > 0 ? "," : "", i, section->count, section->offset, section->length,
                      section->xxh3);
    }
    lh_buf_append_char(json, ']');
}

/* All that is known of the file; `is_verified` when it was read to its end. */
static void append_file(const struct index_file *file, bool is_verified, struct lh_buf *json)
{
    const struct lh_lhv1_envelope *envelope = &file->envelope;
    const struct lh_index_params *params = &envelope->params;
    char uuid[LH_LHV1_UUID_CHARS + 1];
    char time[LH_LHV1_TIME_CHARS + 1];
    bool is_go = envelope->version == 1;
    lh_buf_append_str(json, LH_STR("{\"file\":"));
    lh_buf_append_json_string(json, lh_str_of(file->path));
    lh_buf_printf(json,
                  ",\"bytes\":%" PRIu64 ",\"version\":%" PRIu32 ",\"name\":\"%s\",\"dimension\":"
                  "%" PRIu32 ",\"distance\":\"%s\",\"m\":%" PRIu32 ",\"ef_search\":%" PRIu32
                  ",\"count\":%" PRIu64,
                  file->bytes, envelope->version, params->name, params->dimension,
                  lh_lhv1_distance_name(params->distance), params->m, params->ef_search,
                  is_go ? file->facts.items : envelope->count);
    if (is_go) {
        lh_buf_printf(json, ",\"layers\":%" PRIu64, file->facts.layers);
    } else {
        lh_lhv1_uuid_text(params->uuid, uuid);
        lh_lhv1_time_text(envelope->created_at_ms, time);
        lh_buf_printf(
            json,
            ",\"ef_construction\":%" PRIu32 ",\"shards\":%" PRIu32 ",\"seed\":\"%016" PRIx64
            "\",\"uuid\":\"%s\",\"lsn\":%" PRIu64 ",\"created_at\":\"%s\"",
            params->ef_construction, params->shards, params->seed, uuid, envelope->lsn, time);
    }
    if (is_go && is_verified)
        lh_buf_printf(json,
                      ",\"metadata\":%" PRIu64 ",\"zero_vectors\":%" PRIu64
                      ",\"wrapped_metadata\":%" PRIu64,
                      file->facts.metadata, file->facts.zero_vectors, file->facts.wrapped);
    if (is_verified)
        lh_buf_append_str(json, LH_STR(",\"verified\":true"));
    if (!is_go)
        append_sections(envelope, json);
    lh_buf_append_char(json, '}');
}

static void print_sections(struct lh_json sections)
{
    static const char *const columns[] = {"shard", "count", "offset", "length", "xxh3"};
    struct lh_table table = {.columns = sizeof columns / sizeof *columns};
    struct lh_json section, value;
    for (size_t i = 0; i < table.columns; i++)
        lh_table_add(&table, lh_str_of(columns[i]));
    for (struct lh_json_iter iter = lh_json_elements(sections); lh_json_next(&iter, &section);) {
        for (size_t i = 0; i < table.columns; i++) {
            if (lh_json_get(section, columns[i], &value))
                lh_table_add_json(&table, value);
        }
    }
    putchar('\n');
    lh_table_print(&table);
}

/* Members in a row each, sections in a table. */
static void print_members(struct lh_json root)
{
    static const char *const members[] = {"file",
                                          "bytes",
                                          "version",
                                          "name",
                                          "uuid",
                                          "dimension",
                                          "distance",
                                          "m",
                                          "ef_construction",
                                          "ef_search",
                                          "shards",
                                          "seed",
                                          "count",
                                          "lsn",
                                          "created_at",
                                          "layers",
                                          "metadata",
                                          "zero_vectors",
                                          "wrapped_metadata",
                                          "verified"};
    struct lh_table table = {.columns = 2};
    struct lh_json value;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (!lh_json_get(root, members[i], &value))
            continue;
        lh_table_add(&table, lh_str_of(members[i]));
        lh_table_add_json(&table, value);
    }
    lh_table_print(&table);
    if (lh_json_get(root, "sections", &value))
        print_sections(value);
}

static enum lh_cli_exit print_file(const struct lh_cli_options *options,
                                   const struct index_file *file, bool is_verified)
{
    struct lh_buf json = LH_BUF_EMPTY;
    struct lh_json_doc *doc;
    struct lh_json root;
    struct lh_error error = {.text = "not enough memory"};
    enum lh_status status = LH_OUT_OF_MEMORY;
    append_file(file, is_verified, &json);
    if (!lh_buf_failed(&json) && options->json) {
        lh_print_raw(&json);
        status = LH_OK;
    } else if (!lh_buf_failed(&json)) {
        status = lh_json_doc_create(lh_buf_str(&json), &doc, &root, &error);
        if (status == LH_OK) {
            print_members(root);
            lh_json_doc_destroy(doc);
        }
    }
    lh_buf_deinit(&json);
    return status == LH_OK ? LH_CLI_OK : refuse(file, &error);
}

/* ---- verifying ---- */

static enum lh_status read_at(const struct index_file *file, uint64_t offset, void *bytes,
                              size_t len, struct lh_error *error)
{
    size_t got = 0;
    int result = lh_disk_read(file->disk, file->file, bytes, len, offset, &got);
    if (result < 0)
        return lh_error_sys(error, LH_IO, -result, "reading at byte %" PRIu64, offset);
    if (got < len)
        return lh_error_set(error, LH_CORRUPT, "byte %" PRIu64 ": the file ends here, too early",
                            offset + got);
    return LH_OK;
}

/* Before a section is taken apart: a wrong checksum says more than what it has broken. */
static enum lh_status check_sum(const struct index_file *file, uint32_t shard,
                                struct lh_error *error)
{
    const struct lh_lhv1_section *section = &file->envelope.sections[shard];
    XXH3_state_t *state = XXH3_createState();
    char *bytes = malloc(READ_BYTES);
    enum lh_status status = LH_OK;
    uint64_t computed;
    if (state == NULL || bytes == NULL || XXH3_64bits_reset(state) == XXH_ERROR)
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory");
    for (uint64_t at = 0; status == LH_OK && at < section->length;) {
        uint64_t left = section->length - at;
        size_t len = left < READ_BYTES ? left : READ_BYTES;
        status = read_at(file, section->offset + at, bytes, len, error);
        if (status == LH_OK)
            XXH3_64bits_update(state, bytes, len);
        at += len;
    }
    computed = status == LH_OK ? XXH3_64bits_digest(state) : 0;
    if (status == LH_OK && computed != section->xxh3)
        status = lh_error_set(error, LH_CORRUPT,
                              "shard %" PRIu32 ", bytes %" PRIu64 " to %" PRIu64
                              ": their checksum is %016" PRIx64 ", it was %016" PRIx64,
                              shard, section->offset, section->offset + section->length - 1,
                              computed, section->xxh3);
    free(bytes);
    XXH3_freeState(state);
    return status;
}

static enum lh_status load_section(const struct index_file *file, uint32_t number,
                                   struct lh_shard **shard, struct lh_error *error)
{
    const struct lh_index_params *params = &file->envelope.params;
    const struct lh_lhv1_section *section = &file->envelope.sections[number];
    struct lh_graph_options options = {.dimension = params->dimension,
                                       .distance = (enum lh_distance)params->distance,
                                       .m = params->m,
                                       .ef_construction = params->ef_construction,
                                       .seed = params->seed};
    struct lh_section_loader *loader;
    uint64_t at = 0;
    size_t len = 0;
    bool is_done = false;
    void *to;
    enum lh_status status = lh_section_load(&options, section->length, &loader);
    if (status != LH_OK)
        return lh_error_set(error, status, "a section of %" PRIu64 " bytes: %s", section->length,
                            lh_status_text(status));
    while (status == LH_OK && (to = lh_section_next(loader, &len)) != NULL) {
        assert(len <= section->length - at);
        status = read_at(file, section->offset + at, to, len, error);
        if (status == LH_OK)
            status = lh_section_filled(loader, len, error);
        at += len;
    }
    while (status == LH_OK && !is_done)
        status = lh_section_finish(loader, CHECK_NODES, &is_done, error);
    if (status == LH_OK)
        *shard = lh_section_take(loader);
    else
        lh_section_abandon(loader);
    return status;
}

/* Every id is where a search for it would look. */
static enum lh_status check_placement(const struct index_file *file, uint32_t number,
                                      struct lh_shard *shard, struct lh_error *error)
{
    const struct lh_found_options nothing = {.bytes_max = UINT64_MAX};
    uint32_t shards = file->envelope.params.shards;
    struct lh_found_list list = {0};
    enum lh_status status = LH_OK;
    uint32_t node = 0;
    while (status == LH_OK && node != LH_NO_ITEM) {
        list.count = 0;
        list.text.len = 0;
        status = lh_shard_page(shard, &node, PAGE_ITEMS, &nothing, &list);
        for (uint32_t i = 0; status == LH_OK && i < list.count; i++) {
            struct lh_str id = {list.text.ptr + list.items[i].text_at, list.items[i].id_len};
            uint32_t home = lh_placement_shard(lh_placement_hash(id), shards);
            if (home != number)
                status =
                    lh_error_set(error, LH_CORRUPT,
                                 "an id that belongs to shard %" PRIu32 ": %.64s", home, id.ptr);
        }
        if (status == LH_OUT_OF_MEMORY)
            lh_error_set(error, status, "not enough memory");
    }
    lh_found_list_deinit(&list);
    return status;
}

static enum lh_status verify_shard(const struct index_file *file, uint32_t number,
                                   struct lh_error *error)
{
    uint32_t count = file->envelope.sections[number].count;
    struct lh_shard *shard = NULL;
    struct lh_error found = {0};
    enum lh_status status = check_sum(file, number, error);
    if (status != LH_OK)
        return status;
    status = load_section(file, number, &shard, &found);
    if (status == LH_OK && lh_shard_count(shard) != count)
        status = lh_error_set(&found, LH_CORRUPT, "%" PRIu32 " items, the envelope says %" PRIu32,
                              lh_shard_count(shard), count);
    if (status == LH_OK)
        status = lh_shard_validate(shard, &found);
    if (status == LH_OK)
        status = check_placement(file, number, shard, &found);
    lh_shard_destroy(shard);
    if (status != LH_OK)
        lh_error_set(error, status, "shard %" PRIu32 ": %.140s", number, found.text);
    return status;
}

/* Reads version 1's items, all of them when `to_the_end`. */
static enum lh_status read_go(struct index_file *file, bool to_the_end, struct lh_error *error)
{
    struct lh_lhv1_go *reader;
    struct lh_batch batch;
    enum lh_status status = lh_lhv1_go_open(file->disk, file->file, &reader, error);
    if (status != LH_OK)
        return status;
    while (to_the_end && (status = lh_lhv1_go_next(reader, &batch, error)) == LH_OK)
        lh_batch_deinit(&batch);
    file->facts = lh_lhv1_go_facts(reader);
    lh_lhv1_go_close(reader);
    return status == LH_NOT_FOUND ? LH_OK : status;
}

static enum lh_cli_exit run(enum lh_cli_command command, const struct lh_cli_options *options)
{
    struct index_file file;
    struct lh_error error = {0};
    bool verify = command == LH_CLI_LHV1_VERIFY;
    enum lh_cli_exit result;
    enum lh_status status;
    if (options->word_count != 1)
        return lh_cli_usage(command, "needs one FILE, found %d", options->word_count);
    status = open_file(options->words[0], &file, &error);
    if (status == LH_OK && file.envelope.version == 1)
        status = read_go(&file, verify, &error);
    else if (status == LH_OK && verify)
        for (uint32_t i = 0; status == LH_OK && i < file.envelope.params.shards; i++)
            status = verify_shard(&file, i, &error);
    result = status == LH_OK ? print_file(options, &file, verify) : refuse(&file, &error);
    close_file(&file);
    return result;
}

enum lh_cli_exit lh_cli_lhv1_inspect(const struct lh_cli_options *options)
{
    return run(LH_CLI_LHV1_INSPECT, options);
}

enum lh_cli_exit lh_cli_lhv1_verify(const struct lh_cli_options *options)
{
    return run(LH_CLI_LHV1_VERIFY, options);
}
