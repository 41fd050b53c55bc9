/* Taking a node out: every link to it goes, and the nodes that had one are repaired. The owner of
 * the graph runs it.
 *
 * Who links to the node is one of its own links or in its list of backlinks, so a removal reads the
 * node's surroundings and nothing else. Only in a graph out of a file whose links are not all known
 * yet, or where memory ran out, the rest is looked through; each removal makes the links of some
 * nodes known, so that a few hundred later all are. */
#include "hnsw/graph_internal.h"

#include <string.h>

#define LEARN_NODES 4096u /* a removal: about a millisecond */

/* True when it was. */
static bool repair_if_linked(struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t gone)
{
    if (!lh__links_has(graph, node, level, gone)) {
        return false;
    }
    lh__links_repair(graph, node, level, gone);
    return true;
}

/* The nodes from `node` on: what stands in no list. */
static void find_everywhere(struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t gone)
{
    for (; node < graph->slots; node++) {
        if (lh__is_linked(graph, node) && lh__level(graph, node) >= level) {
            repair_if_linked(graph, node, level, gone);
        }
    }
}

/* Repairs all that link to `gone` on a level, and takes its own links there out of the lists. */
static void unlink_level(struct lh_graph *graph, uint32_t gone, uint32_t level)
{
    uint32_t links[2 * LH_M_MAX];
    uint32_t count = lh__links_count(graph, lh__links(graph, gone, level), level);
    memcpy(links, lh__links(graph, gone, level), count * sizeof *links);
    for (uint32_t i = 0; i < count; i++) {
        lh__links_prefetch(graph, links[i], level);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!repair_if_linked(graph, links[i], level, gone)) {
            lh__backlinks_erase(graph, links[i], level, gone);
        }
    }
    lh__backlinks(graph, gone, level, &count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t again; /* repairs move lists, but do not change this one */
        lh__links_repair(graph, lh__backlinks(graph, gone, level, &again)[i], level, gone);
        assert(again == count);
    }
    find_everywhere(graph, lh__backlinks_known(graph, gone, level), level, gone);
    lh__backlinks_settle(graph);
    lh__backlinks_drop(graph, gone, level);
}

/* The highest linked node but `gone`, the entry point; LH__NIL when there is none. */
static uint32_t choose_entry(const struct lh_graph *graph, uint32_t gone)
{
    uint32_t beside = *lh__links(graph, gone, lh__level(graph, gone));
    if (beside != LH__NIL) {
        return beside; /* as high as it */
    }
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
    lh__backlinks_learn(graph, LEARN_NODES);
    if (graph->entry == node) {
        lh__entry_set(graph, choose_entry(graph, node));
    }
    for (uint32_t level = lh__level(graph, node); level > 0; level--) {
        unlink_level(graph, node, level);
    }
    unlink_level(graph, node, 0);
    assert(graph->t.incoming[node].leading_up == 0);
    lh__links_drop(graph, node);
}
