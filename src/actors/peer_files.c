/* One object up or down. Runs on the peer's thread, which blocks here in calls to the peer and
 * in files.
 *
 * A file is opened once and then read: a checkpoint that is renamed over it meanwhile is another
 * file. What goes up was checked just before, so that a damaged disk does not spoil a good copy;
 * what comes down is checked before it gets a name that counts. */
#include "actors/peer.h"

#include "store/lhv1_check.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define COMPARE_BYTES (64u << 10)

/* ---- files ---- */

static void op_done(struct lh_disk_op *op)
{
    (void)op;
}

/* Its disk does what is submitted within the run. */
static int run_op(struct lh_peer *peer, struct lh_disk_op op)
{
    op.done = op_done;
    lh_disk_submit(peer->options.disk, &op);
    (void)lh_disk_run(peer->options.disk, false);
    return op.result;
}

enum lh_status lh__peer_remove(struct lh_peer *peer, const char *path, struct lh_error *error)
{
    int rc = run_op(peer, (struct lh_disk_op){.kind = LH_DISK_UNLINK, .path = path});
    if (rc == 0)
        rc = run_op(peer, (struct lh_disk_op){.kind = LH_DISK_SYNC_FOLDER, .path = LH_LHV1_FOLDER});
    return rc == 0 ? LH_OK : lh_error_sys(error, lh_disk_status(rc), -rc, "removing %.100s", path);
}

enum lh_status lh__peer_mark(struct lh_peer *peer, struct lh_error *error)
{
    static const char path[] = LH_LHV1_FOLDER "/" LH_PEER_MARK;
    int file;
    int rc = lh_disk_open(peer->options.disk, path, LH_DISK_OPEN_NEW, &file);
    if (rc == 0) {
        lh_disk_close(peer->options.disk, file);
        rc = run_op(peer, (struct lh_disk_op){.kind = LH_DISK_SYNC_FOLDER, .path = LH_LHV1_FOLDER});
    }
    return rc == 0 ? LH_OK : lh_error_sys(error, lh_disk_status(rc), -rc, "making %s", path);
}

/* An index's file here, open. */
struct local {
    struct lh_disk *disk;
    int file;
    uint64_t bytes;
};

static enum lh_status open_local(struct lh_peer *peer, const char *name, struct local *local,
                                 struct lh_error *error)
{
    struct lh_lhv1_paths paths;
    lh_lhv1_paths(name, &paths);
    local->disk = peer->options.disk;
    int rc = lh_disk_open(local->disk, paths.file, LH_DISK_OPEN_READ, &local->file);
    if (rc == -ENOENT)
        return lh_error_set(error, LH_NOT_FOUND, "%.100s is gone", paths.file);
    if (rc != 0)
        return lh_error_sys(error, LH_DISK_FAILED, -rc, "opening %.100s", paths.file);
    rc = lh_disk_size(local->disk, local->file, &local->bytes);
    if (rc == 0)
        return LH_OK;
    lh_disk_close(local->disk, local->file);
    return lh_error_sys(error, LH_DISK_FAILED, -rc, "opening %.100s", paths.file);
}

static enum lh_status read_local(uint64_t offset, void *to, size_t len, void *arg,
                                 struct lh_error *error)
{
    const struct local *local = arg;
    size_t got = 0;
    int rc = lh_disk_read(local->disk, local->file, to, len, offset, &got);
    if (rc == 0 && got < len)
        rc = -EIO; /* nobody makes a file of ours shorter */
    return rc == 0 ? LH_OK
                   : lh_error_sys(error, LH_DISK_FAILED, -rc, "reading at byte %" PRIu64, offset);
}

/* ---- up ---- */

enum lh_status lh__peer_upload(struct lh_peer *peer, const char *name, struct lh_error *error)
{
    char key[LH_NAME_BYTES_MAX + 64];
    struct lh_lhv1_envelope envelope;
    struct local local;
    enum lh_status status = open_local(peer, name, &local, error);
    if (status != LH_OK)
        return status;
    struct lh_http_source source = {.length = local.bytes, .read = read_local, .arg = &local};
    status = lh_lhv1_check(local.disk, local.file, &envelope, error);
    if (status != LH_OK)
        goto done;
    lh_lhv1_envelope_deinit(&envelope);
    status =
        lh_object_client_put(peer->objects, lh__peer_key(name, key), &source, NULL, NULL, error);
    if (status == LH_NOT_FOUND || status == LH_CORRUPT)
        status = LH_IO; /* that is not the file's fault */
done:
    lh_disk_close(local.disk, local.file);
    return status;
}

/* ---- is it the same? ---- */

/* LH_NOT_FOUND: there is no object. */
static enum lh_status get_object(struct lh_peer *peer, const char *name,
                                 const struct lh_http_sink *sink, struct lh_error *error)
{
    char key[LH_NAME_BYTES_MAX + 64];
    enum lh_status status =
        lh_object_client_get(peer->objects, lh__peer_key(name, key), sink, error);
    return status == LH_KEY_NOT_FOUND ? LH_NOT_FOUND : status;
}

struct comparison {
    struct local local;
    uint64_t at;
    uint64_t until; /* when all before it is the same, all is */
    bool differs;
    char bytes[COMPARE_BYTES];
};

/* Ends the call as soon as the outcome is known. */
static enum lh_status compare_bytes(struct lh_str bytes, void *arg, struct lh_error *error)
{
    struct comparison *comparison = arg;
    while (bytes.len > 0 && comparison->at < comparison->until) {
        uint64_t left = comparison->until - comparison->at;
        size_t len = bytes.len < COMPARE_BYTES ? bytes.len : COMPARE_BYTES;
        if (len > left)
            len = (size_t)left;
        enum lh_status status =
            read_local(comparison->at, comparison->bytes, len, &comparison->local, error);
        if (status != LH_OK)
            return status;
        if (memcmp(comparison->bytes, bytes.ptr, len) != 0) {
            comparison->differs = true;
            return LH_CORRUPT;
        }
        comparison->at += len;
        bytes.ptr += len;
        bytes.len -= len;
    }
    return comparison->at < comparison->until ? LH_OK : LH_CORRUPT;
}

/* A version 2 file's envelope has the checksums of all the rest, so it is all that is fetched. */
enum lh_status lh__peer_compare(struct lh_peer *peer, const char *name, bool *is_same,
                                struct lh_error *error)
{
    struct lh_lhv1_envelope envelope;
    struct comparison *comparison = calloc(1, sizeof *comparison);
    if (comparison == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory");
    struct local *local = &comparison->local;
    struct lh_http_sink sink = {.write = compare_bytes, .arg = comparison};
    enum lh_status status = open_local(peer, name, local, error);
    if (status != LH_OK)
        goto done;
    status = lh_lhv1_envelope_read(local->disk, local->file, &envelope, error);
    if (status == LH_OK) {
        comparison->until = envelope.version == 1 ? local->bytes : envelope.bytes;
        lh_lhv1_envelope_deinit(&envelope);
        status = get_object(peer, name, &sink, error);
        bool is_known = comparison->differs || comparison->at == comparison->until;
        /* A body that ended early is another file. */
        *is_same = !comparison->differs && comparison->at == comparison->until;
        if (is_known)
            status = LH_OK;
    }
    lh_disk_close(local->disk, local->file);
done:
    free(comparison);
    return status;
}

/* ---- down ---- */

struct incoming {
    struct lh_peer *peer;
    int file;
    uint64_t bytes;
    uint64_t listed_bytes;
};

static enum lh_status take_bytes(struct lh_str bytes, void *arg, struct lh_error *error)
{
    struct incoming *incoming = arg;
    if (bytes.len > incoming->listed_bytes - incoming->bytes)
        return lh_error_set(error, LH_CORRUPT, "it is longer than the %" PRIu64 " bytes listed",
                            incoming->listed_bytes);
    int rc = run_op(incoming->peer, (struct lh_disk_op){.kind = LH_DISK_WRITE,
                                                        .file = incoming->file,
                                                        .bytes = bytes.ptr,
                                                        .len = bytes.len,
                                                        .offset = incoming->bytes});
    if (rc != 0)
        return lh_error_sys(error, lh_disk_status(rc), -rc, "writing it at byte %" PRIu64,
                            incoming->bytes);
    incoming->bytes += bytes.len;
    return LH_OK;
}

static enum lh_status fetch(struct incoming *incoming, struct lh_found_file *found,
                            struct lh_error *error)
{
    struct lh_peer *peer = incoming->peer;
    struct lh_http_sink sink = {.write = take_bytes, .arg = incoming};
    int rc = 0;
    if (incoming->listed_bytes > 0) /* a disk without the room says so before a byte has come */
        rc = run_op(peer, (struct lh_disk_op){.kind = LH_DISK_ALLOCATE,
                                              .file = incoming->file,
                                              .len = incoming->listed_bytes});
    if (rc != 0)
        return lh_error_sys(error, lh_disk_status(rc), -rc, "room for its %" PRIu64 " bytes",
                            incoming->listed_bytes);
    enum lh_status status = get_object(peer, found->name, &sink, error);
    if (status != LH_OK)
        return status;
    if (incoming->bytes != incoming->listed_bytes)
        return lh_error_set(error, LH_CORRUPT, "it has %" PRIu64 " bytes, %" PRIu64 " were listed",
                            incoming->bytes, incoming->listed_bytes);
    rc = run_op(peer, (struct lh_disk_op){.kind = LH_DISK_SYNC, .file = incoming->file});
    if (rc != 0)
        return lh_error_sys(error, lh_disk_status(rc), -rc, "syncing it");
    status = lh_lhv1_check(peer->options.disk, incoming->file, &found->envelope, error);
    /* What is not there may be what was meant: only the object itself says "not found". */
    if (status != LH_OK)
        return status == LH_NOT_FOUND ? LH_CORRUPT : status;
    if (strcmp(found->envelope.params.name, found->name) == 0)
        return LH_OK;
    lh_error_set(error, LH_CORRUPT, "it holds index \"%.40s\"", found->envelope.params.name);
    lh_lhv1_envelope_deinit(&found->envelope);
    return LH_CORRUPT;
}

enum lh_status lh__peer_download(struct lh_peer *peer, const struct lh_peer_task *task,
                                 struct lh_arrival **arrival, struct lh_error *error)
{
    struct lh_arrival *made = calloc(1, sizeof *made);
    struct incoming incoming = {.peer = peer, .listed_bytes = task->listed_bytes};
    struct lh_error ignored;
    if (made == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory");
    made->job.head = (struct lh_msg){.type = LH_MSG_ARRIVAL, .lane = LH_LANE_EXPRESS};
    lh_lhv1_paths(task->name, &made->job.paths);
    snprintf(made->job.paths.temp, sizeof made->job.paths.temp,
             LH_LHV1_FOLDER "/%s" LH_DOWNLOAD_SUFFIX, task->name);
    snprintf(made->found.name, sizeof made->found.name, "%s", task->name);
    snprintf(made->found.path, sizeof made->found.path, "%s", made->job.paths.file);
    int rc =
        lh_disk_open(peer->options.disk, made->job.paths.temp, LH_DISK_OPEN_NEW, &incoming.file);
    if (rc != 0) {
        lh_error_sys(error, lh_disk_status(rc), -rc, "making %.100s", made->job.paths.temp);
        free(made);
        return lh_disk_status(rc);
    }
    enum lh_status status = fetch(&incoming, &made->found, error);
    if (status == LH_OK) {
        made->job.file = made->found.file = incoming.file;
        *arrival = made;
        return LH_OK;
    }
    lh_disk_close(peer->options.disk, incoming.file);
    if (lh__peer_remove(peer, made->job.paths.temp, &ignored) != LH_OK)
        lh_log_line(peer->options.log, LH_LOG_WARN, "a file stays until the next start",
                    LH_LOG_TEXT("reason", ignored.text));
    free(made);
    return status;
}
