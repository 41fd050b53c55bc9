/* One node's list of links: setting, adding with pruning, repair after a deletion. The owner of the
 * graph runs it.
 *
 * Invariant: on level 0 every node is linked to from one that stands before it in the order of
 * nodes (the entry point first, then by number), and the entry point from any. So each can be
 * reached from the entry point, which is no more to keep up than a count of such links: one that is
 * the last of them to its target is not pruned, and a deletion puts another in its place.
 *
 * With each link that comes or goes, the lists of one-way links change on one side or the other
 * (backlinks.c). And each node remembers how long a prefix of its links was chosen against one
 * another, so pruning compares only the newer ones. */
#include "hnsw/graph_internal.h"

#include <string.h>

bool lh__links_has(const struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t other)
{
    const uint32_t *links = lh__links(graph, node, level);
    const uint32_t *end = links + lh__links_stride(graph, level);
    uint32_t found = 0;
    for (; links < end; links += LH__LINE_LINKS) {
        for (uint32_t i = 0; i < LH__LINE_LINKS; i++) {
            found |= links[i] == other;
        }
    }
    return found != 0;
}

/* Whether the level-0 link must stay for its target to be reachable. */
static bool is_last(const struct lh_graph *graph, uint32_t from, uint32_t to)
{
    return to == graph->entry
               ? graph->entry_links == 1
               : graph->t.incoming[to].leading_up == 1 && lh__leads_up(graph, from, to);
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

/* A link that is there from now on: it answers one that was one-way, or is one-way itself. */
static void link_made(struct lh_graph *graph, uint32_t from, uint32_t to, uint32_t level)
{
    if (level == 0) {
        lh__count_link(graph, from, to, 1);
    }
    if (lh__links_has(graph, to, level, from)) {
        lh__backlinks_erase(graph, from, level, to);
    } else {
        lh__backlinks_put(graph, to, level, from);
    }
}

static void link_lost(struct lh_graph *graph, uint32_t from, uint32_t to, uint32_t level)
{
    if (level == 0) {
        lh__count_link(graph, from, to, -1u);
    }
    if (lh__links_has(graph, to, level, from)) {
        lh__backlinks_put(graph, from, level, to);
    } else {
        lh__backlinks_erase(graph, to, level, from);
    }
}

/* The first links of a node. Each of the others has yet to be told, by lh__links_add. */
void lh__links_begin(struct lh_graph *graph, uint32_t node, uint32_t level,
                     const struct lh__selection *selection)
{
    assert(*lh__links(graph, node, level) == LH__NIL);
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
    bool has = false;
    for (uint32_t i = 0; i < count; i++) {
        has |= nodes[i] == node;
    }
    return has;
}

/* Writes a list over the old one. The link to `apart` is looked after by the caller. */
static void change_list(struct lh_graph *graph, uint32_t node, uint32_t level,
                        const struct lh__selection *selection, uint32_t apart)
{
    uint32_t before[2 * LH_M_MAX];
    uint32_t count = lh__links_count(graph, lh__links(graph, node, level), level);
    memcpy(before, lh__links(graph, node, level), count * sizeof *before);
    write_list(graph, node, level, selection);
    for (uint32_t i = 0; i < count; i++) {
        if (before[i] != apart && !contains(selection->nodes, selection->count, before[i])) {
            link_lost(graph, node, before[i], level);
        }
    }
    for (uint32_t i = 0; i < selection->count; i++) {
        uint32_t other = selection->nodes[i];
        if (other != apart && !contains(before, count, other)) {
            link_made(graph, node, other, level);
        }
    }
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

/* The newcomer links to `node`, which has chosen whether to link back. */
static void answer_newcomer(struct lh_graph *graph, uint32_t node, uint32_t level,
                            uint32_t newcomer, bool is_taken)
{
    if (!is_taken) {
        lh__backlinks_put(graph, node, level, newcomer);
    } else if (level == 0) {
        lh__count_link(graph, node, newcomer, 1);
    }
}

/* Writes what was chosen of the links and a newcomer: `chosen` has the order of `candidates`.
 * False, with nothing done, when a link that must stay was not chosen. */
static bool write_changes(struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t newcomer,
                          const struct lh__candidates *candidates,
                          const struct lh__selection *chosen)
{
    uint32_t dropped[2 * LH_M_MAX + 1];
    uint32_t dropped_count = 0, at = 0;
    bool takes_newcomer = true;
    for (uint32_t i = 0; i < candidates->count; i++) {
        uint32_t candidate = candidates->nodes[i];
        if (at < chosen->count && chosen->nodes[at] == candidate) {
            at++;
        } else if (candidate == newcomer) {
            takes_newcomer = false;
        } else if (level == 0 && is_last(graph, node, candidate)) {
            return false;
        } else {
            lh__links_prefetch(graph, candidate, level);
            dropped[dropped_count++] = candidate;
        }
    }
    answer_newcomer(graph, node, level, newcomer, takes_newcomer);
    write_list(graph, node, level, chosen);
    for (uint32_t i = 0; i < dropped_count; i++) {
        link_lost(graph, node, dropped[i], level);
    }
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
    if (!write_changes(graph, node, level, other, &candidates, &selection)) {
        keep_last_links(graph, node, links, max, &selection);
        answer_newcomer(graph, node, level, other,
                        contains(selection.nodes, selection.count, other));
        change_list(graph, node, level, &selection, other);
    }
}

/* Links `node` back to `other`, which has begun its links with one to it. */
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
    answer_newcomer(graph, node, level, other, true);
}

/* Writes a link into the level-0 list of `node`, over the one that stands there. */
static void replace(struct lh_graph *graph, uint32_t node, uint32_t at, uint32_t other)
{
    uint32_t *link = lh__links(graph, node, 0) + at;
    uint32_t before = *link;
    lh__touch_links(graph, node);
    *link = other;
    if (before != LH__NIL) {
        link_lost(graph, node, before, 0);
    }
    link_made(graph, node, other, 0);
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
    graph->entry_links = entry == LH__NIL ? 0 : lh__backlinks_in_degree(graph, entry);
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
    lh__links_rescue(graph, old);
    for (uint32_t i = 0; i < max && lost[i] != LH__NIL; i++) {
        lh__links_rescue(graph, lost[i]);
    }
    lh__backlinks_settle(graph);
}

/* Takes all level-0 links of a node away, to which none points and that has no one-way link in any
 * list any more. */
void lh__links_drop(struct lh_graph *graph, uint32_t node)
{
    uint32_t lost[2 * LH_M_MAX];
    struct lh__selection none = {.nodes = lost};
    uint32_t *links = lh__links(graph, node, 0);
    uint32_t count = lh__links_count(graph, links, 0);
    memcpy(lost, links, count * sizeof *lost);
    write_list(graph, node, 0, &none);
    for (uint32_t i = 0; i < count; i++) {
        lh__count_link(graph, node, lost[i], -1u);
    }
    for (uint32_t i = 0; i < count; i++) {
        lh__links_rescue(graph, lost[i]);
    }
    lh__backlinks_settle(graph);
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
 * were the way on from there. `gone` takes its own one-way links out of the lists. */
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
        lh__count_link(graph, node, gone, -1u);
    }
    change_list(graph, node, level, &selection, gone);
}
