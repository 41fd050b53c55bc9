/* Start, the files: what each of an index is good for, and its way into the shards' memory. Runs on
 * vectord's thread.
 *
 * A file of version 2 is read by the workers, each its sections; one of version 1 is imported item
 * by item (vectord_recover.c); one that is broken is put aside and costs its own index only; one of
 * an index that the log says is deleted goes. */
#include "actors/vectord.h"

#include "base/clock.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

/* A version 1 file has no identity: it gets one from its name, the same at every start, so that
 * records that were logged for it before it became version 2 find it again. */
static const uuid_t v1_namespace = {0x5c, 0x1f, 0x0a, 0x7e, 0x3d, 0x42, 0x4b, 0x19,
                                    0x9e, 0x55, 0xd1, 0x6a, 0x20, 0x83, 0xc4, 0xf7};

static void load_file(struct lh_vectord *vectord, struct lh_found_file *found)
{
    const struct lh_lhv1_envelope *envelope = &found->envelope;
    uint32_t shards = envelope->params.shards;
    struct lh_index *index = lh__recover_add_index(vectord, &envelope->params);
    if (index == NULL)
        return;
    index->lsn = envelope->lsn;
    index->checkpoint_lsn = envelope->lsn;
    index->file_bytes =
        envelope->sections[shards - 1].offset + envelope->sections[shards - 1].length;
    struct lh_part *parts = calloc(shards, sizeof *parts);
    struct lh_section_job *sections = calloc(shards, sizeof *sections);
    if (parts == NULL || sections == NULL) {
        free(parts);
        free(sections);
        lh__recover_fail(vectord, index, "not enough memory to load it");
        return;
    }
    index->loading = (struct lh_loading){.parts = parts,
                                         .sections = sections,
                                         .file = found->file,
                                         .out = shards,
                                         .error = {.status = LH_OK}};
    vectord->recovering.loads++;
    index->in_flight++;
    for (uint32_t i = 0; i < shards; i++) {
        parts[i].head.type = LH_MSG_PART;
        parts[i].home = &vectord->actor;
        parts[i].index = index;
        parts[i].graph = index->graph;
        parts[i].section = &sections[i];
        sections[i] = (struct lh_section_job){.disk = vectord->options.persister->options.disk,
                                              .file = found->file,
                                              .offset = envelope->sections[i].offset,
                                              .length = envelope->sections[i].length,
                                              .xxh3 = envelope->sections[i].xxh3,
                                              .count = envelope->sections[i].count};
        lh__vectord_aim(&parts[i], LH_PART_LOAD, index, i);
        enum lh_status status = lh_actor_send(&index->shards[i].worker->actor, &parts[i].head);
        assert(status == LH_OK);
        (void)status;
    }
}

void lh__recover_give_up(struct lh_vectord *vectord, struct lh_index *index, const char *path,
                         const struct lh_error *error)
{
    snprintf(index->path, sizeof index->path, "%s", path);
    lh__recover_fail(vectord, index, error->text);
    if (error->status == LH_CORRUPT)
        index->unsaved_lsn = 0; /* without its file its changes are of no use */
    struct lh_job *job = error->status == LH_CORRUPT ? calloc(1, sizeof *job) : NULL;
    if (job == NULL)
        return;
    job->kind = LH_JOB_QUARANTINE;
    job->index = index;
    snprintf(job->paths.file, sizeof job->paths.file, "%s", path);
    snprintf(job->v1_path, sizeof job->v1_path, LH_LHV1_FOLDER "/%s.lhv1.corrupt-%" PRIu64,
             index->name, lh_clock_wall_ms() / 1000);
    snprintf(index->path, sizeof index->path, "%s", job->v1_path);
    vectord->recovering.removals++;
    lh__vectord_send_job(vectord, job);
}

static void give_up_file(struct lh_vectord *vectord, struct lh_index *index)
{
    struct lh_lhv1_paths paths;
    for (uint32_t i = 0; i < index->shard_count; i++) {
        struct lh_index_shard *shard = &index->shards[i];
        vectord->items -= shard->count;
        vectord->bytes -= shard->bytes;
        lh_shard_destroy(shard->shard); /* its worker has handed it over, and none has used it */
    }
    index->shard_count = 0;
    lh_lhv1_paths(index->name, &paths);
    lh__recover_give_up(vectord, index, paths.file, &index->loading.error);
}

void lh__recover_part_back(struct lh_vectord *vectord, struct lh_part *part)
{
    struct lh_index *index = part->index;
    struct lh_loading *loading = &index->loading;
    if (part->status == LH_OK && part->shard_count != part->section->count)
        part->status = lh_error_set(&part->section->error, LH_CORRUPT, "shard %u: %u items, not %u",
                                    part->number, part->shard_count, part->section->count);
    if (part->status != LH_OK && loading->error.status == LH_OK) {
        loading->error = part->section->error;
        loading->error.status = part->status;
    }
    if (--loading->out > 0)
        return;
    lh_disk_close(vectord->options.persister->options.disk, loading->file);
    free(loading->parts);
    free(loading->sections);
    index->in_flight--;
    vectord->recovering.loads--;
    if (loading->error.status != LH_OK) {
        give_up_file(vectord, index);
    } else {
        lh_recovery_note_file(vectord->options.recovery, index->uuid_bytes, index->lsn);
        lh__recover_ready_if_done(vectord, index);
    }
    lh__recover_advance(vectord);
}

static void take_v1(struct lh_vectord *vectord, struct lh_found_file *found)
{
    struct lh_index_params params = found->envelope.params;
    params.shards = vectord->options.default_shards;
    params.seed = ++vectord->seed;
    struct lh_index *index = lh__recover_add_index(vectord, &params);
    if (index == NULL)
        return;
    index->v1 = found->is_aside ? LH_V1_ASIDE : LH_V1_IN_PLACE;
    index->wants_checkpoint = true; /* as version 2, soon */
    index->import = found;
}

/* Deleted, and the server ended before the file was gone. */
static void remove_file(struct lh_vectord *vectord, struct lh_found_file *found, uint64_t drop_lsn)
{
    struct lh_index_params params = found->envelope.params;
    lh_disk_close(vectord->options.persister->options.disk, found->file);
    params.shards = 0;
    struct lh_index *index = lh__recover_add_index(vectord, &params);
    if (index == NULL)
        return;
    index->state = LH_STATE_DROPPING;
    index->unsaved_lsn = drop_lsn;
    lh__index_remove(vectord, index, NULL);
}

static void take_failed(struct lh_vectord *vectord, struct lh_found_file *found)
{
    struct lh_index_params params = found->envelope.params;
    memcpy(params.name, found->name, sizeof params.name);
    params.shards = 0;
    if (lh__vectord_find(vectord, found->name) != NULL)
        return;
    struct lh_index *index = lh__recover_add_index(vectord, &params);
    if (index == NULL)
        return;
    snprintf(index->path, sizeof index->path, "%s", found->path);
    lh__recover_fail(vectord, index, found->error.text);
    if (found->error.status == LH_CORRUPT)
        index->unsaved_lsn = 0;
}

static void identify_v1(struct lh_found_file *found)
{
    uuid_generate_sha1(found->envelope.params.uuid, v1_namespace, found->name, strlen(found->name));
}

void lh__recover_take_file(struct lh_vectord *vectord, struct lh_found_file *found)
{
    struct lh_index_params *params = &found->envelope.params;
    if (found->error.status != LH_OK) {
        take_failed(vectord, found);
        return;
    }
    if (found->envelope.version == 1)
        identify_v1(found);
    const struct lh_found_changes *changes =
        lh_recovery_changes(vectord->options.recovery, params->uuid);
    if (changes != NULL && changes->drop_lsn > found->envelope.lsn) {
        remove_file(vectord, found, changes->drop_lsn);
    } else if (found->envelope.version == 1) {
        take_v1(vectord, found);
    } else {
        load_file(vectord, found);
    }
}

/* ---- what comes later ---- */

bool lh__recover_identify(struct lh_vectord *vectord, struct lh_found_file *found,
                          struct lh_index **other)
{
    const uint8_t *uuid = found->envelope.params.uuid;
    if (found->envelope.version == 1)
        identify_v1(found);
    const struct lh_found_changes *changes = lh_recovery_changes(vectord->options.recovery, uuid);
    *other = lh__recover_find(vectord, uuid);
    return changes != NULL && changes->drop_lsn != 0;
}

void lh__recover_adopt(struct lh_vectord *vectord, struct lh_found_file *found)
{
    if (found->envelope.version == 1)
        take_v1(vectord, found);
    else
        load_file(vectord, found);
    struct lh_index *index = lh__vectord_find(vectord, found->name);
    if (index != NULL)
        index->replay_until = 0; /* the log has been read */
    lh__recover_advance(vectord);
}
