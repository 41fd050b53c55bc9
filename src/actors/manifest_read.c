/* Manifests and registrations from JSON: every field is checked, and what is wrong is told with its
 * place. Any thread; no state. */
#include "actors/manifest.h"

#include "store/object_key.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A manifest whose strings are the document's, but for those that it owns. */
struct draft {
    struct lh_manifest shape;
    struct lh_buf schema;
    enum lh_register_mode mode;
};

static enum lh_status wrong(struct lh_error *error, const char *place, const char *what)
{
    return lh_error_set(error, LH_INVALID_ARGUMENT, "%s: %s", place, what);
}

/* ---- fields ---- */

static bool is_fingerprint(struct lh_str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] <= ' ' || text.ptr[i] > '~')
            return false;
    return text.len > 0 && text.len <= LH_FINGERPRINT_BYTES_MAX;
}

static enum lh_status read_fingerprint(struct lh_json object, const char *place,
                                       struct lh_str *fingerprint, struct lh_error *error)
{
    if (lh_json_get_str(object, "fingerprint", fingerprint) && is_fingerprint(*fingerprint))
        return LH_OK;
    return lh_error_set(error, LH_INVALID_ARGUMENT,
                        "%s: 1 to %u visible ASCII characters are needed", place,
                        LH_FINGERPRINT_BYTES_MAX);
}

static bool has_only(struct lh_json object, const char *const *names, size_t count,
                     struct lh_str *other)
{
    struct lh_json value;
    for (struct lh_json_iter iter = lh_json_members(object);
         lh_json_member(&iter, other, &value);) {
        bool is_known = false;
        for (size_t i = 0; i < count; i++)
            is_known |= lh_str_eq(*other, lh_str_of(names[i]));
        if (!is_known)
            return false;
    }
    return true;
}

static enum lh_status read_object(struct lh_json value, uint32_t number, struct draft *draft,
                                  struct lh_error *error)
{
    struct lh_manifest_object *object = &draft->shape.objects[number];
    static const char *const names[] = {"key", "size", "fingerprint"};
    struct lh_str other;
    struct lh_json own;
    struct lh_error why;
    char place[64];
    snprintf(place, sizeof place, "objects[%" PRIu32 "]", number);
    if (!lh_json_is_object(value))
        return wrong(error, place, "{\"key\", \"size\"} is needed");
    if (!has_only(value, names, sizeof names / sizeof *names, &other))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "%s.%.*s: unknown field", place,
                            (int)(other.len < 60 ? other.len : 60), other.ptr);
    snprintf(place, sizeof place, "objects[%" PRIu32 "].key", number);
    if (!lh_json_get_str(value, "key", &object->key))
        return wrong(error, place, "a string is needed");
    if (lh_object_key_check(object->key, &why) != LH_OK)
        return lh_error_set(error, why.status, "%s: %.110s", place, why.text);
    snprintf(place, sizeof place, "objects[%" PRIu32 "].size", number);
    if (!lh_json_get_u64(value, "size", &object->size) || object->size > LH_ROW_COUNT_MAX)
        return wrong(error, place, "a number of bytes is needed");
    snprintf(place, sizeof place, "objects[%" PRIu32 "].fingerprint", number);
    object->fingerprint = draft->shape.fingerprint;
    if (lh_json_get(value, "fingerprint", &own))
        return read_fingerprint(value, place, &object->fingerprint, error);
    return LH_OK;
}

static int compare_keys(const void *a, const void *b)
{
    const struct lh_str *left = &(*(struct lh_manifest_object *const *)a)->key;
    const struct lh_str *right = &(*(struct lh_manifest_object *const *)b)->key;
    size_t len = left->len < right->len ? left->len : right->len;
    int order = memcmp(left->ptr, right->ptr, len);
    return order != 0 ? order : (left->len > right->len) - (left->len < right->len);
}

enum lh_status lh_manifest_find_repeated(struct lh_manifest_object *objects, uint32_t count,
                                         uint32_t *first, uint32_t *again)
{
    struct lh_manifest_object **sorted = calloc(count, sizeof(struct lh_manifest_object *));
    if (sorted == NULL)
        return LH_OUT_OF_MEMORY;
    *first = *again = count;
    for (uint32_t i = 0; i < count; i++)
        sorted[i] = &objects[i];
    qsort(sorted, count, sizeof *sorted, compare_keys);
    for (uint32_t i = 1; i < count && *first == count; i++) {
        if (compare_keys(&sorted[i], &sorted[i - 1]) != 0)
            continue;
        uint32_t here = (uint32_t)(sorted[i] - objects),
                 there = (uint32_t)(sorted[i - 1] - objects);
        *first = here < there ? here : there;
        *again = here < there ? there : here;
    }
    free(sorted);
    return LH_OK;
}

/* A table would be read twice where a key stands twice. */
static enum lh_status check_keys(const struct lh_manifest *shape, struct lh_error *error)
{
    uint32_t first, again;
    if (lh_manifest_find_repeated(shape->objects, shape->count, &first, &again) != LH_OK)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the objects");
    if (again == shape->count)
        return LH_OK;
    return lh_error_set(error, LH_INVALID_ARGUMENT,
                        "objects[%" PRIu32 "].key: it is that of objects[%" PRIu32 "]", again,
                        first);
}

static enum lh_status read_objects(struct lh_json root, struct draft *draft, struct lh_error *error)
{
    struct lh_manifest *shape = &draft->shape;
    struct lh_json list, value;
    enum lh_status status = LH_OK;
    if (!lh_json_get(root, "objects", &list) || !lh_json_is_array(list) || lh_json_count(list) == 0)
        return wrong(error, "objects", "an array of one object or more is needed");
    if (lh_json_count(list) > LH_MANIFEST_OBJECTS_MAX)
        return lh_error_set(error, LH_LIMIT_EXCEEDED, "objects: more than %u",
                            LH_MANIFEST_OBJECTS_MAX);
    shape->objects = calloc(lh_json_count(list), sizeof *shape->objects);
    if (shape->objects == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the objects");
    struct lh_json_iter iter = lh_json_elements(list);
    while (status == LH_OK && lh_json_next(&iter, &value)) {
        status = read_object(value, shape->count, draft, error);
        shape->count++;
    }
    return status == LH_OK ? check_keys(shape, error) : status;
}

/* The schema as text of one form, so that equal ones are equal texts. */
static enum lh_status read_column(struct lh_json value, uint32_t number, struct lh_buf *out,
                                  struct lh_error *error)
{
    static const char *const names[] = {"name", "type"};
    struct lh_str name, type, other;
    char place[48];
    snprintf(place, sizeof place, "schema[%" PRIu32 "]", number);
    if (!lh_json_is_object(value) || !lh_json_get_str(value, "name", &name) ||
        !lh_json_get_str(value, "type", &type) || name.len == 0 || type.len == 0)
        return wrong(error, place, "{\"name\", \"type\"} with a string each is needed");
    if (!has_only(value, names, sizeof names / sizeof *names, &other))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "%s.%.*s: unknown field", place,
                            (int)(other.len < 60 ? other.len : 60), other.ptr);
    lh_buf_append_str(out, number > 0 ? LH_STR(",{\"name\":") : LH_STR("[{\"name\":"));
    lh_buf_append_json_string(out, name);
    lh_buf_append_str(out, LH_STR(",\"type\":"));
    lh_buf_append_json_string(out, type);
    lh_buf_append_char(out, '}');
    return LH_OK;
}

static enum lh_status read_schema(struct lh_json root, struct draft *draft, struct lh_error *error)
{
    struct lh_json list, value;
    uint32_t number = 0;
    if (!lh_json_get(root, "schema", &list) || lh_json_is_null(list))
        return LH_OK;
    if (!lh_json_is_array(list) || lh_json_count(list) == 0)
        return wrong(error, "schema", "an array of {\"name\", \"type\"}, or nothing, is needed");
    if (lh_json_count(list) > LH_SCHEMA_COLUMNS_MAX)
        return lh_error_set(error, LH_LIMIT_EXCEEDED, "schema: more than %u columns",
                            LH_SCHEMA_COLUMNS_MAX);
    for (struct lh_json_iter iter = lh_json_elements(list); lh_json_next(&iter, &value);) {
        enum lh_status status = read_column(value, number++, &draft->schema, error);
        if (status != LH_OK)
            return status;
    }
    lh_buf_append_char(&draft->schema, ']');
    if (lh_buf_failed(&draft->schema))
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the schema");
    if (draft->schema.len > LH_SCHEMA_BYTES_MAX)
        return lh_error_set(error, LH_LIMIT_EXCEEDED, "schema: longer than %u bytes",
                            LH_SCHEMA_BYTES_MAX);
    draft->shape.schema_json = lh_buf_str(&draft->schema);
    return LH_OK;
}

static enum lh_status read_row_count(struct lh_json root, struct lh_manifest *shape,
                                     struct lh_error *error)
{
    struct lh_json value;
    shape->has_row_count = lh_json_get(root, "row_count", &value) && !lh_json_is_null(value);
    if (shape->has_row_count && (!lh_json_get_u64(root, "row_count", &shape->row_count) ||
                                 shape->row_count > LH_ROW_COUNT_MAX))
        return wrong(error, "row_count", "a number of rows is needed");
    return LH_OK;
}

/* What a manifest and a registration have in common. */
static enum lh_status read_contents(struct lh_json root, struct draft *draft,
                                    struct lh_error *error)
{
    struct lh_manifest *shape = &draft->shape;
    if (!lh_json_get_str(root, "name", &shape->name) || !lh_dataset_name_is_valid(shape->name))
        return wrong(error, "name",
                     "a string of 1 to 128 of [A-Za-z0-9._-], with a letter or digit first, is "
                     "needed");
    lh_dataset_id(shape->name, shape->dataset_id);
    enum lh_status status = read_fingerprint(root, "fingerprint", &shape->fingerprint, error);
    if (status == LH_OK)
        status = read_objects(root, draft, error);
    if (status == LH_OK)
        status = read_schema(root, draft, error);
    if (status == LH_OK)
        status = read_row_count(root, shape, error);
    return status;
}

/* ---- whole texts ---- */

static enum lh_status read_manifest(struct lh_json root, struct draft *draft,
                                    struct lh_error *error)
{
    struct lh_str text;
    enum lh_status status = read_contents(root, draft, error);
    if (status != LH_OK)
        return status;
    if (!lh_json_get_str(root, "dataset_id", &text) ||
        !lh_str_eq(text, lh_str_of(draft->shape.dataset_id)))
        return wrong(error, "dataset_id", "it is not that of the name");
    if (!lh_json_get_u64(root, "version", &draft->shape.version) || draft->shape.version == 0)
        return wrong(error, "version", "a number from 1 is needed");
    if (!lh_json_get_str(root, "created_at", &text) ||
        !lh_read_time(text, &draft->shape.created_ms))
        return wrong(error, "created_at", "a time is needed");
    return LH_OK;
}

static enum lh_status read_registration(struct lh_json root, struct draft *draft,
                                        struct lh_error *error)
{
    static const char *const names[] = {"name",   "fingerprint", "objects",
                                        "schema", "row_count",   "mode"};
    struct lh_str text;
    struct lh_json value;
    if (!has_only(root, names, sizeof names / sizeof *names, &text))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "%.*s: unknown field",
                            (int)(text.len < 60 ? text.len : 60), text.ptr);
    draft->mode = LH_REGISTER_CREATE;
    if (lh_json_get(root, "mode", &value)) {
        bool is_known = false;
        for (enum lh_register_mode mode = LH_REGISTER_CREATE; mode <= LH_REGISTER_APPEND; mode++) {
            if (lh_json_as_str(value, &text) &&
                lh_str_eq(text, lh_str_of(lh_register_mode_name(mode)))) {
                draft->mode = mode;
                is_known = true;
            }
        }
        if (!is_known)
            return wrong(error, "mode", "\"create\", \"replace\" or \"append\" is needed");
    }
    return read_contents(root, draft, error);
}

static enum lh_status read_text(struct lh_str text, bool is_registration, struct draft *draft,
                                struct lh_manifest **manifest, struct lh_error *error)
{
    struct lh_json_doc *doc;
    struct lh_json root;
    enum lh_status status = lh_json_doc_create(text, &doc, &root, error);
    if (status != LH_OK)
        return status;
    *draft = (struct draft){.shape = {.version = 0}};
    if (!lh_json_is_object(root))
        status = lh_error_set(error, LH_INVALID_ARGUMENT, "the body is not a JSON object");
    else if (is_registration)
        status = read_registration(root, draft, error);
    else
        status = read_manifest(root, draft, error);
    if (status == LH_OK) {
        *manifest = lh_manifest_create(&draft->shape);
        if (*manifest == NULL)
            status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the manifest");
    }
    free(draft->shape.objects);
    lh_buf_deinit(&draft->schema);
    lh_json_doc_destroy(doc);
    return status;
}

enum lh_status lh_manifest_read(struct lh_str text, struct lh_manifest **manifest,
                                struct lh_error *error)
{
    struct draft draft;
    return read_text(text, false, &draft, manifest, error);
}

enum lh_status lh_registration_read(struct lh_str text, struct lh_manifest **manifest,
                                    enum lh_register_mode *mode, struct lh_error *error)
{
    struct draft draft;
    enum lh_status status = read_text(text, true, &draft, manifest, error);
    *mode = draft.mode;
    return status;
}

/* ---- schemas ---- */

static enum lh_status compare(struct lh_json have, struct lh_json wanted, struct lh_error *error)
{
    struct lh_json_iter left = lh_json_elements(have), right = lh_json_elements(wanted);
    struct lh_str name = {0}, type = {0}, other_name = {0}, other_type = {0};
    struct lh_json column, other;
    uint32_t number = 0;
    for (;; number++) {
        bool is_left = lh_json_next(&left, &column), is_right = lh_json_next(&right, &other);
        if (!is_left && !is_right)
            return LH_OK;
        if (!is_left || !is_right)
            return lh_error_set(error, LH_SCHEMA_CONFLICT, "schema: %u columns, the dataset has %u",
                                lh_json_count(wanted), lh_json_count(have));
        lh_json_get_str(column, "name", &name);
        lh_json_get_str(column, "type", &type);
        lh_json_get_str(other, "name", &other_name);
        lh_json_get_str(other, "type", &other_type);
        if (!lh_str_eq(name, other_name) || !lh_str_eq(type, other_type))
            break;
    }
#define SHOWN(text) (int)((text).len < 24 ? (text).len : 24), (text).ptr
    return lh_error_set(error, LH_SCHEMA_CONFLICT,
                        "schema[%" PRIu32 "]: \"%.*s\" %.*s, the dataset has \"%.*s\" %.*s", number,
                        SHOWN(other_name), SHOWN(other_type), SHOWN(name), SHOWN(type));
#undef SHOWN
}

enum lh_status lh_schema_compare(struct lh_str have, struct lh_str wanted, struct lh_error *error)
{
    struct lh_json_doc *docs[2] = {NULL, NULL};
    struct lh_json roots[2];
    if (have.len == 0 || wanted.len == 0 || lh_str_eq(have, wanted))
        return LH_OK;
    enum lh_status status = lh_json_doc_create(have, &docs[0], &roots[0], error);
    if (status == LH_OK)
        status = lh_json_doc_create(wanted, &docs[1], &roots[1], error);
    if (status == LH_OK)
        status = compare(roots[0], roots[1], error);
    for (int i = 0; i < 2; i++)
        if (docs[i] != NULL)
            lh_json_doc_destroy(docs[i]);
    return status;
}
