/* What vectord asks of shards: the parts of a request, one a shard, or of a search one a worker,
 * gathered when all are back.
 *
 * A part belongs to its request, which lives until every part is back; a worker only fills it in.
 */
#ifndef LH_SHARDS_PARTS_H
#define LH_SHARDS_PARTS_H

#include "runtime/actor.h"
#include "shards/section.h"
#include "store/disk.h"

enum lh_part_kind {
    LH_PART_CREATE,  /* makes the shard: fills `shard` */
    LH_PART_DROP,    /* destroys it; nothing else is in flight for it */
    LH_PART_RESERVE, /* promises `room` */
    LH_PART_ADD,     /* applies items out of promised room; cannot fail */
    LH_PART_DELETE,  /* deletes ids */
    LH_PART_SEARCH,  /* answers queries */
    LH_PART_GET,     /* answers one item */
    LH_PART_PAGE,    /* answers items in node order */
    LH_PART_FREEZE,  /* keeps the shard as it is now for a checkpoint: makes `section`'s writer */
    LH_PART_STREAM,  /* sends what was frozen to the persister, then lets it go */
    LH_PART_THAW,    /* lets it go without sending it */
    LH_PART_LOAD     /* reads the shard from a file: fills `shard` */
};

/* Bytes of a section on their way to the persister. */
struct lh_block {
    struct lh_msg head;
    struct lh_part *part;
    struct lh_disk_op op;
    struct lh_disk_op sync; /* behind `op` now and then */
    void *bytes;
};

_Static_assert(offsetof(struct lh_block, head) == 0, "a block is a message");

#define LH_MSG_BLOCK 2u

#define LH_SECTION_BLOCKS 2u /* one is filled while the other is written */
/* Written at once: long enough for a disk, short for a search. */
#define LH_SECTION_BLOCK_BYTES (128u << 10)

/* One shard's section on its way into a file or out of it. */
struct lh_section_job {
    struct lh_disk *disk; /* LOAD: the worker reads by itself */
    int file;
    uint64_t offset;  /* of the section in the file */
    uint64_t length;  /* FREEZE fills it in */
    uint64_t xxh3;    /* LOAD: expected; STREAM fills it in */
    uint32_t count;   /* FREEZE fills it in */
    uint64_t rest_ns; /* STREAM: behind each block, while the worker is asked to read */
    uint64_t at;      /* bytes that have been read or handed over */
    struct lh_section_writer *writer;
    struct lh_section_loader *loader;
    void *hash;                 /* STREAM: of the bytes so far */
    struct lh_actor *worker;    /* STREAM: where blocks come back to */
    struct lh_actor *persister; /* STREAM: who writes them */
    struct lh_block blocks[LH_SECTION_BLOCKS];
    uint32_t blocks_out;
    bool is_parked; /* STREAM: every block is out; the part waits for one */
    struct lh_error error;
};

struct lh_part {
    struct lh_msg head; /* type is LH_MSG_PART; lane by kind */
    enum lh_part_kind kind;
    enum lh_status status;
    bool is_discard; /* DROP of a shard that no index has any more */
    struct lh_shard *shard;
    uint32_t number;               /* which of the index's shards */
    void *request;                 /* whose part this is: the gatherer's business */
    void *index;                   /* and of which index */
    struct lh_actor *home;         /* where it goes back to */
    uint64_t deadline_ns;          /* a search past it is skipped with LH_DEADLINE; 0: none */
    struct lh_graph_options graph; /* CREATE */
    /* ADD, DELETE: items numbers[0..count) of batch; SEARCH: all queries of batch; GET: item 0. */
    const struct lh_batch *batch;
    const uint64_t *hashes;
    const uint32_t *numbers;
    uint32_t count;
    uint32_t done; /* how many the worker has finished: a large part is worked off in steps */
    struct lh_shard_room room; /* RESERVE: asked; ADD: what was not needed */
    struct lh_shard_counts counts;
    /* SEARCH: the shards to search as one, `shard` first; all on the worker that gets the part. */
    struct lh_shard **shards;
    uint32_t shards_here;
    struct lh_search search;
    uint32_t node;  /* PAGE: from here, and behind the last */
    uint32_t limit; /* PAGE */
    struct lh_found_options options;
    struct lh_found_list found;
    struct lh_section_job *section; /* FREEZE, STREAM, THAW, LOAD: the asker's */
    uint32_t *ends;                 /* SEARCH: ends[i] is how many of `found` answer queries 0..i */
    uint32_t shard_count;           /* state of the shard afterwards, for the index's info */
    uint64_t shard_bytes;
};

_Static_assert(offsetof(struct lh_part, head) == 0, "a part is a message");

/* The type of every part's message; other message types are above it. */
#define LH_MSG_PART 1u

#endif
