/* What there is on disk at start. Runs on the main thread, before the persister's own starts.
 *
 * A file that cannot be used is renamed to "<file>.corrupt-<unix time>" and costs its own index
 * only. The same name is told again at every later start until the index is deleted. */
#include "actors/persister.h"

#include "base/clock.h"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#define SUFFIX  ".lhv1"
#define CORRUPT ".lhv1.corrupt-"

void lh_recovery_deinit(struct lh_recovery *recovery)
{
    for (uint32_t i = 0; i < recovery->file_count; i++)
        lh_lhv1_envelope_deinit(&recovery->files[i].envelope);
    free(recovery->files);
    free(recovery->changes);
    *recovery = (struct lh_recovery){0};
}

static struct lh_found_changes *find_changes(const struct lh_recovery *recovery,
                                             const uint8_t uuid[16])
{
    for (uint32_t i = 0; i < recovery->change_count; i++) {
        if (memcmp(recovery->changes[i].uuid, uuid, 16) == 0)
            return &recovery->changes[i];
    }
    return NULL;
}

const struct lh_found_changes *lh_recovery_changes(const struct lh_recovery *recovery,
                                                   const uint8_t uuid[16])
{
    return find_changes(recovery, uuid);
}

void lh_recovery_note_drop(struct lh_recovery *recovery, const uint8_t uuid[16], uint64_t lsn)
{
    struct lh_found_changes *changes = find_changes(recovery, uuid);
    if (changes != NULL)
        changes->drop_lsn = lsn;
}

void lh_recovery_note_file(struct lh_recovery *recovery, const uint8_t uuid[16], uint64_t lsn)
{
    struct lh_found_changes *changes = find_changes(recovery, uuid);
    if (changes != NULL)
        changes->file_lsn = lsn;
}

uint64_t lh_recovery_after(const struct lh_recovery *recovery)
{
    uint64_t after = recovery->log.last_lsn;
    for (uint32_t i = 0; i < recovery->change_count; i++) {
        const struct lh_found_changes *changes = &recovery->changes[i];
        uint64_t has = changes->file_lsn != 0 ? changes->file_lsn : changes->first_lsn - 1;
        if (changes->drop_lsn == 0 && has < changes->last_lsn && has < after)
            after = has;
    }
    return after;
}

/* ---- operations, waited for ---- */

struct waiting {
    uint32_t out;
    int result;
};

static void op_done(struct lh_disk_op *op)
{
    struct waiting *waiting = op->arg;
    if (waiting->result == 0)
        waiting->result = op->result;
    waiting->out--;
}

static int run_ops(struct lh_disk *disk, struct lh_disk_op *ops, uint32_t count)
{
    struct waiting waiting = {.out = count};
    for (uint32_t i = 0; i < count; i++) {
        ops[i].done = op_done;
        ops[i].arg = &waiting;
        ops[i].next = i + 1 < count ? &ops[i + 1] : NULL;
    }
    lh_disk_submit(disk, ops);
    while (waiting.out > 0)
        lh_disk_run(disk, true);
    return waiting.result;
}

static int sync_folder(struct lh_disk *disk, const char *folder)
{
    struct lh_disk_op op = {.kind = LH_DISK_SYNC_FOLDER, .path = folder};
    return run_ops(disk, &op, 1);
}

/* ---- the folder of index files ---- */

struct listing {
    struct lh_disk *disk;
    char (*names)[LH_NAME_BYTES_MAX + 64];
    uint32_t count;
    uint32_t capacity;
    bool failed;
};

static void list_one(const char *name, uint64_t bytes, void *arg)
{
    struct listing *listing = arg;
    size_t len = strlen(name);
    (void)bytes;
    if (len >= sizeof listing->names[0])
        return; /* no file of ours */
    if (listing->count == listing->capacity) {
        uint32_t capacity = listing->capacity ? 2 * listing->capacity : 16;
        void *grown = realloc(listing->names, capacity * sizeof listing->names[0]);
        if (grown == NULL) {
            listing->failed = true;
            return;
        }
        listing->names = grown;
        listing->capacity = capacity;
    }
    memcpy(listing->names[listing->count++], name, len + 1);
}

static bool is_listed(const struct listing *listing, const char *name)
{
    for (uint32_t i = 0; i < listing->count; i++) {
        if (strcmp(listing->names[i], name) == 0)
            return true;
    }
    return false;
}

/* The index's name in a file name that ends in `suffix`; empty when it is none. */
static struct lh_str name_before(const char *file, const char *suffix)
{
    const char *at = NULL;
    for (const char *next = strstr(file, suffix); next != NULL; next = strstr(next + 1, suffix))
        at = next;
    struct lh_str name = {file, at == NULL ? 0 : (size_t)(at - file)};
    return lh_index_name_is_valid(name) ? name : (struct lh_str){0};
}

static bool ends_in(const char *text, const char *suffix)
{
    size_t len = strlen(text);
    size_t suffix_len = strlen(suffix);
    return len > suffix_len && strcmp(text + len - suffix_len, suffix) == 0;
}

struct lh_str lh_gone_name(const char *file)
{
    static const size_t end = 1 + LH_LHV1_UUID_CHARS + sizeof LH_GONE_SUFFIX - 1;
    uint8_t uuid[16];
    char text[LH_LHV1_UUID_CHARS + 1];
    size_t len = strlen(file);
    if (len <= end || !ends_in(file, LH_GONE_SUFFIX) || file[len - end] != '.')
        return (struct lh_str){0};
    memcpy(text, file + len - end + 1, LH_LHV1_UUID_CHARS);
    text[LH_LHV1_UUID_CHARS] = '\0';
    struct lh_str name = {file, len - end};
    return uuid_parse(text, uuid) == 0 && lh_index_name_is_valid(name) ? name : (struct lh_str){0};
}

static struct lh_found_file *add_file(struct lh_recovery *recovery, struct lh_str name,
                                      const char *file)
{
    struct lh_found_file *found;
    void *grown = realloc(recovery->files, (recovery->file_count + 1) * sizeof *recovery->files);
    if (grown == NULL)
        return NULL;
    recovery->files = grown;
    found = &recovery->files[recovery->file_count++];
    *found = (struct lh_found_file){.file = -1, .error = {.status = LH_OK}};
    memcpy(found->name, name.ptr, name.len);
    snprintf(found->path, sizeof found->path, LH_LHV1_FOLDER "/%s", file);
    return found;
}

/* Puts a file that cannot be used aside, under a name that says when. */
static void quarantine(struct lh_persister *persister, struct lh_found_file *found)
{
    char aside[sizeof found->path + 32];
    snprintf(aside, sizeof aside, LH_LHV1_FOLDER "/%s" CORRUPT "%" PRIu64, found->name,
             lh_clock_wall_ms() / 1000);
    struct lh_disk_op ops[] = {
        {.kind = LH_DISK_RENAME, .path = found->path, .to = aside},
        {.kind = LH_DISK_SYNC_FOLDER, .path = LH_LHV1_FOLDER},
    };
    int rc = run_ops(persister->options.disk, ops, 2);
    lh_log_line(persister->options.log, LH_LOG_ERROR, "an index's file cannot be used",
                LH_LOG_TEXT("index", found->name), LH_LOG_TEXT("reason", found->error.text),
                LH_LOG_TEXT("kept_as", rc == 0 ? aside : found->path));
    if (rc == 0)
        snprintf(found->path, sizeof found->path, "%s", aside);
}

static void read_file(struct lh_persister *persister, struct lh_found_file *found)
{
    struct lh_disk *disk = persister->options.disk;
    int rc = lh_disk_open(disk, found->path, LH_DISK_OPEN_READ, &found->file);
    if (rc != 0) {
        /* It may be whole: it stays where it is, for a start with better luck. */
        found->file = -1;
        lh_error_sys(&found->error, LH_DISK_FAILED, -rc, "opening %s", found->path);
        lh_log_line(persister->options.log, LH_LOG_ERROR, "an index's file cannot be read",
                    LH_LOG_TEXT("index", found->name), LH_LOG_TEXT("reason", found->error.text));
        return;
    }
    enum lh_status status =
        lh_lhv1_envelope_read(disk, found->file, &found->envelope, &found->error);
    if (status == LH_OK && strcmp(found->envelope.params.name, found->name) != 0)
        status = lh_error_set(&found->error, LH_CORRUPT,
                              "the file is named \"%.40s\" and holds index \"%.40s\"", found->name,
                              found->envelope.params.name);
    if (status == LH_OK)
        return;
    found->error.status = status;
    lh_disk_close(disk, found->file);
    found->file = -1;
    /* A file of a newer version is whole, and an unreadable one may be. */
    if (status == LH_CORRUPT)
        quarantine(persister, found);
}

/* A version 1 file aside is what counts while there is no file in its place. */
static enum lh_status take_aside(struct lh_persister *persister, struct lh_recovery *recovery,
                                 const struct listing *listing, const char *file)
{
    struct lh_str name = name_before(file, SUFFIX ".v1");
    char in_place[LH_NAME_BYTES_MAX + 64];
    char path[LH_NAME_BYTES_MAX + 80];
    snprintf(in_place, sizeof in_place, "%.*s" SUFFIX, LH_STR_FMT(name));
    snprintf(path, sizeof path, LH_LHV1_FOLDER "/%s", file);
    if (is_listed(listing, in_place)) {
        struct lh_disk_op op = {.kind = LH_DISK_UNLINK, .path = path};
        (void)run_ops(persister->options.disk, &op, 1); /* stays until the next start */
        return LH_OK;
    }
    struct lh_found_file *found = add_file(recovery, name, file);
    if (found == NULL)
        return LH_OUT_OF_MEMORY;
    found->is_aside = true;
    read_file(persister, found);
    return LH_OK;
}

static enum lh_status take_corrupt(struct lh_recovery *recovery, const struct listing *listing,
                                   const char *file)
{
    struct lh_str name = name_before(file, CORRUPT);
    char in_place[LH_NAME_BYTES_MAX + 64];
    snprintf(in_place, sizeof in_place, "%.*s" SUFFIX, LH_STR_FMT(name));
    if (is_listed(listing, in_place))
        return LH_OK; /* the name is in use again */
    for (uint32_t i = 0; i < recovery->file_count; i++) {
        if (lh_str_eq(name, lh_str_of(recovery->files[i].name)))
            return LH_OK;
    }
    struct lh_found_file *found = add_file(recovery, name, file);
    if (found == NULL)
        return LH_OUT_OF_MEMORY;
    lh_error_set(&found->error, LH_CORRUPT, "its file could not be used and was kept as %.100s",
                 file);
    return LH_OK;
}

static enum lh_status take_entry(struct lh_persister *persister, struct lh_recovery *recovery,
                                 const struct listing *listing, const char *file)
{
    char path[LH_NAME_BYTES_MAX + 80];
    struct lh_disk_op op = {.kind = LH_DISK_UNLINK, .path = path};
    struct lh_found_file *found;
    snprintf(path, sizeof path, LH_LHV1_FOLDER "/%s", file);
    if (ends_in(file, SUFFIX ".tmp") || ends_in(file, LH_DOWNLOAD_SUFFIX)) {
        (void)run_ops(persister->options.disk, &op, 1); /* it was cut short */
        return LH_OK;
    }
    if (strcmp(file, LH_PEER_MARK) == 0)
        recovery->had_peer = true;
    if (strcmp(file, LH_PEER_MARK) == 0 || lh_gone_name(file).len > 0)
        return LH_OK; /* the peer's actor reads them */
    if (ends_in(file, SUFFIX) && name_before(file, SUFFIX).len > 0) {
        found = add_file(recovery, name_before(file, SUFFIX), file);
        if (found == NULL)
            return LH_OUT_OF_MEMORY;
        read_file(persister, found);
        return LH_OK;
    }
    if (ends_in(file, SUFFIX ".v1") && name_before(file, SUFFIX ".v1").len > 0)
        return take_aside(persister, recovery, listing, file);
    if (name_before(file, CORRUPT).len > 0)
        return take_corrupt(recovery, listing, file);
    lh_log_line(persister->options.log, LH_LOG_WARN, "not a file of this server: left alone",
                LH_LOG_TEXT("file", path));
    return LH_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

static enum lh_status read_folder(struct lh_persister *persister, struct lh_recovery *recovery,
                                  struct lh_error *error)
{
    struct listing listing = {.disk = persister->options.disk};
    enum lh_status status = LH_OK;
    int rc = lh_disk_list(listing.disk, LH_LHV1_FOLDER, list_one, &listing);
    if (rc != 0)
        status = lh_error_sys(error, LH_DISK_FAILED, -rc, "listing %s", LH_LHV1_FOLDER);
    else if (listing.failed)
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to list the indexes");
    /* In order, so that the same folder is always read alike; ".corrupt" sorts behind its file. */
    if (listing.count > 0)
        qsort(listing.names, listing.count, sizeof listing.names[0], compare_names);
    for (uint32_t i = 0; i < listing.count && status == LH_OK; i++) {
        status = take_entry(persister, recovery, &listing, listing.names[i]);
        if (status != LH_OK)
            lh_error_set(error, status, "not enough memory to list the indexes");
    }
    free(listing.names);
    return status;
}

/* ---- the log ---- */

static void note_change(const struct lh_wal_found *found, void *arg)
{
    struct lh_recovery *recovery = arg;
    struct lh_found_changes *changes = find_changes(recovery, found->uuid);
    if (changes == NULL) {
        size_t bytes = (recovery->change_count + 1) * sizeof *recovery->changes;
        void *grown = realloc(recovery->changes, bytes);
        if (grown == NULL) {
            recovery->failed = true;
            return;
        }
        recovery->changes = grown;
        changes = &recovery->changes[recovery->change_count++];
        *changes = (struct lh_found_changes){.first_lsn = found->lsn};
        memcpy(changes->uuid, found->uuid, sizeof changes->uuid);
    }
    changes->last_lsn = found->lsn;
    if (found->type == LH_RECORD_DROP)
        changes->drop_lsn = found->lsn;
}

enum lh_status lh__recovery_read(struct lh_persister *persister, struct lh_recovery *recovery,
                                 struct lh_error *error)
{
    struct lh_disk *disk = persister->options.disk;
    const struct lh_wal_options log = {.disk = disk,
                                       .log = persister->options.log,
                                       .segment_bytes = persister->options.segment_bytes,
                                       .interval_ms = persister->options.sync_interval_ms,
                                       .clock_ns = persister->options.clock_ns,
                                       .seed = persister->options.seed};
    /* Durable with the log's folder, which is made before anything is kept. A process that was
     * killed may have left names that are seen and not durable: what is removed because of them
     * must not be gone when they are. */
    int rc = lh_disk_make_folder(disk, LH_LHV1_FOLDER);
    if (rc == 0)
        rc = sync_folder(disk, LH_LHV1_FOLDER);
    if (rc != 0)
        return lh_error_sys(error, LH_DISK_FAILED, -rc, "making the folders of vectord.data_dir");
    enum lh_status status = read_folder(persister, recovery, error);
    if (status == LH_OK)
        status = lh_wal_open(&log, note_change, recovery, &persister->wal, &recovery->log, error);
    if (status != LH_OK)
        return status;
    if (recovery->failed) {
        lh_wal_close(persister->wal);
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to read the log");
    }
    uint64_t least = 0;
    for (uint32_t i = 0; i < recovery->file_count; i++) {
        if (recovery->files[i].envelope.lsn > least)
            least = recovery->files[i].envelope.lsn;
    }
    lh_wal_set_lsn_least(persister->wal, least);
    return LH_OK;
}
