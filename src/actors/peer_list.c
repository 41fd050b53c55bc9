/* What the peer says it has, page by page. Runs on the peer's thread.
 *
 * Nothing of an answer is believed: each member has the type that it must have, and pages, objects
 * and time have limits. Keys that are no index's are left alone. */
#include "actors/peer.h"

#include "base/clock.h"
#include "ext/json_read.h"
#include <inttypes.h>
#include <stdlib.h>

#define PAGE_BYTES_MAX (4u << 20)
#define PAGE_OBJECTS   1000u
#define PAGES_MAX      1000u
#define LIST_NS        30000000000ull /* for all pages */
#define SUFFIX         ".lhv1"

/* The index's name in an object's key; empty: it is none. */
static struct lh_str name_of(struct lh_str key)
{
    static const struct lh_str prefix = {LH_LHV1_FOLDER "/", sizeof LH_LHV1_FOLDER};
    size_t suffix_len = sizeof SUFFIX - 1;
    if (!lh_str_has_prefix(key, prefix) || key.len <= prefix.len + suffix_len ||
        memcmp(key.ptr + key.len - suffix_len, SUFFIX, suffix_len) != 0)
        return (struct lh_str){0};
    struct lh_str name = {key.ptr + prefix.len, key.len - prefix.len - suffix_len};
    return lh_index_name_is_valid(name) ? name : (struct lh_str){0};
}

static enum lh_status take_object(struct lh_peer_note *note, struct lh_str name, uint64_t bytes,
                                  struct lh_error *error)
{
    uint32_t count = note->object_count;
    if (count >= LH_INDEXES_MAX)
        return lh_error_set(error, LH_LIMIT_EXCEEDED, "the list has more than %u indexes",
                            LH_INDEXES_MAX);
    if ((count & (count - 1)) == 0) { /* full: its room is the next power of two */
        void *grown = realloc(note->objects, (count == 0 ? 1 : 2 * count) * sizeof *note->objects);
        if (grown == NULL)
            return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the list");
        note->objects = grown;
    }
    struct lh_peer_object *object = &note->objects[note->object_count++];
    *object = (struct lh_peer_object){.bytes = bytes};
    memcpy(object->name, name.ptr, name.len);
    return LH_OK;
}

static enum lh_status take_objects(struct lh_peer_note *note, struct lh_json root,
                                   struct lh_error *error)
{
    struct lh_json objects;
    struct lh_json object;
    struct lh_str key;
    uint64_t bytes;
    uint32_t at = 0;
    enum lh_status status = LH_OK;
    if (!lh_json_get(root, "objects", &objects))
        return lh_error_set(error, LH_CORRUPT, "the list has no objects");
    struct lh_json_iter iter = lh_json_elements(objects);
    while (status == LH_OK && lh_json_next(&iter, &object)) {
        if (!lh_json_get_str(object, "Key", &key))
            return lh_error_set(error, LH_CORRUPT, "the list: objects[%u].Key is no string", at);
        if (!lh_json_get_u64(object, "Size", &bytes))
            return lh_error_set(error, LH_CORRUPT, "the list: objects[%u].Size is no number", at);
        struct lh_str name = name_of(key);
        if (name.len > 0)
            status = take_object(note, name, bytes, error);
        at++;
    }
    return status;
}

static bool is_truncated(struct lh_json root)
{
    struct lh_buf text = LH_BUF_EMPTY;
    struct lh_json value;
    if (lh_json_get(root, "truncated", &value))
        lh_json_append(&text, value);
    bool is_true = lh_str_eq(lh_buf_str(&text), LH_STR("true"));
    lh_buf_deinit(&text);
    return is_true;
}

/* `cursor` becomes that of the next page; empty: this was the last. */
static enum lh_status take_page(struct lh_peer_note *note, struct lh_str text,
                                struct lh_buf *cursor, struct lh_error *error)
{
    struct lh_json_doc *doc;
    struct lh_json root;
    struct lh_str next = {0};
    struct lh_error reason;
    if (lh_json_doc_create(text, &doc, &root, &reason) != LH_OK)
        return lh_error_set(error, LH_CORRUPT, "the list is not JSON: %.100s", reason.text);
    enum lh_status status = take_objects(note, root, error);
    (void)lh_json_get_str(root, "next_cursor", &next); /* of the last page: none */
    if (status == LH_OK && next.len > 0 && lh_str_eq(next, lh_buf_str(cursor)))
        status = lh_error_set(error, LH_CORRUPT, "the list: next_cursor is the page's own");
    if (status == LH_OK && next.len == 0 && is_truncated(root))
        status = lh_error_set(error, LH_CORRUPT, "the list is truncated and has no next_cursor");
    cursor->len = 0;
    lh_buf_append_str(cursor, next);
    if (status == LH_OK && lh_buf_failed(cursor))
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the list");
    lh_json_doc_destroy(doc);
    return status;
}

static int compare_objects(const void *a, const void *b)
{
    const struct lh_peer_object *one = a;
    const struct lh_peer_object *other = b;
    return strcmp(one->name, other->name);
}

/* In order, and each once. */
static void tidy_objects(struct lh_peer_note *note)
{
    uint32_t kept = 0;
    if (note->object_count == 0)
        return;
    qsort(note->objects, note->object_count, sizeof *note->objects, compare_objects);
    for (uint32_t i = 1; i < note->object_count; i++) {
        if (strcmp(note->objects[i].name, note->objects[kept].name) != 0)
            note->objects[++kept] = note->objects[i];
    }
    note->object_count = kept + 1;
}

enum lh_status lh__peer_list(struct lh_peer *peer, struct lh_peer_note *note,
                             struct lh_error *error)
{
    struct lh_buf path = LH_BUF_EMPTY;
    struct lh_buf page = LH_BUF_EMPTY;
    struct lh_buf cursor = LH_BUF_EMPTY;
    enum lh_status status = LH_OK;
    uint64_t deadline = lh_clock_ns() + LIST_NS;
    uint32_t pages = 0;
    do {
        path.len = page.len = 0;
        lh_buf_printf(&path, "/v1/storage/list?prefix=" LH_LHV1_FOLDER "/&limit=%u", PAGE_OBJECTS);
        if (cursor.len > 0) {
            lh_buf_append_str(&path, LH_STR("&cursor="));
            lh_http_escape(&path, lh_buf_str(&cursor));
        }
        lh_buf_append_char(&path, '\0');
        if (lh_buf_failed(&path))
            status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the list");
        else if (pages++ == PAGES_MAX || lh_clock_ns() > deadline)
            status = lh_error_set(error, LH_IO, "the list has no end after %u pages", pages - 1);
        if (status == LH_OK)
            status = lh_http_client_get_short(peer->client, path.ptr, &page, PAGE_BYTES_MAX, error);
        if (status == LH_OK)
            status = take_page(note, lh_buf_str(&page), &cursor, error);
    } while (status == LH_OK && cursor.len > 0);
    tidy_objects(note);
    lh_buf_deinit(&path);
    lh_buf_deinit(&page);
    lh_buf_deinit(&cursor);
    return status;
}
