/* What the files of this folder share: the graph's tables and their accessors. */
#ifndef LH_HNSW_GRAPH_INTERNAL_H
#define LH_HNSW_GRAPH_INTERNAL_H

#include "base/limits.h"
#include "hnsw/graph.h"
#include "hnsw/kernels.h"
#include "hnsw/pool.h"
#include <assert.h>

#define LH__NIL        0xffffffffu /* an unused link, no node */
#define LH__SIGN_WORDS 8u          /* 512 sign bits a node */

#define LH__SIGN_BITS       (LH__SIGN_WORDS * 64u)
#define LH__SIGN_LIMITS     1024u /* steps of the Hamming threshold over distances 0..2 */
#define LH__FLAT_DIMENSIONS 16u   /* up to here a float32 row is no longer than a cache line */
#define LH__WALKS           4u    /* searches in step; more gained nothing, fewer wait */
#define LH__LEVEL_MAX       30u
#define LH__TOUCH_EVERY     16u
#define LH__LEVEL_FREE      0x80u           /* top bit of a level: the slot is free */
#define LH__LEVEL_COPY      0x40u           /* next bit: not linked, but a copy of one that is */
#define LH__CANDIDATES_MAX  (4u * LH_M_MAX) /* of one pruning or repair */

/* Level-0 links that point to a node. */
struct lh__incoming {
    uint32_t leading_up; /* the order (lh__leads_up): they keep it reachable from the entry point */
    uint32_t backlinks;  /* list of those that it does not return; backlinks.c */
};

/* What is there of a list of backlinks that is no block. */
#define LH__BACKLINKS_NONE 0u
#define LH__BACKLINKS_LOST 0xffffffffu
#define LH__BACKLINK_SIZES 128u

#define LH__BACKLINK_UNIT_BYTES 8u /* of the smallest block */

/* A linked node in the hash table of copies.c. */
struct lh__hashed {
    uint32_t next; /* in its bucket */
    uint32_t hash;
};

/* Everything about a node stands in tables indexed by its number, or in the three at the end, each
 * one mapping that grows in place or moves as a whole. A slot keeps its level, and so its blocks of
 * upper links, for ever: levels are drawn independently of vectors, so a reused slot is as good as
 * a fresh one. */
struct lh__tables {
    float *rows;     /* dimension a node, as they went in */
    int8_t *codes;   /* code_bytes a node */
    uint64_t *signs; /* LH__SIGN_WORDS a node, when the prefilter is on */
    float *weights;  /* scaled norms, when the metric is LH__WEIGHTED */
    float *norms;    /* of rows */
    uint32_t *links; /* links_stride a node: level 0, unused ones LH__NIL at the end */
    struct lh__incoming *incoming; /* derived from links */
    uint8_t *checked;              /* how long a prefix of links was chosen against one another */
    uint8_t *levels;               /* and LH__LEVEL_FREE */
    uint32_t *upper_at;            /* first block of upper links, LH__NIL when the level is 0 */
    uint32_t *buckets;             /* first node of a bucket, as many buckets as slots; copies.c */
    struct lh__hashed *hashed;     /* of a linked node */
    uint32_t *copies;              /* of a linked node: its first copy; of a copy: the next one */
    uint8_t *visited[LH__WALKS];   /* equals the walk's epoch: seen by its search */

    uint32_t *upper;           /* blocks of upper_stride links */
    uint32_t *upper_backlinks; /* a word a block of upper links */
    uint32_t *backlinks;       /* blocks of backlinks.c */
};
#define LH__TABLES      (sizeof(struct lh__tables) / sizeof(void *))
#define LH__NODE_TABLES (LH__TABLES - 3)

/* One search of one level: its query, its candidates, and the links read but not compared yet. */
struct lh__walk {
    struct lh__query query;
    struct lh__pool pool;
    uint8_t *visited;
    uint8_t epoch;
    uint32_t ef;    /* candidates are expanded among the best `ef` ... */
    float limit;    /* ... and, behind those, when they are nearer than this */
    uint32_t taken; /* how many of the pool are among the nearest of several graphs */
    uint32_t at;    /* no candidate before it is unexpanded */
    uint32_t count; /* of `nodes` */
    uint32_t nodes[2 * LH_M_MAX];
};

/* A change of a list of backlinks that waits until its memory has come into the cache. */
struct lh__backlink_change {
    uint32_t node;
    uint32_t from;
    uint8_t level;
    bool is_put;
};

#define LH__BACKLINK_CHANGES 64u /* that wait at once */

struct lh_snapshot;

struct lh_graph {
    struct lh__tables t;
    const struct lh__kernels *kernels;

    /* Shape, fixed at creation. */
    enum lh__metric metric;
    bool filtered; /* sign bits before codes */
    uint32_t code_bytes;
    uint32_t m;
    uint32_t links_stride; /* 2m in whole cache lines */
    uint32_t upper_stride; /* m in whole cache lines */
    float square;          /* LH__WEIGHTED: 1 for euclidean, 0 for dot */
    float code_scale;      /* a unit vector's coordinate as a code */
    float slope;           /* a product of codes as a product of coordinates */
    float alpha;
    uint32_t beam_width; /* pool of a construction search */
    struct lh_graph_options options;

    /* State. */
    float norm_scale; /* brings norms near 1; 0 until a vector with a norm came */
    uint32_t capacity;
    uint32_t upper_capacity; /* in blocks */
    uint32_t upper_used;
    uint32_t backlinks_capacity; /* in units of blocks */
    uint32_t backlinks_used;
    uint32_t backlinks_known; /* the one-way links of nodes below are in the lists */
    uint32_t backlinks_free[LH__BACKLINK_SIZES];
    struct lh__backlink_change backlink_changes[LH__BACKLINK_CHANGES];
    uint32_t backlink_changes_count;
    uint32_t slots;
    uint32_t live;
    uint32_t copies; /* of `live`, not linked */
    uint32_t free_head;
    uint32_t free_count;
    uint32_t entry;               /* LH__NIL when empty */
    uint32_t entry_links;         /* level-0 links to it */
    struct lh_snapshot *snapshot; /* NULL when none is being read */
    struct lh_graph_stats stats;

    /* Scratch. */
    struct lh__walk walks[LH__WALKS];
    float *work;        /* one row, rotated */
    int8_t *query_code; /* one code */
    uint32_t *rotation; /* random signs */
    struct lh_hit *reranked;
    uint32_t reranked_room;
    uint64_t query_signs[LH__SIGN_WORDS];
    uint16_t sign_limits[LH__SIGN_LIMITS + 1]; /* by cosine distance */
    size_t mapped[LH__TABLES];
    size_t touched[LH__TABLES]; /* bytes whose pages are there, where they are huge */
};

static inline uint32_t lh__level(const struct lh_graph *graph, uint32_t node)
{
    return graph->t.levels[node] & (LH__LEVEL_COPY - 1u);
}

/* Live and no copy. */
static inline bool lh__is_linked(const struct lh_graph *graph, uint32_t node)
{
    return (graph->t.levels[node] & (LH__LEVEL_FREE | LH__LEVEL_COPY)) == 0;
}

static inline bool lh__is_copy(const struct lh_graph *graph, uint32_t node)
{
    return (graph->t.levels[node] & (LH__LEVEL_FREE | LH__LEVEL_COPY)) == LH__LEVEL_COPY;
}

static inline uint32_t *lh__links(const struct lh_graph *graph, uint32_t node, uint32_t level)
{
    if (level == 0) {
        return graph->t.links + (size_t)node * graph->links_stride;
    }
    return graph->t.upper + (size_t)(graph->t.upper_at[node] + level - 1) * graph->upper_stride;
}

static inline uint32_t lh__links_max(const struct lh_graph *graph, uint32_t level)
{
    return level == 0 ? 2 * graph->m : graph->m;
}

/* Whole cache lines of links, without a branch for each. */
#define LH__LINE_LINKS 16u

static inline uint32_t lh__links_stride(const struct lh_graph *graph, uint32_t level)
{
    return level == 0 ? graph->links_stride : graph->upper_stride;
}

static inline uint32_t lh__links_count(const struct lh_graph *graph, const uint32_t *links,
                                       uint32_t level)
{
    const uint32_t *end = links + lh__links_stride(graph, level);
    uint32_t unused = 0;
    for (const uint32_t *line = links; line < end; line += LH__LINE_LINKS) {
        for (uint32_t i = 0; i < LH__LINE_LINKS; i++) {
            unused += line[i] == LH__NIL;
        }
    }
    return lh__links_stride(graph, level) - unused;
}

/* The order of nodes on level 0: the entry point, then by number. */
static inline bool lh__leads_up(const struct lh_graph *graph, uint32_t from, uint32_t to)
{
    return from < to || from == graph->entry;
}

static inline void lh__count_link(struct lh_graph *graph, uint32_t from, uint32_t to, uint32_t by)
{
    graph->t.incoming[to].leading_up += lh__leads_up(graph, from, to) ? by : 0;
    graph->entry_links += to == graph->entry ? by : 0;
}

/* Whether the links to a node leave it unreachable; one that is alone is meant to be. */
static inline bool lh__is_cut_off(const struct lh_graph *graph, uint32_t node)
{
    return (node == graph->entry ? graph->entry_links : graph->t.incoming[node].leading_up) == 0;
}

static inline const float *lh__row(const struct lh_graph *graph, uint32_t node)
{
    return graph->t.rows + (size_t)node * graph->options.dimension;
}

/* A code, its sign bits and its weight as a query. */
static inline struct lh__query lh__query_make(const struct lh_graph *graph, const int8_t *code,
                                              const uint64_t *signs, float weight)
{
    struct lh__query query = {code, signs, 1.0f, graph->slope};
    if (graph->metric == LH__WEIGHTED) {
        query.base = graph->square * weight * weight;
        query.slope = (1.0f + graph->square) * weight * graph->slope;
    } else if (graph->options.distance != LH_DISTANCE_COSINE) {
        query.base = 0.0f;
    }
    return query;
}

static inline struct lh__query lh__query_of(const struct lh_graph *graph, uint32_t node)
{
    return lh__query_make(graph, graph->t.codes + (size_t)node * graph->code_bytes,
                          graph->filtered ? graph->t.signs + (size_t)node * LH__SIGN_WORDS : NULL,
                          graph->metric == LH__WEIGHTED ? graph->t.weights[node] : 1.0f);
}

/* snapshot.c: what is about to change and has not been read yet is put aside. */
void lh__snapshot_put_links(struct lh_snapshot *snapshot, uint32_t node);
void lh__snapshot_put_row(struct lh_snapshot *snapshot, uint32_t node);

/* Comes before every change of a node's links, on any level, of its checked prefix, or of the bits
 * beside its level. */
static inline void lh__touch_links(struct lh_graph *graph, uint32_t node)
{
    if (__builtin_expect(graph->snapshot != NULL, 0)) {
        lh__snapshot_put_links(graph->snapshot, node);
    }
}

/* Comes before every change of a node's row. */
static inline void lh__touch_row(struct lh_graph *graph, uint32_t node)
{
    if (__builtin_expect(graph->snapshot != NULL, 0)) {
        lh__snapshot_put_row(graph->snapshot, node);
    }
}

/* tables.c: growth. */
LH_MUST_USE enum lh_status lh__tables_reserve(struct lh_graph *graph, uint32_t slots,
                                              uint32_t upper_blocks);
LH_MUST_USE enum lh_status lh__tables_reserve_backlinks(struct lh_graph *graph, uint32_t units);
void lh__tables_touch(struct lh_graph *graph); /* once in LH__TOUCH_EVERY new slots */
void lh__tables_release(struct lh_graph *graph);
uint64_t lh__tables_bytes(const struct lh_graph *graph);

/* codes.c: a row as code, sign bits, weight and norm. */
struct lh__encoded {
    int8_t *code;
    uint64_t *signs;
    float weight;
    float norm;
};
void lh__encode(const struct lh_graph *graph, const float *row, struct lh__encoded *encoded);
void lh__encode_node(struct lh_graph *graph, uint32_t node, const float *row);
void lh__encode_stored(struct lh_graph *graph, uint32_t node); /* from the row that it has */
void lh__codes_init(struct lh_graph *graph);
float lh__exact_distance(const struct lh_graph *graph, const float *query, float query_norm,
                         uint32_t node);

/* copies.c: nodes of equal codes. */
void lh__copies_grow(struct lh_graph *graph);
uint32_t lh__copies_find(const struct lh_graph *graph, uint32_t node);
uint32_t lh__copies_find_row(const struct lh_graph *graph, const float *row,
                             const struct lh__encoded *encoded);
bool lh__copies_same(const struct lh_graph *graph, uint32_t a, uint32_t b);
void lh__copies_insert(struct lh_graph *graph, uint32_t node);
/* The same in steps, for many nodes: the hash, which is kept; its bucket into the cache; the rest.
 */
void lh__copies_hash(struct lh_graph *graph, uint32_t node);
void lh__copies_prefetch(const struct lh_graph *graph, uint32_t node);
void lh__copies_put(struct lh_graph *graph, uint32_t node);
void lh__copies_erase(struct lh_graph *graph, uint32_t node);
void lh__copies_join(struct lh_graph *graph, uint32_t node, uint32_t linked);
void lh__copies_leave(struct lh_graph *graph, uint32_t node);
void lh__copies_promote(struct lh_graph *graph, uint32_t node);
uint32_t lh__copies_expand(const struct lh_graph *graph, const struct lh__pool *pool,
                           uint32_t least, uint32_t most, struct lh_hit *hits);

/* insert.c */
void lh__link(struct lh_graph *graph, uint32_t node);
void lh__link_group(struct lh_graph *graph, const uint32_t *nodes, uint32_t count);
void lh__walk_descend(struct lh_graph *graph, struct lh__walk *walk, uint32_t level, uint32_t ef);
void lh__walk_start_at(struct lh_graph *graph, struct lh__walk *walk, uint32_t node);

/* prune.c: one node's list of links. */
void lh__links_begin(struct lh_graph *graph, uint32_t node, uint32_t level,
                     const struct lh__selection *selection);
void lh__links_add(struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t other,
                   float distance);
void lh__links_repair(struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t gone);
void lh__links_drop(struct lh_graph *graph, uint32_t node);
void lh__links_rescue(struct lh_graph *graph, uint32_t node);
void lh__entry_set(struct lh_graph *graph, uint32_t entry);
bool lh__links_has(const struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t other);

static inline void lh__links_prefetch(const struct lh_graph *graph, uint32_t node, uint32_t level)
{
    const uint32_t *links = lh__links(graph, node, level);
    __builtin_prefetch(links);
    if (level == 0) {
        __builtin_prefetch(links + 16);
    }
}

/* backlinks.c: one-way links by their targets. A link from a node whose links are not known yet is
 * neither put nor erased; everything else is there once. Both are done, in order, by the end of
 * lh__backlinks_settle, which comes before anything else here. */
void lh__backlinks_put(struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t from);
void lh__backlinks_erase(struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t from);
void lh__backlinks_settle(struct lh_graph *graph);
void lh__backlinks_drop(struct lh_graph *graph, uint32_t node, uint32_t level);
/* The list, valid until the next put or erase. */
const uint32_t *lh__backlinks(const struct lh_graph *graph, uint32_t node, uint32_t level,
                              uint32_t *count);
/* Nodes from this one on may link to `node` without being in its list. */
uint32_t lh__backlinks_known(const struct lh_graph *graph, uint32_t node, uint32_t level);
/* Level-0 links to a node, whose links and those to it are in order; a pass over nodes whose links
 * are not known. */
uint32_t lh__backlinks_in_degree(const struct lh_graph *graph, uint32_t node);
/* Makes the links of so many further nodes known. */
void lh__backlinks_learn(struct lh_graph *graph, uint32_t nodes);
LH_MUST_USE enum lh_status lh__backlinks_validate(const struct lh_graph *graph,
                                                  struct lh_error *error);

/* remove.c */
void lh__unlink(struct lh_graph *graph, uint32_t node);

/* graph.c: for tests, with given kernels. */
LH_MUST_USE enum lh_status lh__graph_create(const struct lh_graph_options *options,
                                            const struct lh__kernels *kernels,
                                            struct lh_graph **graph);
uint32_t lh__level_of_slot(const struct lh_graph *graph, uint32_t slot);

#endif
