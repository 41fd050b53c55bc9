/* Taking a node out: every link to it goes, and the nodes that had one are repaired. The owner of
 * the graph runs it.
 *
 * Links have one direction, so those that point here must be found. In-degrees say how many there
 * are: they are looked for among the node's neighbours, then among theirs, then around the node by
 * a search, and only what is still missing after that costs a pass over all nodes. */
#include "hnsw/graph_internal.h"

#include <string.h>

/* Repairs `node` if it links to `gone`. */
static void repair_if_linked(struct lh_graph *graph, uint32_t node, uint32_t gone)
{
    if (node != gone && lh__links_has(graph, node, 0, gone)) {
        lh__links_repair(graph, node, 0, gone);
    }
}

static void find_near(struct lh_graph *graph, uint32_t gone)
{
    uint32_t near[2 * LH_M_MAX], next[2 * LH_M_MAX];
    const uint32_t *links = lh__links(graph, gone, 0);
    uint32_t count = lh__links_count(graph, links, 0);
    memcpy(near, links, count * sizeof *near);
    for (uint32_t i = 0; i < count && graph->t.incoming[gone].links > 0; i++) {
        repair_if_linked(graph, near[i], gone);
    }
    for (uint32_t i = 0; i < count && graph->t.incoming[gone].links > 0; i++) {
        const uint32_t *second = lh__links(graph, near[i], 0);
        uint32_t second_count = lh__links_count(graph, second, 0);
        memcpy(next, second, second_count * sizeof *next);
        for (uint32_t j = 0; j < second_count && graph->t.incoming[gone].links > 0; j++) {
            repair_if_linked(graph, next[j], gone);
        }
    }
}

static void find_around(struct lh_graph *graph, uint32_t gone)
{
    struct lh__walk *walk = &graph->walks[0];
    walk->query = lh__query_of(graph, gone);
    lh__walk_descend(graph, walk, 0, graph->beam_width);
    graph->kernels->beam(graph, walk, 1, 0);
    for (uint32_t i = 0; i < walk->pool.count && graph->t.incoming[gone].links > 0; i++) {
        repair_if_linked(graph, walk->pool.nodes[i], gone);
    }
}

static void find_everywhere(struct lh_graph *graph, uint32_t gone)
{
    for (uint32_t node = 0; node < graph->slots && graph->t.incoming[gone].links > 0; node++) {
        if (lh__is_linked(graph, node)) {
            repair_if_linked(graph, node, gone);
        }
    }
    assert(graph->t.incoming[gone].links == 0);
}

/* Upper levels are a fifteenth of the nodes at m = 16: a pass over them is short, and needed only
 * for a node that stands there. */
static void unlink_upper(struct lh_graph *graph, uint32_t gone)
{
    uint32_t level = lh__level(graph, gone);
    for (uint32_t node = 0; level > 0 && node < graph->slots; node++) {
        if (node == gone || graph->t.levels[node] == 0 || !lh__is_linked(graph, node)) {
            continue;
        }
        for (uint32_t l = 1; l <= level && l <= lh__level(graph, node); l++) {
            if (lh__links_has(graph, node, l, gone)) {
                lh__links_repair(graph, node, l, gone);
            }
        }
    }
}

/* The highest linked node but `gone`; LH__NIL when there is none. */
static uint32_t choose_entry(const struct lh_graph *graph, uint32_t gone)
{
    uint32_t best = LH__NIL;
    for (uint32_t node = 0; node < graph->slots; node++) {
        if (node != gone && lh__is_linked(graph, node) &&
            (best == LH__NIL || graph->t.levels[node] > graph->t.levels[best])) {
            best = node;
        }
    }
    return best;
}

void lh__unlink(struct lh_graph *graph, uint32_t node)
{
    find_near(graph, node);
    if (graph->t.incoming[node].links > 0) {
        find_around(graph, node);
    }
    if (graph->t.incoming[node].links > 0) {
        find_everywhere(graph, node);
    }
    unlink_upper(graph, node);
    if (graph->entry == node) {
        lh__entry_set(graph, choose_entry(graph, node));
    }
    lh__links_drop(graph, node);
}
