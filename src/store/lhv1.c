/* LHV1: the envelope out and in, and the file's names. Any thread that may read from the disk.
 *
 * Invariants: what is encoded here is read back equal; nothing of a file is believed before its
 * checksum was compared, but for the length of the text, which is bounded by the file's own. */
#include "store/lhv1.h"

#include "store/lhv1_envelope.h"

#include <assert.h>
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

/* What the longest numbers and name make of the text without its shards, and of one shard. */
#define FIXED_BYTES_MAX 1024u
#define SHARD_BYTES_MAX 128u

const char *lh_lhv1_distance_name(uint32_t distance)
{
    static const char *const names[LH_LHV1_DISTANCES] = {"cosine", "euclidean", "dot"};
    assert(distance < LH_LHV1_DISTANCES);
    return names[distance];
}

void lh_lhv1_envelope_deinit(struct lh_lhv1_envelope *envelope)
{
    free(envelope->sections);
    *envelope = (struct lh_lhv1_envelope){0};
}

uint64_t lh_lhv1_envelope_room(uint32_t shards)
{
    uint64_t bytes = FIXED_BYTES_MAX + (uint64_t)shards * SHARD_BYTES_MAX;
    return (bytes + LH_LHV1_ALIGN_BYTES - 1) / LH_LHV1_ALIGN_BYTES * LH_LHV1_ALIGN_BYTES;
}

void lh_lhv1_paths(const char *name, struct lh_lhv1_paths *paths)
{
    assert(lh_index_name_is_valid(lh_str_of(name)));
    snprintf(paths->file, sizeof paths->file, LH_LHV1_FOLDER "/%s.lhv1", name);
    snprintf(paths->temp, sizeof paths->temp, LH_LHV1_FOLDER "/%s.lhv1.tmp", name);
}

/* ---- out ---- */

static void append_json(const struct lh_lhv1_envelope *envelope, struct lh_buf *out)
{
    const struct lh_index_params *params = &envelope->params;
    char uuid[LH_LHV1_UUID_CHARS + 1];
    char time[LH_LHV1_TIME_CHARS + 1];
    lh_lhv1_uuid_text(params->uuid, uuid);
    lh_lhv1_time_text(envelope->created_at_ms, time);
    lh_buf_printf(
        out,
        "{\"version\":2,\"uuid\":\"%s\",\"params\":{\"name\":\"%s\",\"dimension\":%" PRIu32
        ",\"distance\":\"%s\",\"m\":%" PRIu32 ",\"ef_construction\":%" PRIu32,
        uuid, params->name, params->dimension, lh_lhv1_distance_name(params->distance), params->m,
        params->ef_construction);
    /* The seed is a string: many JSON readers keep no more than 53 bits of a number. */
    lh_buf_printf(out,
                  ",\"ef_search\":%" PRIu32 ",\"shards\":%" PRIu32 ",\"seed\":\"%016" PRIx64
                  "\"},\"count\":%" PRIu64 ",\"lsn\":%" PRIu64 ",\"shards\":[",
                  params->ef_search, params->shards, params->seed, envelope->count, envelope->lsn);
    for (uint32_t i = 0; i < params->shards; i++) {
        const struct lh_lhv1_section *section = &envelope->sections[i];
        lh_buf_printf(out,
                      "%s{\"offset\":%" PRIu64 ",\"length\":%" PRIu64 ",\"count\":%" PRIu32
                      ",\"xxh3\":\"%016" PRIx64 "\"}",
                      i > 0 ? "," : "", section->offset, section->length, section->count,
                      section->xxh3);
    }
    lh_buf_printf(out, "],\"created_at\":\"%s\"}", time);
}

enum lh_status lh_lhv1_envelope_encode(const struct lh_lhv1_envelope *envelope, struct lh_buf *out)
{
    uint64_t room = lh_lhv1_envelope_room(envelope->params.shards);
    size_t begin = out->len;
    uint32_t length;
    uint64_t checksum;
    assert(envelope->version == 2 && envelope->params.distance < LH_LHV1_DISTANCES);
    assert(lh_index_name_is_valid(lh_str_of(envelope->params.name)));
    if (lh_buf_reserve(out, room + 1) != LH_OK) /* formatting writes a NUL behind its text */
        return LH_OUT_OF_MEMORY;
    lh_buf_append(out, "LHV1\0\0\0", LH__LHV1_HEAD_BYTES);
    append_json(envelope, out);
    length = htobe32((uint32_t)(out->len - begin - LH__LHV1_HEAD_BYTES));
    memcpy(out->ptr + begin + 4, &length, sizeof length);
    checksum = htole64(XXH3_64bits(out->ptr + begin, out->len - begin));
    lh_buf_append(out, &checksum, sizeof checksum);
    assert(!lh_buf_failed(out) && out->len - begin <= room);
    memset(out->ptr + out->len, 0, begin + room - out->len);
    out->len = begin + room;
    return LH_OK;
}

/* ---- in ---- */

enum lh_status lh__lhv1_read(struct lh_disk *disk, int file, void *bytes, size_t len,
                             uint64_t offset, struct lh_error *error)
{
    size_t got = 0;
    int result = lh_disk_read(disk, file, bytes, len, offset, &got);
    if (result < 0)
        return lh_error_sys(error, LH_IO, -result, "reading %zu bytes at byte %" PRIu64, len,
                            offset);
    if (got < len)
        return lh_error_set(error, LH_CORRUPT, "byte %" PRIu64 ": the file ends here, too early",
                            offset + got);
    return LH_OK;
}

/* The checksum stands right behind the text. */
static enum lh_status check_sum(struct lh_disk *disk, int file, const struct lh__lhv1_text *text,
                                struct lh_error *error)
{
    uint64_t stored;
    uint64_t computed = XXH3_64bits(text->bytes.ptr, text->bytes.len);
    enum lh_status status =
        lh__lhv1_read(disk, file, &stored, sizeof stored, text->bytes.len, error);
    if (status != LH_OK)
        return status;
    if (le64toh(stored) != computed)
        return lh_error_set(error, LH_CORRUPT,
                            "byte %zu: the envelope's checksum is %016" PRIx64
                            ", its bytes have %016" PRIx64,
                            text->bytes.len, le64toh(stored), computed);
    return LH_OK;
}

/* From the checksum to the end of the envelope's room there is nothing. */
static enum lh_status check_padding(struct lh_disk *disk, int file,
                                    const struct lh__lhv1_text *text, uint64_t room,
                                    struct lh_error *error)
{
    uint64_t at = text->bytes.len + sizeof(uint64_t);
    enum lh_status status;
    char *zeros;
    if (at > room)
        return lh_error_set(error, LH_CORRUPT,
                            "byte 4: an envelope of %zu bytes, at most %" PRIu64 " fit",
                            text->json.len, room - sizeof(uint64_t) - LH__LHV1_HEAD_BYTES);
    zeros = malloc(room - at + 1);
    if (zeros == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to read an envelope");
    status = lh__lhv1_read(disk, file, zeros, room - at, at, error);
    for (uint64_t i = 0; status == LH_OK && i < room - at; i++) {
        if (zeros[i] != 0)
            status = lh_error_set(error, LH_CORRUPT,
                                  "byte %" PRIu64 ": not zero, in the envelope's padding", at + i);
    }
    free(zeros);
    return status;
}

static enum lh_status read_version(struct lh_disk *disk, int file, const struct lh__lhv1_text *text,
                                   struct lh_lhv1_envelope *envelope, struct lh_error *error)
{
    struct lh_str metadata;
    enum lh_status status;
    switch (text->version) {
    case 1:
        return lh__lhv1_parse_go(text, envelope, &metadata, error);
    case 2:
        status = check_sum(disk, file, text, error);
        if (status == LH_OK)
            status = lh__lhv1_parse(text, envelope, error);
        if (status == LH_OK)
            status = check_padding(disk, file, text, envelope->bytes, error);
        return status;
    default:
        return lh_error_set(error, LH_NOT_IMPLEMENTED,
                            "LHV1 version %" PRIu32 " is not known here, 1 and 2 are; a newer "
                            "lakehoused wrote the file",
                            text->version);
    }
}

enum lh_status lh_lhv1_envelope_read(struct lh_disk *disk, int file,
                                     struct lh_lhv1_envelope *envelope, struct lh_error *error)
{
    struct lh__lhv1_text text;
    enum lh_status status = lh__lhv1_text_read(disk, file, &text, error);
    *envelope = (struct lh_lhv1_envelope){0};
    if (status == LH_OK)
        status = read_version(disk, file, &text, envelope, error);
    if (status != LH_OK)
        lh_lhv1_envelope_deinit(envelope);
    lh__lhv1_text_deinit(&text);
    return status;
}
