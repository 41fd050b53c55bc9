/* Groups of the log: records gather in one while another is written, and stay in it until they are
 * synced, because they may have to be written anew. Runs on the thread that owns the disk.
 *
 * Invariant: `groups` holds the records above synced_lsn in the order of their LSNs, without holes;
 * held_bytes is what they take. */
#include "store/wal_internal.h"

#include <assert.h>
#include <stdlib.h>

static struct lh__wal_group *take_group(struct lh_wal *wal)
{
    struct lh__wal_group *group = wal->free_groups;
    if (group != NULL) {
        wal->free_groups = group->next;
        wal->free_count--;
    } else {
        group = calloc(1, sizeof *group);
        if (group == NULL)
            return NULL;
    }
    group->next = NULL;
    group->wants_sync = false;
    group->bytes.len = 0;
    group->first_lsn = group->last_lsn = 0;
    if (wal->last_group != NULL)
        wal->last_group->next = group;
    else
        wal->groups = group;
    wal->last_group = group;
    if (wal->unwritten == NULL)
        wal->unwritten = group;
    return group;
}

/* Two are kept: one is written while the other gathers. */
static void give_group(struct lh_wal *wal, struct lh__wal_group *group)
{
    wal->held_bytes -= group->bytes.len;
    if (wal->free_count < 2 && group->bytes.cap <= LH_WAL_HELD_BYTES_MAX) {
        group->next = wal->free_groups;
        wal->free_groups = group;
        wal->free_count++;
    } else {
        lh_buf_deinit(&group->bytes);
        free(group);
    }
}

/* The groups whose last record is synced go. */
void lh__wal_groups_drop_synced(struct lh_wal *wal)
{
    while (wal->groups != NULL && wal->groups != wal->unwritten) {
        struct lh__wal_group *group = wal->groups;
        assert(group->last_lsn <= wal->synced_lsn);
        wal->groups = group->next;
        if (wal->groups == NULL)
            wal->last_group = NULL;
        give_group(wal, group);
    }
}

/* Cuts the records above `lsn` off the group; LSNs in it are consecutive. */
static void cut_group(struct lh_wal *wal, struct lh__wal_group *group, uint64_t lsn)
{
    size_t at = 0;
    for (uint64_t i = group->first_lsn; i <= lsn && at < group->bytes.len; i++) {
        struct lh__wal_record record;
        memcpy(&record, group->bytes.ptr + at, sizeof record);
        assert(record.lsn == i);
        at += lh__wal_record_size(record.length);
    }
    wal->held_bytes -= group->bytes.len - at;
    group->bytes.len = at;
    group->last_lsn = lsn;
}

/* Keeps the records up to `lsn`, all of them to be written anew. */
void lh__wal_groups_keep(struct lh_wal *wal, uint64_t lsn)
{
    struct lh__wal_group **link = &wal->groups;
    wal->last_group = NULL;
    while (*link != NULL) {
        struct lh__wal_group *group = *link;
        if (group->bytes.len == 0 || group->first_lsn > lsn) {
            *link = group->next;
            give_group(wal, group);
            continue;
        }
        if (group->last_lsn > lsn)
            cut_group(wal, group, lsn);
        wal->last_group = group;
        link = &group->next;
    }
    wal->unwritten = wal->groups;
    wal->gathering = NULL;
}

enum lh_status lh__wal_gather(struct lh_wal *wal, struct lh_wal_entry *entry)
{
    size_t payload = lh_record_bytes(entry->record);
    size_t size = lh__wal_record_size(payload);
    struct lh__wal_record head = {.length = (uint32_t)payload, .lsn = wal->last_lsn + 1};
    struct lh__wal_group *group = wal->gathering;
    enum lh_status status;
    size_t begin;
    if (payload > LH_RECORD_BYTES_MAX)
        return LH_LIMIT_EXCEEDED;
    /* Groups that fit a segment keep segments at their size. */
    if (group == NULL || (group->bytes.len > 0 && group->bytes.len + size + LH__WAL_HEADER_BYTES >
                                                      wal->options.segment_bytes))
        group = take_group(wal);
    if (group == NULL)
        return LH_OUT_OF_MEMORY;
    wal->gathering = group;
    begin = group->bytes.len;
    if (lh_buf_reserve(&group->bytes, size) != LH_OK)
        return LH_OUT_OF_MEMORY;
    lh_buf_append(&group->bytes, &head, sizeof head);
    status = lh_record_encode(entry->record, &group->bytes);
    assert(status == LH_OK && group->bytes.len == begin + sizeof head + payload);
    memset(group->bytes.ptr + group->bytes.len, 0, begin + size - group->bytes.len);
    group->bytes.len = begin + size;
    wal->held_bytes += size;
    group->first_lsn = begin == 0 ? head.lsn : group->first_lsn;
    group->last_lsn = wal->last_lsn = entry->record->lsn = head.lsn;
    group->wants_sync |= entry->durability == LH_DURABILITY_COMMIT;
    return status;
}

/* Fills in what depends on where the records go. */
void lh__wal_group_seal(struct lh_wal *wal, struct lh__wal_group *group)
{
    struct lh__wal_segment *segment = wal->current;
    assert(segment->synced / LH__WAL_SYNCED_UNIT <= UINT32_MAX);
    for (size_t at = 0; at < group->bytes.len;) {
        char *bytes = group->bytes.ptr + at;
        struct lh__wal_record head;
        size_t size;
        memcpy(&head, bytes, sizeof head);
        size = lh__wal_record_size(head.length);
        head.chain = segment->chain;
        head.synced = (uint32_t)(segment->synced / LH__WAL_SYNCED_UNIT);
        memcpy(bytes, &head, sizeof head);
        segment->chain =
            wal->crc->extend(segment->crc, bytes + sizeof head.crc, size - sizeof head.crc);
        memcpy(bytes, &segment->chain, sizeof head.crc);
        at += size;
    }
}

void lh__wal_groups_deinit(struct lh_wal *wal)
{
    lh__wal_groups_keep(wal, 0);
    while (wal->free_groups != NULL) {
        struct lh__wal_group *next = wal->free_groups->next;
        lh_buf_deinit(&wal->free_groups->bytes);
        free(wal->free_groups);
        wal->free_groups = next;
    }
}
