/* One node's list of links: setting, adding with pruning, repair after a deletion. The owner of the
 * graph runs it.
 *
 * Invariant: on level 0 every node is linked to from one that stands before it in the order of
 * nodes (the entry point first, then by number), and the entry point from any. So each can be
 * reached from the entry point, which is no more to keep up than a count of such links: one that is
 * the last of them to its target is not pruned, and a deletion puts another in its place.
 *
 * The count of all links to a node tells a deletion when it has found every one. And each node
 * remembers how long a prefix of its links was chosen against one another, so pruning compares only
 * the newer ones. */
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

/* Whether the level-0 link must stay for its target to be reachable. */
static bool is_last(const struct lh_graph *graph, uint32_t from, uint32_t to)
{
    const struct lh__incoming *incoming = &graph->t.incoming[to];
    return to == graph->entry ? incoming->links == 1
                              : incoming->leading_up == 1 && lh__leads_up(graph, from, to);
}

static void write_list(struct lh_graph *graph, uint32_t node, uint32_t level,
                       const struct lh__selection *selection)
{
    uint32_t *links = lh__links(graph, node, level);
    uint32_t max = lh__links_max(graph, level);
    assert(selection->count <= max);
    lh__touch_links(graph, node);
    memcpy(links, selection->nodes, selection->count * sizeof *links);
    memset(links + selection->count, 0xff, (max - selection->count) * sizeof *links);
    if (level == 0) {
        graph->t.checked[node] = (uint8_t)selection->kept;
    }
}

/* Writes a list over the old one, and counts level-0 links. */
void lh__links_set(struct lh_graph *graph, uint32_t node, uint32_t level,
                   const struct lh__selection *selection)
{
    const uint32_t *links = lh__links(graph, node, level);
    uint32_t count = level == 0 ? lh__links_count(graph, links, 0) : 0;
    for (uint32_t i = 0; i < count; i++) {
        lh__count_link(graph, node, links[i], -1u);
    }
    write_list(graph, node, level, selection);
    for (uint32_t i = 0; level == 0 && i < selection->count; i++) {
        lh__count_link(graph, node, selection->nodes[i], 1);
    }
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

/* Puts back what the selection dropped although it must stay. `links` is the list before; a node
 * that is not in it (the newcomer) gives way when there is no room. */
static void keep_last_links(struct lh_graph *graph, uint32_t node, const uint32_t *links,
                            uint32_t links_count, struct lh__selection *selection)
{
    uint32_t max = lh__links_max(graph, 0);
    for (uint32_t i = 0; i < links_count; i++) {
        if (!is_last(graph, node, links[i]) ||
            contains(selection->nodes, selection->count, links[i])) {
            continue;
        }
        if (selection->count == max) {
            uint32_t out = max;
            while (out > 0 && is_last(graph, node, selection->nodes[out - 1]) &&
                   contains(links, links_count, selection->nodes[out - 1])) {
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

/* Writes what was chosen of the links and a newcomer, counting only what changes: `chosen` has the
 * order of `candidates`. False, with nothing done, when a link that must stay was not chosen. */
static bool write_changes(struct lh_graph *graph, uint32_t node, uint32_t newcomer,
                          const struct lh__candidates *candidates,
                          const struct lh__selection *chosen)
{
    uint32_t dropped[2 * LH_M_MAX + 1];
    uint32_t dropped_count = 0, at = 0;
    bool takes_newcomer = true;
    for (uint32_t i = 0; i < candidates->count; i++) {
        if (at < chosen->count && chosen->nodes[at] == candidates->nodes[i]) {
            at++;
        } else if (candidates->nodes[i] == newcomer) {
            takes_newcomer = false;
        } else if (is_last(graph, node, candidates->nodes[i])) {
            return false;
        } else {
            dropped[dropped_count++] = candidates->nodes[i];
        }
    }
    for (uint32_t i = 0; i < dropped_count; i++) {
        lh__count_link(graph, node, dropped[i], -1u);
    }
    if (takes_newcomer) {
        lh__count_link(graph, node, newcomer, 1);
    }
    write_list(graph, node, 0, chosen);
    return true;
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
    if (level > 0) {
        write_list(graph, node, level, &selection);
    } else if (!write_changes(graph, node, other, &candidates, &selection)) {
        keep_last_links(graph, node, links, max, &selection);
        lh__links_set(graph, node, 0, &selection);
    }
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
        lh__count_link(graph, node, other, 1);
    }
}

/* Writes a link into the level-0 list of `node`, over the one that stands there. */
static void replace(struct lh_graph *graph, uint32_t node, uint32_t at, uint32_t other)
{
    uint32_t *link = lh__links(graph, node, 0) + at;
    lh__touch_links(graph, node);
    if (*link != LH__NIL) {
        lh__count_link(graph, node, *link, -1u);
    }
    *link = other;
    lh__count_link(graph, node, other, 1);
    if (at < graph->t.checked[node]) {
        graph->t.checked[node] = (uint8_t)at;
    }
}

/* Puts `other` into the level-0 list of `node`: where there is no room, in place of a link that
 * need not stay, or that `other` takes over. False when there is none. */
static bool splice(struct lh_graph *graph, uint32_t node, uint32_t other)
{
    uint32_t *links = lh__links(graph, node, 0);
    uint32_t max = lh__links_max(graph, 0);
    uint32_t at = lh__links_count(graph, links, 0);
    uint32_t *onward = lh__links(graph, other, 0);
    uint32_t onward_count = lh__links_count(graph, onward, 0);
    if (at == max) {
        bool can_take = onward_count < max;
        do {
            if (at-- == 0) {
                return false;
            }
        } while (is_last(graph, node, links[at]) &&
                 !(can_take && lh__leads_up(graph, other, links[at])));
        if (can_take && !contains(onward, onward_count, links[at])) {
            replace(graph, other, onward_count, links[at]);
        }
    }
    replace(graph, node, at, other);
    return true;
}

/* One down the tree of links that must stay: a target of `node` that may link to `other` and keep
 * it reachable; LH__NIL when there is none. */
static uint32_t step_before(const struct lh_graph *graph, uint32_t node, uint32_t other)
{
    const uint32_t *links = lh__links(graph, node, 0);
    uint32_t max = lh__links_max(graph, 0);
    for (uint32_t i = 0; i < max; i++) {
        if (links[i] != graph->entry && (other == graph->entry || links[i] < other)) {
            return links[i];
        }
    }
    return LH__NIL;
}

/* Makes a node reachable again that has lost the last link that kept it so: one of its neighbours
 * links to it, nearest first. Where none can (all its links must stay), links that must stay form a
 * tree, which is gone down from the entry point: to a node that has room; or to one that stands
 * before this node while all its targets stand behind, one of which moves below this node. The
 * order grows with every step, so this ends. */
void lh__links_rescue(struct lh_graph *graph, uint32_t node)
{
    const uint32_t *links = lh__links(graph, node, 0);
    uint32_t count = lh__links_count(graph, links, 0);
    if (!lh__is_cut_off(graph, node) || count == 0) { /* without links it is alone */
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        bool before = node == graph->entry || lh__leads_up(graph, links[i], node);
        if (before && splice(graph, links[i], node)) {
            return;
        }
    }
    uint32_t parent = node == graph->entry ? links[0] : graph->entry;
    while (!splice(graph, parent, node)) {
        uint32_t next = step_before(graph, parent, node);
        if (next == LH__NIL) {
            uint32_t *full = lh__links(graph, parent, 0);
            uint32_t at = full[0] == graph->entry;
            uint32_t moved = full[at];
            replace(graph, parent, at, node);
            next = node;
            node = moved;
        }
        parent = next;
    }
}

/* Links of the entry point count as leading up, so its change changes counts. */
void lh__entry_set(struct lh_graph *graph, uint32_t entry)
{
    uint32_t old = graph->entry;
    uint32_t max = lh__links_max(graph, 0);
    graph->entry = entry;
    for (uint32_t i = 0; entry != LH__NIL && i < max; i++) {
        uint32_t to = lh__links(graph, entry, 0)[i];
        graph->t.incoming[to == LH__NIL ? entry : to].leading_up += to < entry;
    }
    if (old == LH__NIL) {
        return;
    }
    uint32_t lost[2 * LH_M_MAX];
    memcpy(lost, lh__links(graph, old, 0), max * sizeof *lost);
    for (uint32_t i = 0; i < max && lost[i] != LH__NIL; i++) {
        graph->t.incoming[lost[i]].leading_up -= lost[i] < old;
    }
    if (graph->t.incoming[old].links > 0) { /* else it is on its way out */
        lh__links_rescue(graph, old);
    }
    for (uint32_t i = 0; i < max && lost[i] != LH__NIL; i++) {
        lh__links_rescue(graph, lost[i]);
    }
}

/* Takes all level-0 links of a node away, to which none points any more. */
void lh__links_drop(struct lh_graph *graph, uint32_t node)
{
    uint32_t lost[2 * LH_M_MAX];
    struct lh__selection none = {.nodes = lost};
    uint32_t *links = lh__links(graph, node, 0);
    uint32_t count = lh__links_count(graph, links, 0);
    memcpy(lost, links, count * sizeof *lost);
    lh__links_set(graph, node, 0, &none);
    for (uint32_t i = 0; i < count; i++) {
        lh__links_rescue(graph, lost[i]);
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
        keep_last_links(graph, node, before, before_count, &selection);
    }
    lh__links_set(graph, node, level, &selection);
}
