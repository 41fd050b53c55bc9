/* A graph's tables, frozen and read out while the graph changes, and read back in.
 *
 * What cannot be computed again is kept: levels, links, vectors. Codes, norms, in-degrees and free
 * slots are derived from them when a graph is loaded, backlinks when it is changed; so what they
 * look like may change from one version to the next. Single-owner, as the graph is. */
#ifndef LH_HNSW_SNAPSHOT_H
#define LH_HNSW_SNAPSHOT_H

#include "hnsw/graph.h"

/* In the order in which they are read: what changes most comes early, so that little of it must be
 * put aside. docs/FORMAT.md has their bytes. */
enum lh_graph_table {
    LH_TABLE_LEVELS,  /* a byte a slot */
    LH_TABLE_CHECKED, /* a byte a slot */
    LH_TABLE_LINKS,   /* level-0 links, whole cache lines a slot */
    LH_TABLE_UPPER,   /* upper links, whole cache lines a level, in slot order */
    LH_TABLE_ROWS,    /* float32 vectors, packed */
    LH_GRAPH_TABLES
};

/* What the tables' bytes do not say. */
struct lh_graph_shape {
    uint32_t slots;
    uint32_t live;
    uint32_t upper_blocks; /* sum of the slots' levels */
    uint32_t entry;        /* UINT32_MAX when no node is live */
    float norm_scale;      /* of codes: brings norms near 1 */
};

/* Bytes of a table of a graph of this shape and of `graph`'s options. */
uint64_t lh_graph_table_bytes(const struct lh_graph *graph, const struct lh_graph_shape *shape,
                              enum lh_graph_table table);

/* ---- out ---- */

struct lh_snapshot;

/* Freezes the graph as it is now, in constant time; one at a time a graph. */
LH_MUST_USE enum lh_status lh_snapshot_begin(struct lh_graph *graph, struct lh_snapshot **snapshot);

const struct lh_graph_shape *lh_snapshot_shape(const struct lh_snapshot *snapshot);
const struct lh_graph_options *lh_snapshot_options(const struct lh_snapshot *snapshot);

/* Reads on in the current table, LH_TABLE_LEVELS at first: up to `len` bytes and 65,536 nodes.
 * `*is_done` when the table is at its end; the next call then reads the next table. */
size_t lh_snapshot_read(struct lh_snapshot *snapshot, void *bytes, size_t len, bool *is_done);

/* Whether a slot below shape.slots held a node. All levels have been read. */
bool lh_snapshot_is_live(const struct lh_snapshot *snapshot, uint32_t slot);

/* Memory ran out while something was put aside: what is read from here on is not the frozen state.
 */
bool lh_snapshot_failed(const struct lh_snapshot *snapshot);

/* Gives back some of the memory that is not needed any more; once a slice. */
void lh_snapshot_release(struct lh_snapshot *snapshot);

uint64_t lh_snapshot_bytes(const struct lh_snapshot *snapshot); /* that images took */

void lh_snapshot_end(struct lh_snapshot *snapshot);

/* ---- in ---- */

/* A graph being loaded: tables are filled, then checked and indexed node by node. Until all of it
 * is done, the graph is good for nothing but lh_graph_is_live (once the levels are there) and
 * lh_graph_destroy. */
struct lh_graph_load {
    struct lh_graph *graph;
    struct lh_graph_shape shape;
    int stage;
    uint32_t node;
    uint32_t live;
    uint32_t blocks;
    uint32_t listed; /* copies that a linked node leads to */
    uint32_t in_list;
};

/* Takes the memory of `shape` in an empty graph. The caller has seen that the bytes are there. */
LH_MUST_USE enum lh_status lh_graph_load_begin(struct lh_graph *graph,
                                               const struct lh_graph_shape *shape,
                                               struct lh_graph_load *load, struct lh_error *error);

/* Where a table's bytes go. */
void *lh_graph_load_table(struct lh_graph_load *load, enum lh_graph_table table);

/* The tables before LH_TABLE_ROWS are there, and so many bytes of it: does what needs a node's row,
 * which lh_graph_load_step would do later, while that is in the cache. After an error there is no
 * next step. */
LH_MUST_USE enum lh_status lh_graph_load_rows(struct lh_graph_load *load, uint64_t bytes,
                                              struct lh_error *error);

/* Checks and indexes up to `nodes` nodes. LH_CORRUPT names the first that is wrong; no bytes,
 * whatever they are, lead to anything else. */
LH_MUST_USE enum lh_status lh_graph_load_step(struct lh_graph_load *load, uint32_t nodes,
                                              bool *is_done, struct lh_error *error);

#endif
