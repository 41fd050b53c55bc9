/* A graph out of tables that were read from a file. The owner of the graph runs it.
 *
 * Nothing in the tables is believed. Five passes over the nodes: levels and rows are checked, and
 * codes and free slots are made from them, as soon as a row has come; then links, in a pass that
 * touches little else, so that it stays in the cache, with the table of linked nodes; then
 * in-degrees get their place; then each copy is hung on the node that it names; then the lists of
 * copies are walked, as a circle of them would belong to no linked node.
 *
 * What a file may say although this graph would not: other levels than the seed draws, equal nodes
 * that are linked both, copies of what is not quite equal. Those are a matter of quality, and the
 * processor that made the file may have rounded in another way. */
#include "hnsw/snapshot.h"

#include "hnsw/graph_internal.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum stage { STAGE_NODES, STAGE_LINKS, STAGE_COUNTS, STAGE_COPIES, STAGE_LISTS, STAGE_DONE };

#define PREFETCH_NODES 16u /* ahead: longer than a miss takes */

static enum lh_status check_shape(const struct lh_graph_shape *shape, struct lh_error *error)
{
    if (shape->slots > LH_NODES_MAX || shape->live > shape->slots ||
        shape->upper_blocks > (uint64_t)shape->slots * LH__LEVEL_MAX) {
        return lh_error_set(error, LH_CORRUPT, "%u slots, %u nodes, %u blocks of upper links",
                            shape->slots, shape->live, shape->upper_blocks);
    }
    if (shape->live == 0 ? shape->entry != LH__NIL : shape->entry >= shape->slots) {
        return lh_error_set(error, LH_CORRUPT, "entry point %u of %u slots", shape->entry,
                            shape->slots);
    }
    if (!isfinite(shape->norm_scale) || shape->norm_scale < 0) {
        return lh_error_set(error, LH_CORRUPT, "norm scale %g", (double)shape->norm_scale);
    }
    return LH_OK;
}

enum lh_status lh_graph_load_begin(struct lh_graph *graph, const struct lh_graph_shape *shape,
                                   struct lh_graph_load *load, struct lh_error *error)
{
    assert(graph->slots == 0 && graph->snapshot == NULL);
    enum lh_status status = check_shape(shape, error);
    if (status != LH_OK) {
        return status;
    }
    if (lh__tables_reserve(graph, shape->slots, shape->upper_blocks) != LH_OK) {
        return lh_error_set(error, LH_OUT_OF_MEMORY, "no memory for %u slots", shape->slots);
    }
    *load = (struct lh_graph_load){.graph = graph, .shape = *shape, .stage = STAGE_NODES};
    graph->slots = shape->slots;
    graph->upper_used = shape->upper_blocks;
    graph->norm_scale = shape->norm_scale;
    if (shape->slots > 0) {
        memset(graph->t.buckets, 0xff, shape->slots * sizeof *graph->t.buckets);
    }
    return LH_OK;
}

void *lh_graph_load_table(struct lh_graph_load *load, enum lh_graph_table table)
{
    struct lh__tables *t = &load->graph->t;
    void *const tables[] = {t->levels, t->checked, t->links, t->upper, t->rows};
    _Static_assert(sizeof tables / sizeof *tables == LH_GRAPH_TABLES, "one a table");
    return tables[table];
}

/* ---- one node ---- */

static bool is_finite_row(const float *row, uint32_t dimension)
{
    uint32_t odd = 0;
    for (uint32_t i = 0; i < dimension; i++) {
        uint32_t bits;
        memcpy(&bits, row + i, sizeof bits);
        odd |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return odd == 0;
}

/* The norm of a row that is not finite is not either, and is kept as the largest number. */
static enum lh_status load_row(struct lh_graph *graph, uint32_t node, struct lh_error *error)
{
    lh__encode_stored(graph, node);
    float norm = graph->t.norms[node];
    if (norm == FLT_MAX && !is_finite_row(lh__row(graph, node), graph->options.dimension)) {
        return lh_error_set(error, LH_CORRUPT,
                            "node %u: its vector has a number that is not finite", node);
    }
    if (graph->options.distance == LH_DISTANCE_COSINE && norm == 0.0f) {
        return lh_error_set(error, LH_CORRUPT, "node %u: its vector is zero", node);
    }
    return LH_OK;
}

static bool is_linked_slot(const struct lh_graph *graph, uint32_t node)
{
    return node < graph->slots && lh__is_linked(graph, node);
}

static enum lh_status load_live(struct lh_graph_load *load, uint32_t node, struct lh_error *error)
{
    struct lh_graph *graph = load->graph;
    uint32_t level = lh__level(graph, node);
    if (load->live++ == load->shape.live) {
        return lh_error_set(error, LH_CORRUPT, "node %u: the header has %u nodes", node,
                            load->shape.live);
    }
    enum lh_status status = load_row(graph, node, error);
    if (lh__is_copy(graph, node)) {
        graph->copies++;
        return status;
    }
    if (status == LH_OK && level > lh__level(graph, graph->entry)) {
        return lh_error_set(error, LH_CORRUPT, "entry point %u stands below node %u", graph->entry,
                            node);
    }
    lh__copies_hash(graph, node);
    return status;
}

static enum lh_status load_node(struct lh_graph_load *load, uint32_t node, struct lh_error *error)
{
    struct lh_graph *graph = load->graph;
    uint8_t byte = graph->t.levels[node];
    uint32_t level = lh__level(graph, node);
    bool is_free = (byte & LH__LEVEL_FREE) != 0;
    if (level > LH__LEVEL_MAX || (is_free && (byte & LH__LEVEL_COPY) != 0) ||
        level > load->shape.upper_blocks - load->blocks) {
        return lh_error_set(error, LH_CORRUPT, "node %u: level byte 0x%02x", node, byte);
    }
    graph->t.upper_at[node] = level == 0 ? LH__NIL : load->blocks;
    load->blocks += level;
    if (!is_free) {
        return load_live(load, node, error);
    }
    *lh__links(graph, node, 0) = graph->free_head;
    graph->free_head = node;
    graph->free_count++;
    return LH_OK;
}

/* ---- links ---- */

/* Whether all of a node's links on level 0 are right, counted on the way: without a branch for
 * each, so that many are fetched at once. While links are counted, leading_up is the count of all,
 * and backlinks the mark of the last node with a link to this one, by which a link that is there
 * twice is found. */
static bool count_links(struct lh_graph *graph, uint32_t node, uint32_t count)
{
    const uint32_t *links = lh__links(graph, node, 0);
    const uint8_t *levels = graph->t.levels;
    struct lh__incoming *incoming = graph->t.incoming;
    uint32_t slots = graph->slots, mark = node + 1, wrong = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t other = links[i] < slots ? links[i] : node;
        struct lh__incoming in = incoming[other];
        wrong |= other == node;
        wrong |= levels[other] >= LH__LEVEL_COPY;
        wrong |= in.backlinks == mark;
        incoming[other] = (struct lh__incoming){in.leading_up + 1, mark};
    }
    return wrong == 0;
}

/* The same on upper levels, which are not counted and are few; marks need not be clear: each link
 * writes its place, and only the last to write reads it again. */
static bool links_are_right(struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t count)
{
    const uint32_t *links = lh__links(graph, node, level);
    const uint8_t *levels = graph->t.levels;
    uint8_t *marks = graph->t.visited[0];
    uint32_t slots = graph->slots, wrong = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t other = links[i] < slots ? links[i] : node;
        wrong |= other == node;
        wrong |= (uint8_t)(levels[other] - level) >= LH__LEVEL_COPY - level;
        marks[other] = (uint8_t)i;
    }
    for (uint32_t i = 0; i < count && wrong == 0; i++) {
        wrong |= marks[links[i]] != i;
    }
    return wrong == 0;
}

/* Names the first link that is wrong. */
static enum lh_status wrong_link(const struct lh_graph *graph, uint32_t node, uint32_t level,
                                 struct lh_error *error)
{
    const uint32_t *links = lh__links(graph, node, level);
    for (uint32_t i = 0;; i++) {
        uint32_t other = links[i];
        bool is_right =
            is_linked_slot(graph, other) && other != node && lh__level(graph, other) >= level;
        for (uint32_t j = 0; j < i; j++) {
            is_right = is_right && links[j] != other;
        }
        if (!is_right) {
            return lh_error_set(error, LH_CORRUPT, "node %u level %u: link %u to %u", node, level,
                                i, other);
        }
    }
}

static enum lh_status load_list(struct lh_graph *graph, uint32_t node, uint32_t level,
                                struct lh_error *error)
{
    const uint32_t *links = lh__links(graph, node, level);
    uint32_t count = lh__links_count(graph, links, level);
    uint32_t stride = lh__links_stride(graph, level);
    for (uint32_t i = count; i < stride; i++) {
        if (links[i] != LH__NIL) {
            return lh_error_set(error, LH_CORRUPT, "node %u level %u: a link behind the last", node,
                                level);
        }
    }
    bool is_right =
        level == 0 ? count_links(graph, node, count) : links_are_right(graph, node, level, count);
    if (!is_right) {
        return wrong_link(graph, node, level, error);
    }
    if (level == 0 && graph->t.checked[node] > count) {
        return lh_error_set(error, LH_CORRUPT, "node %u: checked prefix %u of %u links", node,
                            graph->t.checked[node], count);
    }
    return LH_OK;
}

/* Nodes come in order, so what has been counted when a node's turn comes is from those before it:
 * its links that lead up the order, but for one from the entry point. Waits in `copies`, which has
 * nothing else to keep yet. */
static void put_leading_up(struct lh_graph *graph, uint32_t node)
{
    graph->t.copies[node] = graph->t.incoming[node].leading_up;
}

static enum lh_status load_links(struct lh_graph *graph, uint32_t node, struct lh_error *error)
{
    enum lh_status status = LH_OK;
    uint32_t later = node + PREFETCH_NODES;
    if (is_linked_slot(graph, later)) {
        lh__copies_prefetch(graph, later);
    }
    if (lh__is_linked(graph, node)) {
        lh__copies_put(graph, node);
        for (uint32_t level = 0; level <= lh__level(graph, node) && status == LH_OK; level++) {
            status = load_list(graph, node, level, error);
        }
    }
    put_leading_up(graph, node);
    return status;
}

static void take_leading_up(struct lh_graph *graph, uint32_t node)
{
    struct lh__incoming *incoming = &graph->t.incoming[node];
    graph->entry_links = node == graph->entry ? incoming->leading_up : graph->entry_links;
    *incoming = (struct lh__incoming){graph->t.copies[node], LH__BACKLINKS_NONE};
    graph->t.copies[node] = LH__NIL;
}

/* All links of the entry point lead up: those to nodes before it as well. */
static void count_entry(struct lh_graph *graph)
{
    uint32_t entry = graph->entry;
    if (entry == LH__NIL) {
        return;
    }
    const uint32_t *links = lh__links(graph, entry, 0);
    for (uint32_t i = 0; i < lh__links_count(graph, links, 0); i++) {
        graph->t.incoming[links[i]].leading_up += links[i] < entry;
    }
}

/* Before the first node: the entry point is what others are compared with. */
static enum lh_status load_entry(struct lh_graph_load *load, struct lh_error *error)
{
    uint32_t entry = load->shape.entry;
    if (entry != LH__NIL && !is_linked_slot(load->graph, entry)) {
        return lh_error_set(error, LH_CORRUPT, "entry point %u is not linked", entry);
    }
    load->graph->entry = entry;
    return LH_OK;
}

static enum lh_status check_counts(struct lh_graph_load *load, struct lh_error *error)
{
    if (load->live != load->shape.live || load->blocks != load->shape.upper_blocks) {
        return lh_error_set(error, LH_CORRUPT,
                            "%u nodes and %u blocks of upper links where the header has %u and %u",
                            load->live, load->blocks, load->shape.live, load->shape.upper_blocks);
    }
    load->graph->live = load->live;
    return LH_OK;
}

/* The marks of searches are clear again. */
static void clear_marks(struct lh_graph *graph)
{
    if (graph->slots > 0) {
        memset(graph->t.visited[0], 0, graph->slots);
    }
}

/* ---- copies ---- */

/* A copy has one link: to the node before it in its list. */
static enum lh_status load_copy(struct lh_graph *graph, uint32_t node, struct lh_error *error)
{
    const uint32_t *links = lh__links(graph, node, 0);
    uint32_t before = links[0];
    bool bare = graph->t.checked[node] == 0;
    for (uint32_t i = 1; i < graph->links_stride; i++) {
        bare = bare && links[i] == LH__NIL;
    }
    for (uint32_t level = 1; level <= lh__level(graph, node); level++) {
        const uint32_t *upper = lh__links(graph, node, level);
        for (uint32_t i = 0; i < graph->upper_stride; i++) {
            bare = bare && upper[i] == LH__NIL;
        }
    }
    if (!bare) {
        return lh_error_set(error, LH_CORRUPT, "node %u: a copy with links", node);
    }
    if (!lh_graph_is_live(graph, before) || before == node || graph->t.copies[before] != LH__NIL) {
        return lh_error_set(error, LH_CORRUPT, "node %u: a copy of %u", node, before);
    }
    graph->t.copies[before] = node;
    return LH_OK;
}

/* All links are counted by now. */
static enum lh_status check_reachable(const struct lh_graph *graph, uint32_t node,
                                      struct lh_error *error)
{
    bool alone = graph->live - graph->copies == 1;
    if (!alone && (lh__is_cut_off(graph, node) || *lh__links(graph, node, 0) == LH__NIL)) {
        return lh_error_set(error, LH_CORRUPT, "node %u: no link %s", node,
                            lh__is_cut_off(graph, node) ? "keeps it reachable" : "from it");
    }
    return LH_OK;
}

/* Goes one node on in the list of copies that it is in, or to the next linked node. Each node has
 * one before it, so a list that starts at a linked node has an end. */
static void list_step(struct lh_graph_load *load)
{
    const struct lh_graph *graph = load->graph;
    uint32_t from = load->in_list != LH__NIL ? load->in_list : load->node;
    uint32_t next =
        load->in_list != LH__NIL || lh__is_linked(graph, from) ? graph->t.copies[from] : LH__NIL;
    load->in_list = next;
    if (next != LH__NIL) {
        load->listed++;
    } else {
        load->node++;
    }
}

/* ---- all of it ---- */

static enum lh_status stage_end(struct lh_graph_load *load, struct lh_error *error)
{
    enum lh_status status = LH_OK;
    const struct lh_graph *graph = load->graph;
    if (load->stage == STAGE_NODES) {
        status = check_counts(load, error);
    } else if (load->stage == STAGE_LINKS) {
        clear_marks(load->graph);
    } else if (load->stage == STAGE_COUNTS) {
        count_entry(load->graph);
    } else if (load->stage == STAGE_LISTS && load->listed != graph->copies) {
        status = lh_error_set(error, LH_CORRUPT, "%u copies, %u of them of a linked node",
                              graph->copies, load->listed);
    }
    load->node = 0;
    load->in_list = LH__NIL;
    load->stage++;
    return status;
}

static enum lh_status node_step(struct lh_graph_load *load, struct lh_error *error)
{
    uint32_t node = load->node;
    switch (load->stage) {
    case STAGE_NODES:
        load->node++;
        return load_node(load, node, error);
    case STAGE_LINKS:
        load->node++;
        return load_links(load->graph, node, error);
    case STAGE_COUNTS:
        load->node++;
        take_leading_up(load->graph, node);
        return LH_OK;
    case STAGE_COPIES:
        load->node++;
        if (lh__is_copy(load->graph, node)) {
            return load_copy(load->graph, node, error);
        }
        return lh__is_linked(load->graph, node) ? check_reachable(load->graph, node, error) : LH_OK;
    default:
        list_step(load);
        return LH_OK;
    }
}

enum lh_status lh_graph_load_rows(struct lh_graph_load *load, uint64_t bytes,
                                  struct lh_error *error)
{
    uint64_t rows = bytes / (load->graph->options.dimension * sizeof(float));
    enum lh_status status = LH_OK;
    assert(load->stage == STAGE_NODES && rows <= load->shape.slots);
    if (load->node == 0) {
        status = load_entry(load, error);
    }
    while (status == LH_OK && load->node < rows) {
        status = load_node(load, load->node++, error);
    }
    return status;
}

enum lh_status lh_graph_load_step(struct lh_graph_load *load, uint32_t nodes, bool *is_done,
                                  struct lh_error *error)
{
    enum lh_status status = LH_OK;
    if (load->stage == STAGE_NODES && load->node == 0) {
        status = load_entry(load, error);
    }
    while (status == LH_OK && load->stage != STAGE_DONE && nodes > 0) {
        if (load->node < load->shape.slots) {
            nodes--;
            status = node_step(load, error);
        } else {
            status = stage_end(load, error);
        }
    }
    *is_done = status == LH_OK && load->stage == STAGE_DONE;
    return status;
}
