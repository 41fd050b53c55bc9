/* What the peer says it has. Runs on the peer's thread.
 *
 * Objects and time have limits. Keys that are no index's are left alone. */
#include "actors/peer.h"

#include "base/clock.h"
#include <stdlib.h>

#define LIST_NS 30000000000ull /* for all pages */
#define SUFFIX  ".lhv1"

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

struct listing {
    struct lh_peer_note *note;
    uint64_t deadline_ns;
};

static enum lh_status take_listed(const struct lh_object_listed *listed, void *arg,
                                  struct lh_error *error)
{
    const struct listing *listing = arg;
    struct lh_str name = name_of(listed->key);
    if (lh_clock_ns() > listing->deadline_ns)
        return lh_error_set(error, LH_IO, "the list has no end after %llu s",
                            LIST_NS / 1000000000ull);
    return name.len > 0 ? take_object(listing->note, name, listed->size, error) : LH_OK;
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
    struct listing listing = {.note = note, .deadline_ns = lh_clock_ns() + LIST_NS};
    enum lh_status status = lh_object_client_list(peer->objects, LH_STR(LH_LHV1_FOLDER "/"),
                                                  take_listed, &listing, error);
    tidy_objects(note);
    return status;
}
