/* The files and names of a simulated disk. Runs under the disk's lock.
 *
 * Invariant: applying all of a file's changes to its durable bytes gives what is seen, except after
 * a failed sync, whose changes are gone while what is seen stays. Applying all namings to the
 * durable names gives the names that are seen, and those synced in folders whose own are not. */
#include "sim/sim_state.h"

#include "unit/seed.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Real disks have 512 or 4096; the smaller tears more. */
#define SECTOR_BYTES 512u

/* ---- memory ---- */

static void *sim_grow(void *at, size_t bytes)
{
    void *grown = reallocarray(at, 1, bytes); /* not what tests without memory wrap */
    if (grown == NULL)
        abort();
    return grown;
}

/* Room for one more in an array. */
#define SIM_ROOM(at, count, room)                         \
    do {                                                  \
        if ((count) == (room)) {                          \
            (room) = (room) == 0 ? 8 : (room)*2;          \
            (at) = sim_grow((at), (room) * sizeof *(at)); \
        }                                                 \
    } while (0)

static struct lh_sim_bytes *sim_bytes_new(uint64_t size, uint64_t room)
{
    struct lh_sim_bytes *bytes = sim_grow(NULL, sizeof *bytes + room);
    *bytes = (struct lh_sim_bytes){.refs = 1, .size = size, .room = room};
    return bytes;
}

static struct lh_sim_bytes *sim_bytes_ref(struct lh_sim_bytes *bytes)
{
    if (bytes != NULL)
        bytes->refs++;
    return bytes;
}

static void sim_bytes_unref(struct lh_sim_bytes *bytes)
{
    if (bytes != NULL && --bytes->refs == 0)
        free(bytes);
}

/* Makes `*bytes` the only ref, with at least `size` bytes, new ones zero. */
static void sim_bytes_own(struct lh_sim_bytes **bytes, uint64_t size)
{
    struct lh_sim_bytes *old = *bytes, *own = old;
    if (size < old->size)
        size = old->size;
    if (old->refs > 1 || size > old->room) {
        own = sim_bytes_new(old->size, size > old->room ? size + size / 2 : size);
        memcpy(own->at, old->at, old->size);
        sim_bytes_unref(old);
    }
    memset(own->at + own->size, 0, size - own->size);
    own->size = size;
    *bytes = own;
}

/* ---- bytes of a file ---- */

static void sim_put(struct lh_sim_bytes **to, const uint8_t *from, uint64_t len, uint64_t offset)
{
    sim_bytes_own(to, offset + len);
    memcpy((*to)->at + offset, from, len);
}

static void sim_apply(struct lh_sim_bytes **to, struct lh_sim_bytes **attribute,
                      const struct lh_sim_change *change)
{
    switch (change->kind) {
    case LH_SIM_ATTRIBUTE:
        sim_bytes_unref(*attribute);
        *attribute = sim_bytes_ref(change->bytes);
        break;
    case LH_SIM_WRITE:
        sim_put(to, change->bytes->at, change->bytes->size, change->offset);
        break;
    case LH_SIM_EMPTY:
        sim_bytes_unref(*to);
        *to = sim_bytes_new(0, 0);
        break;
    case LH_SIM_GROW:
        sim_bytes_own(to, change->offset);
        break;
    }
}

static void sim_changes_clear(struct lh_sim_file *file)
{
    for (size_t i = 0; i < file->change_count; i++)
        sim_bytes_unref(file->changes[i].bytes);
    file->change_count = 0;
}

static void sim_change(struct lh_sim_file *file, struct lh_sim_change change)
{
    SIM_ROOM(file->changes, file->change_count, file->change_room);
    file->changes[file->change_count++] = change;
    sim_apply(&file->seen, &file->seen_attribute, &change);
    if (change.kind != LH_SIM_ATTRIBUTE)
        file->modified_ns++;
}

void lh_sim_file_write(struct lh_sim_file *file, const void *bytes, uint64_t len, uint64_t offset)
{
    struct lh_sim_change change = {LH_SIM_WRITE, offset, NULL};
    if (len == 0)
        return;
    change.bytes = sim_bytes_new(len, len);
    memcpy(change.bytes->at, bytes, len);
    sim_change(file, change);
}

void lh_sim_file_empty(struct lh_sim_file *file)
{
    sim_change(file, (struct lh_sim_change){.kind = LH_SIM_EMPTY});
}

void lh_sim_file_grow(struct lh_sim_file *file, uint64_t size)
{
    sim_change(file, (struct lh_sim_change){.kind = LH_SIM_GROW, .offset = size});
}

void lh_sim_file_set_attribute(struct lh_sim_file *file, const void *bytes, uint64_t len)
{
    struct lh_sim_change change = {.kind = LH_SIM_ATTRIBUTE, .bytes = sim_bytes_new(len, len)};
    memcpy(change.bytes->at, bytes, len);
    sim_change(file, change);
}

void lh_sim_file_sync(struct lh_sim_file *file, bool all)
{
    size_t left = 0;
    for (size_t i = 0; i < file->change_count; i++) {
        struct lh_sim_change *change = &file->changes[i];
        if (!all && change->kind == LH_SIM_ATTRIBUTE) {
            file->changes[left++] = *change;
            continue;
        }
        sim_apply(&file->durable, &file->durable_attribute, change);
        sim_bytes_unref(change->bytes);
    }
    file->change_count = left;
}

void lh_sim_file_rot(struct lh_sim_file *file, uint64_t offset, uint8_t mask)
{
    sim_bytes_own(&file->seen, 0);
    file->seen->at[offset] ^= mask;
    sim_bytes_own(&file->durable, 0);
    if (offset < file->durable->size)
        file->durable->at[offset] ^= mask;
}

/* Each sector of a write on its own: lost, kept, or torn in the middle, either half of it. */
static void sim_apply_torn(struct lh_sim_bytes **to, const struct lh_sim_change *change,
                           uint64_t *rng)
{
    uint64_t len = change->bytes->size;
    for (uint64_t from = 0, end; from < len; from = end) {
        uint64_t sector = (change->offset + from) / SECTOR_BYTES;
        uint64_t first, last;
        end = (sector + 1) * SECTOR_BYTES - change->offset;
        if (end > len)
            end = len;
        first = from;
        last = end;
        switch (lh_test_below(rng, 4)) {
        case 0:
            continue;
        case 1:
            if (lh_test_below(rng, 2) == 0)
                first += lh_test_below(rng, (uint32_t)(end - from));
            else
                last -= lh_test_below(rng, (uint32_t)(end - from));
            break;
        }
        sim_put(to, change->bytes->at + first, last - first, change->offset + first);
    }
}

/* Nothing that comes behind an emptying is there without it: the blocks are others. */
static void sim_file_keep_some(struct lh_sim_file *file, uint64_t *rng)
{
    for (size_t i = 0; i < file->change_count; i++) {
        const struct lh_sim_change *change = &file->changes[i];
        bool lost = lh_test_below(rng, 2) == 0;
        if (change->kind == LH_SIM_WRITE)
            sim_apply_torn(&file->durable, change, rng);
        else if (!lost)
            sim_apply(&file->durable, &file->durable_attribute, change);
        else if (change->kind == LH_SIM_EMPTY)
            return;
    }
    /* The size may be there before the bytes. */
    if (lh_test_below(rng, 4) == 0)
        sim_bytes_own(&file->durable, file->seen->size);
}

static void sim_file_crash(struct lh_sim_file *file, uint64_t *rng)
{
    size_t kept = file->change_count;
    switch (lh_test_below(rng, 4)) {
    case 0: /* nothing */
        break;
    case 1: /* all up to one, which is torn */
        kept = lh_test_below(rng, (uint32_t)kept + 1);
        for (size_t i = 0; i < kept; i++)
            sim_apply(&file->durable, &file->durable_attribute, &file->changes[i]);
        if (kept < file->change_count && file->changes[kept].kind == LH_SIM_WRITE)
            sim_apply_torn(&file->durable, &file->changes[kept], rng);
        break;
    default:
        sim_file_keep_some(file, rng);
        break;
    }
    sim_changes_clear(file);
}

void lh_sim_file_sync_failing(struct lh_sim_file *file, uint64_t *rng)
{
    sim_file_crash(file, rng);
}

/* ---- names ---- */

/* The last part of a path. */
static const char *sim_leaf(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static void sim_parent(const char *path, char parent[LH_SIM_PATH_BYTES])
{
    size_t len = (size_t)(sim_leaf(path) - path);
    if (len < 2) {
        strcpy(parent, ".");
        return;
    }
    memcpy(parent, path, len - 1);
    parent[len - 1] = '\0';
}

static bool sim_is_at(const struct lh_sim_place *place, uint32_t in, const char *leaf, size_t len)
{
    return place->in == in && strncmp(place->leaf, leaf, len) == 0 && place->leaf[len] == '\0';
}

static bool sim_same_place(const struct lh_sim_place *one, const struct lh_sim_place *other)
{
    return one->leaf[0] != '\0' && one->in == other->in && strcmp(one->leaf, other->leaf) == 0;
}

static struct lh_sim_name *sim_names_at(const struct lh_sim_names *names, uint32_t in,
                                        const char *leaf, size_t len)
{
    for (size_t i = 0; i < names->count; i++)
        if (sim_is_at(&names->at[i].place, in, leaf, len))
            return &names->at[i];
    return NULL;
}

static struct lh_sim_name *sim_names_find(const struct lh_sim_names *names, const char *path)
{
    struct lh_sim_name *name = NULL;
    uint32_t in = LH_SIM_ROOT;
    for (;;) {
        size_t len = strcspn(path, "/");
        name = sim_names_at(names, in, path, len);
        if (name == NULL || path[len] == '\0')
            return name;
        if (name->file != LH_SIM_FOLDER)
            return NULL;
        in = name->folder;
        path += len + 1;
    }
}

static void sim_names_drop(struct lh_sim_names *names, struct lh_sim_name *name)
{
    *name = names->at[--names->count];
}

static void sim_names_apply(struct lh_sim_names *names, const struct lh_sim_naming *naming)
{
    const struct lh_sim_place *from = &naming->from, *to = &naming->to;
    struct lh_sim_name *name = sim_names_at(names, from->in, from->leaf, strlen(from->leaf));
    if (name != NULL)
        sim_names_drop(names, name);
    if (to->leaf[0] == '\0')
        return;
    name = sim_names_at(names, to->in, to->leaf, strlen(to->leaf));
    if (name == NULL) {
        SIM_ROOM(names->at, names->count, names->room);
        name = &names->at[names->count++];
        name->place = *to;
    }
    name->file = naming->file;
    name->folder = naming->folder;
}

static void sim_names_copy(struct lh_sim_names *to, const struct lh_sim_names *from)
{
    to->count = to->room = from->count;
    to->at = sim_grow(NULL, from->count * sizeof *from->at + 1);
    if (from->count > 0)
        memcpy(to->at, from->at, from->count * sizeof *from->at);
}

const struct lh_sim_name *lh_sim_state_find(const struct lh_sim_state *state, const char *path)
{
    return sim_names_find(&state->seen, path);
}

int lh_sim_state_folder(const struct lh_sim_state *state, const char *path, uint32_t *folder)
{
    const struct lh_sim_name *name = sim_names_find(&state->seen, path);
    *folder = LH_SIM_ROOT;
    if (strcmp(path, ".") == 0)
        return 0;
    if (name == NULL)
        return -ENOENT;
    *folder = name->folder;
    return name->file == LH_SIM_FOLDER ? 0 : -ENOTDIR;
}

/* Where a name can be made for `path`. */
static int sim_new_place(const struct lh_sim_state *state, const char *path,
                         struct lh_sim_place *place)
{
    char parent[LH_SIM_PATH_BYTES];
    if (strlen(path) >= LH_SIM_PATH_BYTES)
        return -ENAMETOOLONG;
    sim_parent(path, parent);
    strcpy(place->leaf, sim_leaf(path));
    return lh_sim_state_folder(state, parent, &place->in);
}

static void sim_naming(struct lh_sim_state *state, struct lh_sim_naming naming)
{
    SIM_ROOM(state->namings, state->naming_count, state->naming_room);
    state->namings[state->naming_count++] = naming;
    sim_names_apply(&state->seen, &naming);
}

int lh_sim_state_make_file(struct lh_sim_state *state, const char *path, uint32_t *number)
{
    struct lh_sim_place place;
    int rc = sim_new_place(state, path, &place);
    size_t i = 0;
    if (rc != 0)
        return rc;
    while (i < state->file_count && state->files[i].number != 0)
        i++;
    if (i == state->file_count) {
        SIM_ROOM(state->files, state->file_count, state->file_room);
        state->file_count++;
    }
    *number = (uint32_t)i + 1;
    state->files[i] = (struct lh_sim_file){
        .number = *number, .seen = sim_bytes_new(0, 0), .durable = sim_bytes_new(0, 0)};
    sim_naming(state, (struct lh_sim_naming){.file = *number, .to = place});
    return 0;
}

int lh_sim_state_make_folder(struct lh_sim_state *state, const char *path)
{
    char parent[LH_SIM_PATH_BYTES];
    uint32_t folder;
    int rc = lh_sim_state_folder(state, path, &folder);
    if (rc != -ENOENT)
        return rc;
    if (strlen(path) >= LH_SIM_PATH_BYTES)
        return -ENAMETOOLONG;
    sim_parent(path, parent);
    rc = lh_sim_state_make_folder(state, parent);
    return rc != 0 ? rc : lh_sim_state_make_one_folder(state, path);
}

int lh_sim_state_missing(const struct lh_sim_state *state, const char *path)
{
    struct lh_sim_place place;
    int rc = sim_new_place(state, path, &place);
    return rc != 0 ? rc : -ENOENT;
}

int lh_sim_state_make_one_folder(struct lh_sim_state *state, const char *path)
{
    struct lh_sim_naming naming = {.file = LH_SIM_FOLDER};
    int rc = sim_new_place(state, path, &naming.to);
    if (rc != 0)
        return rc;
    naming.folder = ++state->folders_made;
    sim_naming(state, naming);
    return 0;
}

int lh_sim_state_rename(struct lh_sim_state *state, const char *path, const char *to)
{
    const struct lh_sim_name *from = sim_names_find(&state->seen, path);
    const struct lh_sim_name *over = sim_names_find(&state->seen, to);
    struct lh_sim_naming naming = {0};
    int rc = sim_new_place(state, to, &naming.to);
    if (from == NULL)
        return -ENOENT;
    if (rc != 0)
        return rc;
    /* No folder is renamed by anyone. */
    if (from->file == LH_SIM_FOLDER || (over != NULL && over->file == LH_SIM_FOLDER))
        return -EISDIR;
    naming.file = from->file;
    naming.from = from->place;
    if (from != over)
        sim_naming(state, naming);
    return 0;
}

int lh_sim_state_link(struct lh_sim_state *state, const char *path, const char *to)
{
    const struct lh_sim_name *name = sim_names_find(&state->seen, path);
    struct lh_sim_naming naming = {0};
    if (name == NULL)
        return -ENOENT;
    if (name->file == LH_SIM_FOLDER)
        return -EPERM;
    if (sim_names_find(&state->seen, to) != NULL)
        return -EEXIST;
    int rc = sim_new_place(state, to, &naming.to);
    if (rc != 0)
        return rc;
    naming.file = name->file;
    sim_naming(state, naming);
    return 0;
}

int lh_sim_state_unlink(struct lh_sim_state *state, const char *path)
{
    const struct lh_sim_name *name = sim_names_find(&state->seen, path);
    if (name == NULL)
        return 0;
    if (name->file == LH_SIM_FOLDER)
        return -EISDIR;
    sim_naming(state, (struct lh_sim_naming){.file = name->file, .from = name->place});
    return 0;
}

int lh_sim_state_remove_folder(struct lh_sim_state *state, const char *path)
{
    const struct lh_sim_name *name = sim_names_find(&state->seen, path);
    if (name == NULL)
        return -ENOENT;
    if (name->file != LH_SIM_FOLDER)
        return -ENOTDIR;
    for (size_t i = 0; i < state->seen.count; i++)
        if (state->seen.at[i].place.in == name->folder)
            return -ENOTEMPTY;
    sim_naming(state, (struct lh_sim_naming){
                          .file = LH_SIM_FOLDER, .folder = name->folder, .from = name->place});
    return 0;
}

static bool sim_is_in(const struct lh_sim_naming *naming, uint32_t folder)
{
    return (naming->from.leaf[0] != '\0' && naming->from.in == folder) ||
           (naming->to.leaf[0] != '\0' && naming->to.in == folder);
}

/* Whether a change cannot be durable without one before it: of the same file, of the same name, or,
 * for a folder that is removed, of what was in it. */
static bool sim_builds_on(const struct lh_sim_naming *late, const struct lh_sim_naming *early)
{
    bool is_removal = late->file == LH_SIM_FOLDER && late->to.leaf[0] == '\0';
    return (late->file != LH_SIM_FOLDER && late->file == early->file) ||
           (is_removal && sim_is_in(early, late->folder)) ||
           sim_same_place(&late->from, &early->from) || sim_same_place(&late->from, &early->to) ||
           sim_same_place(&late->to, &early->from) || sim_same_place(&late->to, &early->to);
}

/* The folder's changes, and those before them which they build on. The folder's own name is none of
 * these: it is in another folder. */
void lh_sim_state_sync_folder(struct lh_sim_state *state, uint32_t folder)
{
    bool *synced = sim_grow(NULL, state->naming_count + 1);
    size_t left = 0;
    for (size_t i = state->naming_count; i-- > 0;) {
        synced[i] = sim_is_in(&state->namings[i], folder);
        for (size_t k = i + 1; !synced[i] && k < state->naming_count; k++)
            synced[i] = synced[k] && sim_builds_on(&state->namings[k], &state->namings[i]);
    }
    for (size_t i = 0; i < state->naming_count; i++) {
        if (synced[i])
            sim_names_apply(&state->durable, &state->namings[i]);
        else
            state->namings[left++] = state->namings[i];
    }
    state->naming_count = left;
    free(synced);
    for (size_t i = 0; i < state->file_count; i++)
        lh_sim_state_forget(state, (uint32_t)i + 1);
}

/* ---- the whole ---- */

struct lh_sim_file *lh_sim_state_file(const struct lh_sim_state *state, uint32_t number)
{
    assert(number > 0 && number <= state->file_count && state->files[number - 1].number == number);
    return &state->files[number - 1];
}

static bool sim_names_have(const struct lh_sim_names *names, uint32_t file)
{
    for (size_t i = 0; i < names->count; i++)
        if (names->at[i].file == file)
            return true;
    return false;
}

static bool sim_is_used(const struct lh_sim_state *state, const struct lh_sim_file *file)
{
    return file->number != 0 && (file->handles > 0 || sim_names_have(&state->seen, file->number));
}

static void sim_file_free(struct lh_sim_file *file)
{
    sim_changes_clear(file);
    free(file->changes);
    sim_bytes_unref(file->seen);
    sim_bytes_unref(file->durable);
    sim_bytes_unref(file->seen_attribute);
    sim_bytes_unref(file->durable_attribute);
    *file = (struct lh_sim_file){0};
}

void lh_sim_state_forget(struct lh_sim_state *state, uint32_t number)
{
    struct lh_sim_file *file = &state->files[number - 1];
    if (file->number == 0 || sim_is_used(state, file) || sim_names_have(&state->durable, number))
        return;
    for (size_t i = 0; i < state->naming_count; i++)
        if (state->namings[i].file == number)
            return;
    sim_file_free(file);
}

uint64_t lh_sim_state_used(const struct lh_sim_state *state)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < state->file_count; i++)
        if (sim_is_used(state, &state->files[i]))
            bytes += state->files[i].seen->size;
    return bytes;
}

void lh_sim_state_deinit(struct lh_sim_state *state)
{
    for (size_t i = 0; i < state->file_count; i++)
        sim_file_free(&state->files[i]);
    free(state->files);
    free(state->seen.at);
    free(state->durable.at);
    free(state->namings);
    *state = (struct lh_sim_state){0};
}

void lh_sim_state_copy(struct lh_sim_state *to, const struct lh_sim_state *from)
{
    *to = (struct lh_sim_state){0};
    sim_names_copy(&to->seen, &from->seen);
    sim_names_copy(&to->durable, &from->durable);
    for (size_t i = 0; i < from->naming_count; i++) {
        SIM_ROOM(to->namings, to->naming_count, to->naming_room);
        to->namings[to->naming_count++] = from->namings[i];
    }
    to->folders_made = from->folders_made;
    for (size_t i = 0; i < from->file_count; i++) {
        struct lh_sim_file *file;
        SIM_ROOM(to->files, to->file_count, to->file_room);
        file = &to->files[to->file_count++];
        *file = from->files[i];
        file->handles = 0;
        file->changes = NULL;
        if (file->change_count > 0)
            file->changes = sim_grow(NULL, file->change_count * sizeof *file->changes);
        file->change_room = file->change_count;
        sim_bytes_ref(file->seen);
        sim_bytes_ref(file->durable);
        sim_bytes_ref(file->seen_attribute);
        sim_bytes_ref(file->durable_attribute);
        for (size_t k = 0; k < file->change_count; k++) {
            file->changes[k] = from->files[i].changes[k];
            sim_bytes_ref(file->changes[k].bytes);
        }
    }
}

static bool sim_has_folder(const struct lh_sim_names *names, uint32_t folder)
{
    for (size_t i = 0; i < names->count; i++)
        if (names->at[i].file == LH_SIM_FOLDER && names->at[i].folder == folder)
            return true;
    return folder == LH_SIM_ROOT;
}

/* What was synced in a folder goes with the folder, when the folder's own name was not. */
static void sim_names_prune(struct lh_sim_names *names)
{
    bool pruned = true;
    while (pruned) {
        pruned = false;
        for (size_t i = names->count; i-- > 0;) {
            if (sim_has_folder(names, names->at[i].place.in))
                continue;
            sim_names_drop(names, &names->at[i]);
            pruned = true;
        }
    }
}

/* Beside what it builds on, a name that a crash happens to keep has the folder that it is in. */
static bool sim_depends(const struct lh_sim_naming *late, const struct lh_sim_naming *early)
{
    return sim_builds_on(late, early) ||
           (early->file == LH_SIM_FOLDER && sim_is_in(late, early->folder));
}

static void sim_names_crash(struct lh_sim_state *state, uint64_t *rng)
{
    size_t count = state->naming_count;
    size_t prefix = lh_test_below(rng, (uint32_t)count + 1);
    bool by_prefix = lh_test_below(rng, 2) == 0;
    bool *kept = sim_grow(NULL, count + 1);
    for (size_t i = 0; i < count; i++) {
        kept[i] = by_prefix ? i < prefix : lh_test_below(rng, 2) == 0;
        for (size_t k = 0; kept[i] && k < i; k++)
            kept[i] = kept[k] || !sim_depends(&state->namings[i], &state->namings[k]);
        if (kept[i])
            sim_names_apply(&state->durable, &state->namings[i]);
    }
    free(kept);
    state->naming_count = 0;
    sim_names_prune(&state->durable);
}

void lh_sim_state_crash(struct lh_sim_state *state, uint64_t *rng)
{
    sim_names_crash(state, rng);
    free(state->seen.at);
    sim_names_copy(&state->seen, &state->durable);
    for (size_t i = 0; i < state->file_count; i++) {
        struct lh_sim_file *file = &state->files[i];
        if (file->number == 0)
            continue;
        file->handles = 0;
        sim_file_crash(file, rng);
        sim_bytes_unref(file->seen);
        file->seen = sim_bytes_ref(file->durable);
        sim_bytes_unref(file->seen_attribute);
        file->seen_attribute = sim_bytes_ref(file->durable_attribute);
        lh_sim_state_forget(state, (uint32_t)i + 1);
    }
}
