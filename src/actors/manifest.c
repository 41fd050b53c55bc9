/* Manifests in memory and as JSON. Any thread; no state.
 *
 * Invariant: what a manifest's strings point to lies in the manifest's own allocation, behind its
 * objects. */
#include "actors/manifest.h"

#include "ext/decode.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uuid/uuid.h>

_Static_assert(LH_DATASET_ID_BYTES + 1 == UUID_STR_LEN, "an id is a UUID as text");

bool lh_dataset_name_is_valid(struct lh_str name)
{
    return lh_index_name_is_valid(name);
}

void lh_dataset_id(struct lh_str name, char id[LH_DATASET_ID_BYTES + 1])
{
    /* a8f3c1d2-4e5b-5a6c-9d8e-7f0a1b2c3d4e: of all catalogs of this kind, so that a name is the
     * same dataset wherever it goes. */
    static const uuid_t namespace = {0xa8, 0xf3, 0xc1, 0xd2, 0x4e, 0x5b, 0x5a, 0x6c,
                                     0x9d, 0x8e, 0x7f, 0x0a, 0x1b, 0x2c, 0x3d, 0x4e};
    uuid_t uuid;
    uuid_generate_sha1(uuid, namespace, name.ptr, name.len);
    uuid_unparse_lower(uuid, id);
}

/* ---- one allocation ---- */

static size_t text_bytes(const struct lh_manifest *shape)
{
    size_t bytes = shape->name.len + shape->fingerprint.len + shape->schema_json.len + 3;
    for (uint32_t i = 0; i < shape->count; i++)
        bytes += shape->objects[i].key.len + shape->objects[i].fingerprint.len + 2;
    return bytes;
}

static struct lh_str copy(char **at, struct lh_str from)
{
    char *to = *at;
    if (from.len > 0)
        memcpy(to, from.ptr, from.len);
    to[from.len] = '\0';
    *at += from.len + 1;
    return (struct lh_str){to, from.len};
}

struct lh_manifest *lh_manifest_create(const struct lh_manifest *shape)
{
    size_t objects_bytes = shape->count * sizeof *shape->objects;
    struct lh_manifest *made = malloc(sizeof *made + objects_bytes + text_bytes(shape));
    if (made == NULL)
        return NULL;
    *made = *shape;
    made->objects = (struct lh_manifest_object *)(made + 1);
    char *at = (char *)made->objects + objects_bytes;
    made->name = copy(&at, shape->name);
    made->fingerprint = copy(&at, shape->fingerprint);
    made->schema_json = copy(&at, shape->schema_json);
    for (uint32_t i = 0; i < shape->count; i++) {
        made->objects[i].key = copy(&at, shape->objects[i].key);
        made->objects[i].size = shape->objects[i].size;
        made->objects[i].fingerprint = copy(&at, shape->objects[i].fingerprint);
    }
    assert(at == (char *)made->objects + objects_bytes + text_bytes(shape));
    return made;
}

void lh_manifest_destroy(struct lh_manifest *manifest)
{
    free(manifest);
}

/* ---- time ---- */

void lh_append_time(struct lh_buf *out, uint64_t ms)
{
    char text[40];
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm = {0};
    gmtime_r(&seconds, &tm);
    size_t len = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    lh_buf_append(out, text, len);
    lh_buf_printf(out, ".%03uZ", (unsigned)(ms % 1000));
}

bool lh_read_time(struct lh_str text, uint64_t *ms)
{
    char z[32];
    unsigned millis;
    int used = 0;
    struct tm tm = {0};
    if (text.len >= sizeof z)
        return false;
    memcpy(z, text.ptr, text.len);
    z[text.len] = '\0';
    const char *rest = strptime(z, "%Y-%m-%dT%H:%M:%S", &tm);
    if (rest == NULL || sscanf(rest, ".%3uZ%n", &millis, &used) != 1 || used != 5 ||
        rest[used] != '\0')
        return false;
    time_t seconds = timegm(&tm);
    if (seconds < 0)
        return false;
    *ms = (uint64_t)seconds * 1000 + millis;
    return true;
}

/* ---- JSON ---- */

static void append_objects(const struct lh_manifest *manifest, struct lh_buf *out)
{
    lh_buf_append_str(out, LH_STR(",\"objects\":["));
    for (uint32_t i = 0; i < manifest->count; i++) {
        const struct lh_manifest_object *object = &manifest->objects[i];
        lh_buf_append_str(out, i > 0 ? LH_STR(",{\"key\":") : LH_STR("{\"key\":"));
        lh_buf_append_json_string(out, object->key);
        lh_buf_printf(out, ",\"size\":%" PRIu64, object->size);
        if (object->fingerprint.len > 0 && !lh_str_eq(object->fingerprint, manifest->fingerprint)) {
            lh_buf_append_str(out, LH_STR(",\"fingerprint\":"));
            lh_buf_append_json_string(out, object->fingerprint);
        }
        lh_buf_append_char(out, '}');
    }
    lh_buf_append_char(out, ']');
}

/* What a manifest and a registration have in common. */
static void append_contents(const struct lh_manifest *manifest, struct lh_buf *out)
{
    append_objects(manifest, out);
    if (manifest->schema_json.len > 0) {
        lh_buf_append_str(out, LH_STR(",\"schema\":"));
        lh_buf_append_str(out, manifest->schema_json);
    }
    if (manifest->has_row_count)
        lh_buf_printf(out, ",\"row_count\":%" PRIu64, manifest->row_count);
}

void lh_manifest_append_json(const struct lh_manifest *manifest, struct lh_buf *out)
{
    lh_buf_printf(out,
                  "{\"dataset_id\":\"%s\",\"name\":\"%.*s\",\"fingerprint\":", manifest->dataset_id,
                  LH_STR_FMT(manifest->name));
    lh_buf_append_json_string(out, manifest->fingerprint);
    lh_buf_printf(out, ",\"version\":%" PRIu64, manifest->version);
    append_contents(manifest, out);
    lh_buf_append_str(out, LH_STR(",\"created_at\":\""));
    lh_append_time(out, manifest->created_ms);
    lh_buf_append_str(out, LH_STR("\"}\n"));
}

const char *lh_register_mode_name(enum lh_register_mode mode)
{
    static const char *const names[] = {"create", "replace", "append"};
    return names[mode];
}

void lh_registration_append_json(const struct lh_manifest *manifest, enum lh_register_mode mode,
                                 struct lh_buf *out)
{
    lh_buf_append_str(out, LH_STR("{\"name\":"));
    lh_buf_append_json_string(out, manifest->name);
    lh_buf_append_str(out, LH_STR(",\"fingerprint\":"));
    lh_buf_append_json_string(out, manifest->fingerprint);
    append_contents(manifest, out);
    lh_buf_printf(out, ",\"mode\":\"%s\"}", lh_register_mode_name(mode));
}
