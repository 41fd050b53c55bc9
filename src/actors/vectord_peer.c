/* The storaged peer, as vectord sees it. Runs on vectord's thread.
 *
 * What the peer has and nothing here has the name of becomes an index that is arriving: it holds
 * the name until its file is here, has that name on disk, and is loaded like any other. Nothing
 * that clients do waits for the peer, but for the names: until the peer was asked once, an index
 * that is not known may still be there. */
#include "actors/vectord.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_stopping(const struct lh_vectord *vectord)
{
    return vectord->stop_deadline_ns != 0;
}

static void send_note(struct lh_vectord *vectord, struct lh_peer_note *note)
{
    lh_counter_add(&vectord->metrics.peer_notes, 1);
    enum lh_status status = lh_actor_send(vectord->options.peer, &note->head);
    assert(status == LH_OK); /* it stops after vectord */
    (void)status;
}

static void tell(struct lh_vectord *vectord, enum lh_peer_note_kind kind, const char *name,
                 const char *path, uint64_t bytes)
{
    struct lh_peer_note *note = lh_peer_note_create(kind, name);
    if (note == NULL) {
        lh_log_line(vectord->options.log, LH_LOG_ERROR,
                    "not enough memory to keep the storaged peer up to date until the next start",
                    LH_LOG_TEXT("index", name));
        return;
    }
    snprintf(note->path, sizeof note->path, "%s", path);
    note->bytes = bytes;
    send_note(vectord, note);
}

void lh__remote_publish(struct lh_vectord *vectord)
{
    lh__vectord_count_states(vectord);
    if (vectord->peer.is_listed && lh_counter_get(&vectord->metrics.arriving) == 0 &&
        lh_counter_get(&vectord->metrics.loading) == 0)
        vectord->peer.is_fresh = false;
    lh_counter_set(&vectord->metrics.awaits_peer, vectord->peer.is_fresh);
}

/* ---- what goes there ---- */

void lh__remote_upload(struct lh_vectord *vectord, const struct lh_index *index)
{
    if (vectord->options.peer != NULL)
        tell(vectord, LH_NOTE_UPLOAD, index->name, "", 0);
}

void lh__remote_mark_gone(const struct lh_vectord *vectord, struct lh_job *job, const char *name,
                          const uint8_t uuid[16])
{
    static const uint8_t nobody[16];
    char text[LH_LHV1_UUID_CHARS + 1];
    if (!vectord->peer.may_have)
        return;
    /* While no peer is asked, no tombstone goes, and one a name is enough. */
    lh_lhv1_uuid_text(vectord->options.peer != NULL ? uuid : nobody, text);
    snprintf(job->gone_path, sizeof job->gone_path, LH_LHV1_FOLDER "/%s.%s" LH_GONE_SUFFIX, name,
             text);
}

void lh__remote_removed(struct lh_vectord *vectord, const struct lh_job *job)
{
    char name[LH_NAME_BYTES_MAX + 1];
    if (job->status != LH_OK || job->gone_path[0] == '\0' || vectord->options.peer == NULL)
        return;
    struct lh_str found = lh_gone_name(job->gone_path + sizeof LH_LHV1_FOLDER);
    snprintf(name, sizeof name, "%.*s", LH_STR_FMT(found));
    tell(vectord, LH_NOTE_DELETE, name, job->gone_path, 0);
}

/* ---- what it has ---- */

static bool is_expected(const struct lh_index *index)
{
    return index != NULL && index->is_remote &&
           (index->state == LH_STATE_ARRIVING || index->state == LH_STATE_FAILED);
}

static void withdraw(struct lh_vectord *vectord, struct lh_index *index)
{
    lh__index_withdraw(vectord, index);
    lh__index_free(index);
}

/* Its object could not be had; the peer's actor tries again. */
static void refuse(struct lh_vectord *vectord, struct lh_index *index, const char *reason)
{
    snprintf(index->reason, sizeof index->reason, "from the storaged peer: %.120s", reason);
    if (index->state == LH_STATE_FAILED)
        return; /* no news */
    index->state = LH_STATE_FAILED;
    lh_log_line(vectord->options.log, LH_LOG_ERROR,
                "an index could not be had from the storaged peer: it is tried again",
                LH_LOG_TEXT("index", index->name), LH_LOG_TEXT("reason", reason));
}

static void expect(struct lh_vectord *vectord, const struct lh_peer_object *object)
{
    struct lh_index_params params = {0};
    struct lh_index *index = lh__vectord_find(vectord, object->name);
    if (index == NULL && vectord->index_count < LH_INDEXES_MAX) {
        memcpy(params.name, object->name, sizeof params.name);
        index = lh__index_make(vectord, &params);
        if (index == NULL || lh__index_insert(vectord, index) != LH_OK) {
            lh_log_line(vectord->options.log, LH_LOG_ERROR, "not enough memory to load an index",
                        LH_LOG_TEXT("index", object->name));
            lh__index_free(index);
            return;
        }
        index->state = LH_STATE_ARRIVING;
        index->is_remote = true;
    }
    if (is_expected(index))
        tell(vectord, LH_NOTE_DOWNLOAD, object->name, "", object->bytes);
}

static int compare_objects(const void *a, const void *b)
{
    const struct lh_peer_object *one = a;
    const struct lh_peer_object *other = b;
    return strcmp(one->name, other->name);
}

static void take_list(struct lh_vectord *vectord, const struct lh_peer_note *note)
{
    struct lh_peer_object key = {0};
    vectord->peer.is_listed = true;
    for (uint32_t i = vectord->index_count; i-- > 0;) {
        struct lh_index *index = vectord->indexes[i];
        memcpy(key.name, index->name, sizeof key.name);
        if (is_expected(index) &&
            (note->object_count == 0 ||
             bsearch(&key, note->objects, note->object_count, sizeof key, compare_objects) == NULL))
            withdraw(vectord, index); /* the peer does not have it any more */
    }
    for (uint32_t i = 0; i < note->object_count; i++)
        expect(vectord, &note->objects[i]);
}

static void take_note(struct lh_vectord *vectord, struct lh_peer_note *note)
{
    struct lh_index *index = lh__vectord_find(vectord, note->name);
    switch (note->kind) {
    case LH_NOTE_LISTED:
        take_list(vectord, note);
        break;
    case LH_NOTE_REFUSED:
        if (is_expected(index))
            refuse(vectord, index, note->error.text);
        break;
    case LH_NOTE_GONE:
        if (is_expected(index))
            withdraw(vectord, index);
        break;
    case LH_NOTE_UNLISTED:
        break; /* its actor has logged it */
    default:
        assert(!"a note that is not for vectord");
    }
    lh__remote_publish(vectord);
    lh_peer_note_destroy(note);
}

void lh__remote_note(struct lh_vectord *vectord, struct lh_peer_note *note)
{
    if (is_stopping(vectord)) {
        lh_peer_note_destroy(note);
        return;
    }
    if (!vectord->recovering.is_on) {
        take_note(vectord, note);
        return;
    }
    /* What the log makes has its name before what the peer has. */
    lh_msg_queue_put(&vectord->peer.early, &note->head);
    lh__recover_advance(vectord);
}

void lh__remote_begin(struct lh_vectord *vectord)
{
    const struct lh_recovery *recovery = vectord->options.recovery;
    vectord->peer.may_have = vectord->options.peer != NULL || recovery->had_peer;
    if (vectord->options.peer == NULL)
        return;
    vectord->peer.is_fresh = recovery->file_count == 0 && recovery->log.records == 0;
    lh__remote_publish(vectord);
}

bool lh__remote_settle(struct lh_vectord *vectord)
{
    struct lh_msg *msg;
    if (vectord->options.peer == NULL)
        return true;
    if (vectord->peer.early.first == NULL)
        return false; /* the peer was not asked yet, or has not answered */
    while ((msg = lh_msg_queue_take(&vectord->peer.early)) != NULL)
        take_note(vectord, (struct lh_peer_note *)msg);
    return true;
}

/* ---- what comes ---- */

static void end_arrival(struct lh_vectord *vectord, struct lh_arrival *arrival, bool closes)
{
    if (closes)
        lh_disk_close(vectord->options.persister->options.disk, arrival->found.file);
    lh_lhv1_envelope_deinit(&arrival->found.envelope);
    lh_buf_deinit(&arrival->job.bytes);
    free(arrival);
}

/* LSNs of another log say nothing here: the file must not claim changes that this log is yet to
 * number. */
static enum lh_status lower_lsn(struct lh_vectord *vectord, struct lh_arrival *arrival)
{
    struct lh_lhv1_envelope *envelope = &arrival->found.envelope;
    if (envelope->version == 1 || envelope->lsn <= vectord->lsn)
        return LH_OK;
    envelope->lsn = vectord->lsn;
    return lh_lhv1_envelope_encode(envelope, &arrival->job.bytes);
}

static void discard(struct lh_vectord *vectord, struct lh_arrival *arrival)
{
    tell(vectord, LH_NOTE_DISCARD, arrival->found.name, arrival->job.paths.temp, 0);
    end_arrival(vectord, arrival, true);
}

void lh__remote_arrival(struct lh_vectord *vectord, struct lh_arrival *arrival)
{
    struct lh_index *index = lh__vectord_find(vectord, arrival->found.name);
    struct lh_index *other;
    char reason[LH_NAME_BYTES_MAX + 32];
    if (is_stopping(vectord)) {
        end_arrival(vectord, arrival, true); /* the next start removes what it brought */
        return;
    }
    if (!is_expected(index)) {
        discard(vectord, arrival);
        return;
    }
    bool is_dropped = lh__recover_identify(vectord, &arrival->found, &other);
    if (is_dropped) { /* deleted here, when the peer could not be told */
        tell(vectord, LH_NOTE_DELETE, index->name, "", 0);
        withdraw(vectord, index);
        discard(vectord, arrival);
    } else if (other != NULL) {
        snprintf(reason, sizeof reason, "it is index \"%s\" by another name", other->name);
        refuse(vectord, index, reason);
        discard(vectord, arrival);
    } else if (lower_lsn(vectord, arrival) != LH_OK) {
        refuse(vectord, index, "not enough memory");
        discard(vectord, arrival);
    } else {
        index->state = LH_STATE_ARRIVING;
        index->is_remote = false;       /* from here on, no note is about it */
        vectord->recovering.removals++; /* a stop waits for it */
        arrival->job.kind = LH_JOB_ADOPT;
        lh__vectord_send_job(vectord, &arrival->job);
    }
    lh__remote_publish(vectord);
}

void lh__remote_adopted(struct lh_vectord *vectord, struct lh_job *job)
{
    struct lh_arrival *arrival = (struct lh_arrival *)job;
    struct lh_index *index = lh__vectord_find(vectord, arrival->found.name);
    assert(index != NULL && index->state == LH_STATE_ARRIVING && !index->is_remote);
    vectord->recovering.removals--;
    if (job->status != LH_OK) {
        index->is_remote = true;
        refuse(vectord, index, job->error.text);
        discard(vectord, arrival);
    } else {
        withdraw(vectord, index);
        lh__recover_adopt(vectord, &arrival->found);
        if (arrival->found.envelope.version == 1) {
            arrival->next = vectord->peer.arrivals; /* its items are read from it yet */
            vectord->peer.arrivals = arrival;
        } else {
            end_arrival(vectord, arrival, false);
        }
    }
    lh__remote_publish(vectord);
}

void lh__remote_deinit(struct lh_vectord *vectord)
{
    struct lh_msg *msg;
    while ((msg = lh_msg_queue_take(&vectord->peer.early)) != NULL)
        lh_peer_note_destroy((struct lh_peer_note *)msg);
    while (vectord->peer.arrivals != NULL) {
        struct lh_arrival *arrival = vectord->peer.arrivals;
        vectord->peer.arrivals = arrival->next;
        end_arrival(vectord, arrival, false);
    }
}
