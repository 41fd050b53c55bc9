/* One node's list of links: setting, adding with pruning, repair after a deletion. The owner of the
 * graph runs it.
 *
 * Level 0 counts the links that point to each node. A link that is the last to its target is not
 * pruned, so no node falls out of the graph; and a deletion knows when it has found every link to
 * the node. Each node remembers how long a prefix of its links was chosen against one another, so
 * pruning compares only the newer ones. */
#include "hnsw/graph_internal.h"

#include <string.h>

bool lh__links_has(const struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t other)
{
    const uint32_t *links = lh__links(graph, node, level);
    uint32_t count = lh__links_count(graph, links, level);
    for (uint32_t i = 0; i < count; i++) {
        if (links[i] == other) {
            return true;
        }
    }
    return false;
}

/* Writes a list over the old one, and counts level-0 links. */
void lh__links_set(struct lh_graph *graph, uint32_t node, uint32_t level,
                   const struct lh__selection *selection)
{
    uint32_t *links = lh__links(graph, node, level);
    uint32_t max = lh__links_max(graph, level);
    assert(selection->count <= max);
    lh__touch_links(graph, node);
    if (level == 0) {
        for (uint32_t i = 0; i < max && links[i] != LH__NIL; i++) {
            graph->t.in_degree[links[i]]--;
        }
        for (uint32_t i = 0; i < selection->count; i++) {
            graph->t.in_degree[selection->nodes[i]]++;
        }
        graph->t.checked[node] = (uint8_t)selection->kept;
    }
    memcpy(links, selection->nodes, selection->count * sizeof *links);
    memset(links + selection->count, 0xff, (max - selection->count) * sizeof *links);
}

/* Stable, so that of equally near ones the older stay first. */
static void sort_candidates(float *distances, uint32_t *nodes, bool *checked, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        float distance = distances[i];
        uint32_t node = nodes[i];
        bool was_checked = checked[i];
        uint32_t j = i;
        for (; j > 0 && distances[j - 1] > distance; j--) {
            distances[j] = distances[j - 1];
            nodes[j] = nodes[j - 1];
            checked[j] = checked[j - 1];
        }
        distances[j] = distance;
        nodes[j] = node;
        checked[j] = was_checked;
    }
}

static bool contains(const uint32_t *nodes, uint32_t count, uint32_t node)
{
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i] == node) {
            return true;
        }
    }
    return false;
}

/* Puts back what the selection dropped although nothing else links to it. `links` is the list
 * before; a node that is not in it (the newcomer) gives way when there is no room. */
static void keep_last_links(struct lh_graph *graph, const uint32_t *links, uint32_t links_count,
                            struct lh__selection *selection, uint32_t max)
{
    for (uint32_t i = 0; i < links_count; i++) {
        if (graph->t.in_degree[links[i]] != 1 ||
            contains(selection->nodes, selection->count, links[i])) {
            continue;
        }
        if (selection->count == max) {
            uint32_t out = max;
            while (out > 0 && (graph->t.in_degree[selection->nodes[out - 1]] == 1 &&
                               contains(links, links_count, selection->nodes[out - 1]))) {
                out--;
            }
            assert(out > 0); /* not all of max + 1 candidates can stand in a list of max */
            memmove(selection->nodes + out - 1, selection->nodes + out,
                    (max - out) * sizeof *selection->nodes);
            selection->count--;
            selection->kept -= out <= selection->kept;
        }
        selection->nodes[selection->count++] = links[i];
    }
}

static void prune(struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t other,
                  float distance)
{
    uint32_t max = lh__links_max(graph, level);
    const uint32_t *links = lh__links(graph, node, level);
    float distances[2 * LH_M_MAX + 1], chosen_distances[2 * LH_M_MAX + 1];
    uint32_t nodes[2 * LH_M_MAX + 1], chosen[2 * LH_M_MAX + 1];
    bool checked[2 * LH_M_MAX + 1];
    struct lh__query query = lh__query_of(graph, node);
    graph->kernels->distances(graph, &query, links, max, distances);
    for (uint32_t i = 0; i < max; i++) {
        nodes[i] = links[i];
        checked[i] = level == 0 && i < graph->t.checked[node];
    }
    distances[max] = distance;
    nodes[max] = other;
    checked[max] = false;
    sort_candidates(distances, nodes, checked, max + 1);
    struct lh__candidates candidates = {distances, nodes, checked, max + 1};
    struct lh__selection selection = {
        .distances = chosen_distances, .nodes = chosen, .keep = max, .alpha = graph->alpha};
    graph->kernels->select(graph, &candidates, &selection);
    if (level == 0) {
        keep_last_links(graph, links, max, &selection, max);
    }
    lh__links_set(graph, node, level, &selection);
}

void lh__links_add(struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t other,
                   float distance)
{
    uint32_t *links = lh__links(graph, node, level);
    uint32_t count = lh__links_count(graph, links, level);
    if (count == lh__links_max(graph, level)) {
        prune(graph, node, level, other, distance);
        return;
    }
    lh__touch_links(graph, node);
    links[count] = other;
    if (level == 0) {
        graph->t.in_degree[other]++;
    }
}

/* Puts `other` into the level-0 list of `node`: where there is no room, in place of one that
 * `other` then links to, or that others link to, so that what could be reached still can. False
 * when there is none. */
static bool splice(struct lh_graph *graph, uint32_t node, uint32_t other)
{
    uint32_t *links = lh__links(graph, node, 0);
    uint32_t max = lh__links_max(graph, 0);
    uint32_t at = lh__links_count(graph, links, 0);
    uint32_t *onward = lh__links(graph, other, 0);
    uint32_t onward_count = lh__links_count(graph, onward, 0);
    if (at == max) {
        at--;
        while (onward_count == max && graph->t.in_degree[links[at]] == 1) {
            if (at-- == 0) {
                return false;
            }
        }
        uint32_t moved = links[at];
        if (onward_count < max && !contains(onward, onward_count, moved)) {
            lh__touch_links(graph, other);
            onward[onward_count] = moved;
            graph->t.in_degree[moved]++;
        }
        graph->t.in_degree[moved]--;
    }
    lh__touch_links(graph, node);
    links[at] = other;
    graph->t.in_degree[other]++;
    if (at < graph->t.checked[node]) {
        graph->t.checked[node] = (uint8_t)at;
    }
    return true;
}

/* Makes a node link to `other`, to which none does: one of its neighbours, nearest first, or, when
 * all links of these are the last to their targets, any but `gone`. There is one: as long as all
 * have full lists, nodes are linked to 2m times on average, and `other` is not. */
void lh__links_rescue(struct lh_graph *graph, uint32_t other, uint32_t gone)
{
    const uint32_t *links = lh__links(graph, other, 0);
    uint32_t count = lh__links_count(graph, links, 0);
    for (uint32_t i = 0; i < count; i++) {
        if (splice(graph, links[i], other)) {
            return;
        }
    }
    for (uint32_t node = 0; node < graph->slots; node++) {
        if (node != other && node != gone && lh__is_linked(graph, node) &&
            splice(graph, node, other)) {
            return;
        }
    }
}

/* A linked node that is neither of the two; LH__NIL when there is none. */
static uint32_t any_other(const struct lh_graph *graph, uint32_t a, uint32_t b, uint32_t level)
{
    for (uint32_t node = 0; node < graph->slots; node++) {
        if (node != a && node != b && lh__is_linked(graph, node) &&
            lh__level(graph, node) >= level) {
            return node;
        }
    }
    return LH__NIL;
}

/* Takes `gone` out of the list, and chooses anew among what is left and the links of `gone`, which
 * were the way on from there. */
void lh__links_repair(struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t gone)
{
    uint32_t max = lh__links_max(graph, level);
    uint32_t *links = lh__links(graph, node, level);
    uint32_t count = lh__links_count(graph, links, level);
    const uint32_t *beyond = lh__links(graph, gone, level);
    uint32_t beyond_count = lh__links_count(graph, beyond, level);
    float distances[LH__CANDIDATES_MAX], chosen_distances[LH__CANDIDATES_MAX];
    uint32_t nodes[LH__CANDIDATES_MAX], chosen[LH__CANDIDATES_MAX];
    bool checked[LH__CANDIDATES_MAX];
    uint32_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (links[i] != gone) {
            checked[total] = level == 0 && i < graph->t.checked[node];
            nodes[total++] = links[i];
        }
    }
    uint32_t old_count = total;
    for (uint32_t i = 0; i < beyond_count; i++) {
        if (beyond[i] != node && !contains(nodes, old_count, beyond[i])) {
            checked[total] = false;
            nodes[total++] = beyond[i];
        }
    }
    if (total == 0) {
        checked[total] = false;
        nodes[total] = any_other(graph, node, gone, level);
        total += nodes[total] != LH__NIL;
    }
    struct lh__query query = lh__query_of(graph, node);
    graph->kernels->distances(graph, &query, nodes, total, distances);
    sort_candidates(distances, nodes, checked, total);
    struct lh__candidates candidates = {distances, nodes, checked, total};
    struct lh__selection selection = {.distances = chosen_distances,
                                      .nodes = chosen,
                                      .keep = max,
                                      .fill = level == 0 ? graph->m : 0,
                                      .alpha = graph->alpha};
    graph->kernels->select(graph, &candidates, &selection);
    if (level == 0) {
        uint32_t before[2 * LH_M_MAX];
        uint32_t before_count = 0;
        for (uint32_t i = 0; i < count; i++) {
            if (links[i] != gone) {
                before[before_count++] = links[i];
            }
        }
        keep_last_links(graph, before, before_count, &selection, max);
    }
    lh__links_set(graph, node, level, &selection);
}
