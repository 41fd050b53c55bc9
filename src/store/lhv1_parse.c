/* The envelope's text: read, checked to be JSON, and taken apart. Any thread that may read.
 *
 * A version has exactly the members that it has: one that is missing, there twice or unknown is an
 * error. A reader that skipped what it does not know would guess what a file means.
 *
 * Invariant: every value is a run of the text, so `value.ptr - bytes.ptr` is its place in the
 * file. */
#include "store/lhv1_envelope.h"

#include "ext/json.h"

#include <assert.h>
#include <endian.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MEMBERS_MAX 8u
#define TIME_MS_MAX 253402300799999u /* the last one of the year 9999 */
#define SHOWN_MAX   40u /* of a value in an error: it is there to be found, not to be read */

struct parse {
    const struct lh__lhv1_text *text;
    struct lh_error *error;
};

/* ---- errors ---- */

static enum lh_status corrupt(const struct parse *p, struct lh_str at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum lh_status corrupt(const struct parse *p, struct lh_str at, const char *format, ...)
{
    char reason[120];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    return lh_error_set(p->error, LH_CORRUPT, "byte %td: %s", at.ptr - p->text->bytes.ptr, reason);
}

/* As much of a value as an error has room for, cut between characters. */
static struct lh_str shown(struct lh_str value)
{
    if (value.len > SHOWN_MAX) {
        value.len = SHOWN_MAX;
        while (value.len > 0 && ((unsigned char)value.ptr[value.len] & 0xc0) == 0x80)
            value.len--;
    }
    return value;
}

/* ---- values ---- */

static bool token_is(struct lh_str token, const char *name)
{
    size_t len = strlen(name);
    return token.len == len + 2 && token.ptr[0] == '"' && memcmp(token.ptr + 1, name, len) == 0;
}

/* The values of `object`, which has the members `names` and no others, in the order of `names`. */
static enum lh_status read_members(const struct parse *p, const char *what, struct lh_str object,
                                   const char *const names[], unsigned count,
                                   struct lh_str values[])
{
    struct lh_json_walk walk = lh_json_walk_begin(object);
    struct lh_str name;
    struct lh_str value;
    assert(count <= MEMBERS_MAX);
    if (object.ptr[0] != '{')
        return corrupt(p, object, "%s: must be an object", what);
    memset(values, 0, count * sizeof *values);
    while (lh_json_step(&walk, &name, &value)) {
        unsigned i = 0;
        while (i < count && !token_is(name, names[i]))
            i++;
        if (i == count)
            return corrupt(p, name, "%s: %.*s is no member of it in version %" PRIu32, what,
                           LH_STR_FMT(shown(name)), p->text->version);
        if (values[i].ptr != NULL)
            return corrupt(p, name, "%s: %s is there twice", what, names[i]);
        values[i] = value;
    }
    for (unsigned i = 0; i < count; i++) {
        if (values[i].ptr == NULL)
            return corrupt(p, object, "%s: %s is missing", what, names[i]);
    }
    return LH_OK;
}

static enum lh_status read_number(const struct parse *p, const char *what, struct lh_str value,
                                  uint64_t min, uint64_t max, uint64_t *number)
{
    if (!lh_str_to_u64(value, number) || *number < min || *number > max)
        return corrupt(p, value, "%s: %.*s is not a whole number from %" PRIu64 " to %" PRIu64,
                       what, LH_STR_FMT(shown(value)), min, max);
    return LH_OK;
}

static enum lh_status read_u32(const struct parse *p, const char *what, struct lh_str value,
                               uint32_t min, uint32_t max, uint32_t *number)
{
    uint64_t wide = 0;
    enum lh_status status = read_number(p, what, value, min, max, &wide);
    *number = (uint32_t)wide;
    return status;
}

/* The text of a string in which nothing is escaped: names and hexadecimal digits need not be. */
static enum lh_status read_string(const struct parse *p, const char *what, struct lh_str value,
                                  struct lh_str *string)
{
    *string = (struct lh_str){NULL, 0};
    if (value.ptr[0] != '"' || memchr(value.ptr, '\\', value.len) != NULL)
        return corrupt(p, value, "%s: must be a string without escapes", what);
    *string = (struct lh_str){value.ptr + 1, value.len - 2};
    return LH_OK;
}

/* The value of a lower-case hexadecimal digit, or -1. */
static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum lh_status read_hex64(const struct parse *p, const char *what, struct lh_str value,
                                 uint64_t *number)
{
    struct lh_str digits;
    enum lh_status status = read_string(p, what, value, &digits);
    if (status != LH_OK)
        return status;
    *number = 0;
    for (size_t i = 0; i < digits.len && i < 16; i++) {
        int digit = hex_digit(digits.ptr[i]);
        if (digit < 0)
            return corrupt(p, value, "%s: not 16 lower-case hexadecimal digits", what);
        *number = *number << 4 | (unsigned)digit;
    }
    if (digits.len != 16)
        return corrupt(p, value, "%s: %zu characters, not 16 hexadecimal digits", what, digits.len);
    return LH_OK;
}

void lh_lhv1_uuid_text(const uint8_t uuid[16], char out[LH_LHV1_UUID_CHARS + 1])
{
    char *at = out;
    for (int i = 0; i < 16; i++)
        at += sprintf(at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
}

/* All zeros are refused: they stand for "has none", and so for every change in the log to be
 * another index's. */
static enum lh_status read_uuid(const struct parse *p, struct lh_str value, uint8_t uuid[16])
{
    static const uint8_t none[16] = {0};
    char again[LH_LHV1_UUID_CHARS + 1];
    struct lh_str text;
    unsigned digits = 0;
    enum lh_status status = read_string(p, "uuid", value, &text);
    if (status != LH_OK)
        return status;
    memset(uuid, 0, 16);
    for (size_t i = 0; i < text.len && digits < 32; i++) {
        int digit = hex_digit(text.ptr[i]);
        if (digit < 0)
            continue;
        uuid[digits / 2] = (uint8_t)(uuid[digits / 2] << 4 | digit);
        digits++;
    }
    lh_lhv1_uuid_text(uuid, again); /* the one text that this uuid has */
    if (!lh_str_eq(text, lh_str_of(again)) || memcmp(uuid, none, 16) == 0)
        return corrupt(p, value, "uuid: %.*s is not the lower-case text of one",
                       LH_STR_FMT(shown(value)));
    return LH_OK;
}

void lh_lhv1_time_text(uint64_t ms, char out[LH_LHV1_TIME_CHARS + 1])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    char text[80]; /* the compiler does not know that a year here has four digits */
    gmtime_r(&seconds, &tm);
    assert(ms <= TIME_MS_MAX);
    snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
             tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(ms % 1000));
    assert(strlen(text) == LH_LHV1_TIME_CHARS);
    memcpy(out, text, LH_LHV1_TIME_CHARS + 1);
}

static enum lh_status read_time(const struct parse *p, struct lh_str value, uint64_t *ms)
{
    char text[LH_LHV1_TIME_CHARS + 1] = {0};
    char again[LH_LHV1_TIME_CHARS + 1] = {0};
    struct tm tm = {0};
    struct lh_str string;
    int millis;
    enum lh_status status = read_string(p, "created_at", value, &string);
    if (status != LH_OK)
        return status;
    if (string.len == LH_LHV1_TIME_CHARS) {
        memcpy(text, string.ptr, string.len);
        if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
                   &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &millis) == 7 &&
            tm.tm_year >= 1970 && millis >= 0) {
            tm.tm_year -= 1900;
            tm.tm_mon -= 1;
            *ms = (uint64_t)timegm(&tm) * 1000 + (uint64_t)millis;
            if (*ms <= TIME_MS_MAX)
                lh_lhv1_time_text(*ms,
                                  again); /* the one text that this time has: no 31st of June */
        }
    }
    if (!lh_str_eq(string, lh_str_of(again)))
        return corrupt(p, value, "created_at: %.*s is not a time as 2026-11-21T07:58:56.123Z is",
                       LH_STR_FMT(shown(value)));
    return LH_OK;
}

static enum lh_status read_name(const struct parse *p, struct lh_str value,
                                char out[LH_NAME_BYTES_MAX + 1])
{
    struct lh_str name;
    enum lh_status status = read_string(p, "params.name", value, &name);
    if (status != LH_OK)
        return status;
    if (!lh_index_name_is_valid(name))
        return corrupt(p, value, "params.name: %.*s cannot be an index's name",
                       LH_STR_FMT(shown(value)));
    memcpy(out, name.ptr, name.len);
    out[name.len] = '\0';
    return LH_OK;
}

static enum lh_status read_distance(const struct parse *p, struct lh_str value, uint32_t *distance)
{
    for (*distance = 0; *distance < LH_LHV1_DISTANCES; ++*distance) {
        if (token_is(value, lh_lhv1_distance_name(*distance)))
            return LH_OK;
    }
    return corrupt(p, value, "params.distance: %.*s is not cosine, euclidean or dot",
                   LH_STR_FMT(shown(value)));
}

/* ---- version 2 ---- */

static enum lh_status read_params(const struct parse *p, struct lh_str object,
                                  struct lh_index_params *params)
{
    enum { NAME, DIMENSION, DISTANCE, M, EF_CONSTRUCTION, EF_SEARCH, SHARDS, SEED, COUNT };
    static const char *const names[COUNT] = {
        [NAME] = "name",
        [DIMENSION] = "dimension",
        [DISTANCE] = "distance",
        [M] = "m",
        [EF_CONSTRUCTION] = "ef_construction",
        [EF_SEARCH] = "ef_search",
        [SHARDS] = "shards",
        [SEED] = "seed",
    };
    struct lh_str v[COUNT];
    enum lh_status status = read_members(p, "params", object, names, COUNT, v);
    if (status == LH_OK)
        status = read_name(p, v[NAME], params->name);
    if (status == LH_OK)
        status =
            read_u32(p, "params.dimension", v[DIMENSION], 1, LH_DIMENSION_MAX, &params->dimension);
    if (status == LH_OK)
        status = read_distance(p, v[DISTANCE], &params->distance);
    if (status == LH_OK)
        status = read_u32(p, "params.m", v[M], LH_M_MIN, LH_M_MAX, &params->m);
    if (status == LH_OK)
        status = read_u32(p, "params.ef_construction", v[EF_CONSTRUCTION], 1, LH_EF_MAX,
                          &params->ef_construction);
    if (status == LH_OK)
        status = read_u32(p, "params.ef_search", v[EF_SEARCH], 1, LH_EF_MAX, &params->ef_search);
    if (status == LH_OK)
        status = read_u32(p, "params.shards", v[SHARDS], 1, LH_SHARDS_MAX, &params->shards);
    if (status == LH_OK)
        status = read_hex64(p, "params.seed", v[SEED], &params->seed);
    return status;
}

/* `free_from`: where the file has room for it at the earliest; moves behind it. */
static enum lh_status read_section(const struct parse *p, struct lh_str object, uint64_t *free_from,
                                   struct lh_lhv1_section *section)
{
    enum { OFFSET, LENGTH, SECTION_COUNT, XXH3, COUNT };
    static const char *const names[COUNT] = {"offset", "length", "count", "xxh3"};
    struct lh_str v[COUNT];
    uint64_t end = p->text->file_bytes;
    enum lh_status status = read_members(p, "shards", object, names, COUNT, v);
    if (status == LH_OK)
        status = read_number(p, "offset", v[OFFSET], 0, UINT64_MAX, &section->offset);
    if (status == LH_OK)
        status = read_number(p, "length", v[LENGTH], 1, UINT64_MAX, &section->length);
    if (status == LH_OK)
        status = read_u32(p, "count", v[SECTION_COUNT], 0, LH_NODES_MAX, &section->count);
    if (status == LH_OK)
        status = read_hex64(p, "xxh3", v[XXH3], &section->xxh3);
    if (status != LH_OK)
        return status;
    if (section->offset % LH_LHV1_ALIGN_BYTES != 0)
        return corrupt(p, v[OFFSET], "offset: %" PRIu64 " is not a multiple of %u", section->offset,
                       LH_LHV1_ALIGN_BYTES);
    if (section->offset < *free_from)
        return corrupt(p, v[OFFSET], "offset: %" PRIu64 " is inside what ends at byte %" PRIu64,
                       section->offset, *free_from);
    if (section->offset > end || section->length > end - section->offset)
        return corrupt(p, v[LENGTH],
                       "length: %" PRIu64 " bytes from byte %" PRIu64
                       " on, the file ends at byte %" PRIu64,
                       section->length, section->offset, end);
    *free_from = section->offset + section->length;
    return LH_OK;
}

static enum lh_status read_sections(const struct parse *p, struct lh_str array,
                                    struct lh_lhv1_envelope *envelope)
{
    struct lh_json_walk walk = lh_json_walk_begin(array);
    uint32_t shards = envelope->params.shards;
    uint64_t free_from = envelope->bytes;
    uint64_t items = 0;
    uint32_t i = 0;
    struct lh_str name;
    struct lh_str value;
    if (array.ptr[0] != '[')
        return corrupt(p, array, "shards: must be an array");
    envelope->sections = calloc(shards, sizeof *envelope->sections);
    if (envelope->sections == NULL)
        return lh_error_set(p->error, LH_OUT_OF_MEMORY, "not enough memory to read an envelope");
    for (; lh_json_step(&walk, &name, &value); i++) {
        if (i == shards)
            return corrupt(p, value, "shards: more than the %" PRIu32 " of params.shards", shards);
        enum lh_status status = read_section(p, value, &free_from, &envelope->sections[i]);
        if (status != LH_OK)
            return status;
        items += envelope->sections[i].count;
    }
    if (i < shards)
        return corrupt(p, array, "shards: %" PRIu32 ", params.shards says %" PRIu32, i, shards);
    if (items != envelope->count)
        return corrupt(p, array, "shards: they hold %" PRIu64 " items, count says %" PRIu64, items,
                       envelope->count);
    return LH_OK;
}

enum lh_status lh__lhv1_parse(const struct lh__lhv1_text *text, struct lh_lhv1_envelope *envelope,
                              struct lh_error *error)
{
    enum { VERSION, UUID, PARAMS, ITEMS, LSN, SHARDS, CREATED_AT, COUNT };
    static const char *const names[COUNT] = {
        [VERSION] = "version", [UUID] = "uuid",     [PARAMS] = "params",         [ITEMS] = "count",
        [LSN] = "lsn",         [SHARDS] = "shards", [CREATED_AT] = "created_at",
    };
    struct parse p = {text, error};
    struct lh_str v[COUNT];
    enum lh_status status = read_members(&p, "envelope", text->json, names, COUNT, v);
    envelope->version = text->version;
    if (status == LH_OK)
        status = read_uuid(&p, v[UUID], envelope->params.uuid);
    if (status == LH_OK)
        status = read_params(&p, v[PARAMS], &envelope->params);
    envelope->bytes = lh_lhv1_envelope_room(envelope->params.shards);
    if (status == LH_OK)
        status = read_number(&p, "count", v[ITEMS], 0, UINT64_MAX, &envelope->count);
    if (status == LH_OK)
        status = read_number(&p, "lsn", v[LSN], 0, UINT64_MAX, &envelope->lsn);
    if (status == LH_OK)
        status = read_sections(&p, v[SHARDS], envelope);
    if (status == LH_OK)
        status = read_time(&p, v[CREATED_AT], &envelope->created_at_ms);
    return status;
}

/* ---- version 1 ---- */

enum lh_status lh__lhv1_parse_go(const struct lh__lhv1_text *text,
                                 struct lh_lhv1_envelope *envelope, struct lh_str *metadata,
                                 struct lh_error *error)
{
    enum { VERSION, PARAMS, METADATA, COUNT };
    enum { NAME, DIMENSION, M, EF_SEARCH, DISTANCE, PARAMS_COUNT };
    static const char *const names[COUNT] = {"version", "params", "metadata"};
    static const char *const params_names[PARAMS_COUNT] = {"name", "dimension", "m", "ef_search",
                                                           "distance"};
    struct lh_index_params *params = &envelope->params;
    struct parse p = {text, error};
    struct lh_str v[COUNT];
    struct lh_str w[PARAMS_COUNT];
    enum lh_status status = read_members(&p, "envelope", text->json, names, COUNT, v);
    envelope->version = text->version;
    envelope->bytes = text->bytes.len;
    params->ef_construction = LH_EF_CONSTRUCTION_DEFAULT;
    if (status == LH_OK)
        status = read_members(&p, "params", v[PARAMS], params_names, PARAMS_COUNT, w);
    if (status == LH_OK)
        status = read_name(&p, w[NAME], params->name);
    if (status == LH_OK)
        status =
            read_u32(&p, "params.dimension", w[DIMENSION], 1, LH_DIMENSION_MAX, &params->dimension);
    if (status == LH_OK)
        status = read_u32(&p, "params.m", w[M], LH_M_MIN, LH_M_MAX, &params->m);
    if (status == LH_OK)
        status = read_u32(&p, "params.ef_search", w[EF_SEARCH], 1, LH_EF_MAX, &params->ef_search);
    if (status == LH_OK)
        status = read_distance(&p, w[DISTANCE], &params->distance);
    if (status != LH_OK)
        return status;
    if (v[METADATA].ptr[0] != '{' && !lh_str_eq(v[METADATA], LH_STR("null")))
        return corrupt(&p, v[METADATA], "metadata: must be an object");
    *metadata = v[METADATA];
    return LH_OK;
}

/* ---- the text ---- */

/* The top level's "version", before it is known what else there may be. */
static enum lh_status find_version(struct lh__lhv1_text *text, struct lh_error *error)
{
    struct parse p = {text, error};
    struct lh_json_walk walk = lh_json_walk_begin(text->json);
    struct lh_str name;
    struct lh_str value;
    if (text->json.ptr[0] != '{')
        return corrupt(&p, text->json, "the envelope must be an object");
    while (lh_json_step(&walk, &name, &value)) {
        if (token_is(name, "version"))
            return read_u32(&p, "version", value, 1, UINT32_MAX, &text->version);
    }
    return corrupt(&p, text->json, "the envelope has no version");
}

static enum lh_status read_text(struct lh_disk *disk, int file, struct lh__lhv1_text *text,
                                struct lh_error *error)
{
    struct lh_json_fault fault;
    struct lh_buf *bytes = &text->bytes;
    uint32_t length;
    enum lh_status status = lh__lhv1_read(disk, file, bytes->ptr, LH__LHV1_HEAD_BYTES, 0, error);
    if (status != LH_OK)
        return status;
    if (memcmp(bytes->ptr, "LHV1", 4) != 0)
        return lh_error_set(error, LH_CORRUPT, "byte 0: not an LHV1 file, those begin with LHV1");
    memcpy(&length, bytes->ptr + 4, sizeof length);
    length = be32toh(length);
    if (length > LH_LHV1_ENVELOPE_BYTES_MAX || length > text->file_bytes - LH__LHV1_HEAD_BYTES ||
        length == 0)
        return lh_error_set(error, LH_CORRUPT,
                            "byte 4: an envelope of %" PRIu32 " bytes; the file has %" PRIu64
                            ", the limit is %u",
                            length, text->file_bytes, LH_LHV1_ENVELOPE_BYTES_MAX);
    bytes->len = LH__LHV1_HEAD_BYTES;
    if (lh_buf_reserve(bytes, length) != LH_OK)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for %" PRIu32 " bytes",
                            length);
    status = lh__lhv1_read(disk, file, bytes->ptr + bytes->len, length, bytes->len, error);
    if (status != LH_OK)
        return status;
    bytes->len += length;
    text->json = (struct lh_str){bytes->ptr + LH__LHV1_HEAD_BYTES, length};
    if (!lh_json_check(text->json, LH_JSON_DEPTH_MAX, NULL, NULL, &fault))
        return lh_error_set(error, LH_CORRUPT, "byte %zu: %s", LH__LHV1_HEAD_BYTES + fault.offset,
                            fault.reason);
    return find_version(text, error);
}

enum lh_status lh__lhv1_text_read(struct lh_disk *disk, int file, struct lh__lhv1_text *text,
                                  struct lh_error *error)
{
    int result;
    *text = (struct lh__lhv1_text){0};
    result = lh_disk_size(disk, file, &text->file_bytes);
    if (result < 0)
        return lh_error_sys(error, LH_IO, -result, "the file's size");
    if (lh_buf_reserve(&text->bytes, LH__LHV1_HEAD_BYTES) != LH_OK)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to read an envelope");
    return read_text(disk, file, text, error);
}

void lh__lhv1_text_deinit(struct lh__lhv1_text *text)
{
    lh_buf_deinit(&text->bytes);
    *text = (struct lh__lhv1_text){0};
}
