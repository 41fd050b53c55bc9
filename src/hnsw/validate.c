/* Checking a whole graph, for tests and after loading. The owner of the graph runs it. */
#include "hnsw/graph_internal.h"

#include <math.h>
#include <string.h>

struct check {
    const struct lh_graph *graph;
    struct lh_error *error;
    uint32_t *leading_up; /* links to each node */
    uint32_t entry_links;
    uint32_t listed; /* copies found in lists */
};

static enum lh_status check_links(struct check *check, uint32_t node, uint32_t level)
{
    const struct lh_graph *graph = check->graph;
    const uint32_t *links = lh__links(graph, node, level);
    uint32_t count = lh__links_count(graph, links, level);
    uint32_t stride = level == 0 ? graph->links_stride : graph->upper_stride;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t other = links[i];
        if (other >= graph->slots || !lh__is_linked(graph, other)) {
            return lh_error_set(check->error, LH_CORRUPT,
                                "node %u level %u: link %u to %u, not linked", node, level, i,
                                other);
        }
        if (other == node) {
            return lh_error_set(check->error, LH_CORRUPT, "node %u level %u: links to itself", node,
                                level);
        }
        if (lh__level(graph, other) < level) {
            return lh_error_set(check->error, LH_CORRUPT, "node %u level %u: %u has level %u", node,
                                level, other, lh__level(graph, other));
        }
        for (uint32_t j = 0; j < i; j++) {
            if (links[j] == other) {
                return lh_error_set(check->error, LH_CORRUPT, "node %u level %u: links to %u twice",
                                    node, level, other);
            }
        }
        check->entry_links += level == 0 && other == graph->entry;
        check->leading_up[other] += level == 0 && lh__leads_up(graph, node, other);
    }
    for (uint32_t i = count; i < stride; i++) {
        if (links[i] != LH__NIL) {
            return lh_error_set(check->error, LH_CORRUPT, "node %u level %u: a link after the last",
                                node, level);
        }
    }
    if (level == 0 && graph->t.checked[node] > count) {
        return lh_error_set(check->error, LH_CORRUPT, "node %u: checked prefix %u of %u links",
                            node, graph->t.checked[node], count);
    }
    return LH_OK;
}

static enum lh_status check_code(struct check *check, uint32_t node, struct lh__encoded *again)
{
    const struct lh_graph *graph = check->graph;
    lh__encode(graph, lh__row(graph, node), again);
    bool same =
        memcmp(again->code, graph->t.codes + (size_t)node * graph->code_bytes, graph->code_bytes) ==
            0 &&
        again->norm == graph->t.norms[node] &&
        (!graph->filtered || memcmp(again->signs, graph->t.signs + (size_t)node * LH__SIGN_WORDS,
                                    LH__SIGN_WORDS * sizeof(uint64_t)) == 0);
    if (same && graph->metric == LH__WEIGHTED) {
        same = again->weight == graph->t.weights[node] && isfinite(again->weight);
    }
    if (!same) {
        return lh_error_set(check->error, LH_CORRUPT, "node %u: its code is not that of its row",
                            node);
    }
    return LH_OK;
}

/* The list of copies that starts at `node`, and that `node` is the one of its equals that is
 * linked; and that a copy has nothing but its link back. */
static enum lh_status check_copies(struct check *check, uint32_t node)
{
    const struct lh_graph *graph = check->graph;
    if (lh__is_copy(graph, node)) {
        bool bare = lh__links(graph, node, 0)[1] == LH__NIL && graph->t.checked[node] == 0;
        for (uint32_t l = 1; bare && l <= lh__level(graph, node); l++) {
            bare = *lh__links(graph, node, l) == LH__NIL;
        }
        return bare ? LH_OK
                    : lh_error_set(check->error, LH_CORRUPT, "node %u: a copy with links", node);
    }
    if (lh__copies_find(graph, node) != node) {
        return lh_error_set(check->error, LH_CORRUPT, "node %u: its equal %u is linked too", node,
                            lh__copies_find(graph, node));
    }
    uint32_t before = node;
    for (uint32_t copy; (copy = graph->t.copies[before]) != LH__NIL; before = copy) {
        if (copy >= graph->slots || !lh__is_copy(graph, copy) ||
            !lh__copies_same(graph, copy, node) || *lh__links(graph, copy, 0) != before ||
            check->listed++ == graph->copies) {
            return lh_error_set(check->error, LH_CORRUPT, "node %u: %u stands among its copies",
                                node, copy);
        }
    }
    return LH_OK;
}

static enum lh_status check_nodes(struct check *check, struct lh__encoded *again)
{
    const struct lh_graph *graph = check->graph;
    uint32_t live = 0, copies = 0, blocks = 0;
    for (uint32_t node = 0; node < graph->slots; node++) {
        uint32_t level = lh__level(graph, node);
        if (level != lh__level_of_slot(graph, node) ||
            graph->t.upper_at[node] != (level == 0 ? LH__NIL : blocks)) {
            return lh_error_set(check->error, LH_CORRUPT, "node %u: level %u or its place", node,
                                level);
        }
        blocks += level;
        if (!lh_graph_is_live(graph, node)) {
            continue;
        }
        live++;
        copies += lh__is_copy(graph, node);
        enum lh_status status = check_code(check, node, again);
        for (uint32_t l = 0; status == LH_OK && lh__is_linked(graph, node) && l <= level; l++) {
            status = check_links(check, node, l);
        }
        status = status == LH_OK ? check_copies(check, node) : status;
        if (status != LH_OK) {
            return status;
        }
    }
    if (live != graph->live || copies != graph->copies || blocks != graph->upper_used) {
        return lh_error_set(check->error, LH_CORRUPT, "%u live nodes, %u copies; counted %u and %u",
                            live, copies, graph->live, graph->copies);
    }
    if (check->listed != copies) {
        return lh_error_set(check->error, LH_CORRUPT, "%u copies, %u of them in lists", copies,
                            check->listed);
    }
    return LH_OK;
}

static enum lh_status check_degrees(struct check *check)
{
    const struct lh_graph *graph = check->graph;
    if (check->entry_links != graph->entry_links) {
        return lh_error_set(check->error, LH_CORRUPT, "entry point %u: in-degree %u, not %u",
                            graph->entry, check->entry_links, graph->entry_links);
    }
    for (uint32_t node = 0; node < graph->slots; node++) {
        if (!lh__is_linked(graph, node)) {
            continue;
        }
        uint32_t said = graph->t.incoming[node].leading_up;
        if (check->leading_up[node] != said) {
            return lh_error_set(check->error, LH_CORRUPT, "node %u: %u links lead up to it, not %u",
                                node, check->leading_up[node], said);
        }
        if (graph->live - graph->copies == 1) {
            continue;
        }
        if (*lh__links(graph, node, 0) == LH__NIL || lh__is_cut_off(graph, node)) {
            return lh_error_set(check->error, LH_CORRUPT, "node %u: %s", node,
                                lh__is_cut_off(graph, node) ? "no link keeps it reachable"
                                                            : "no link from it");
        }
    }
    return LH_OK;
}

static enum lh_status check_free_list(struct check *check)
{
    const struct lh_graph *graph = check->graph;
    uint32_t free_count = 0;
    for (uint32_t slot = graph->free_head; slot != LH__NIL; slot = *lh__links(graph, slot, 0)) {
        if (slot >= graph->slots || lh_graph_is_live(graph, slot) ||
            ++free_count > graph->free_count) {
            return lh_error_set(check->error, LH_CORRUPT, "free list: slot %u", slot);
        }
    }
    if (free_count != graph->free_count || free_count + graph->live != graph->slots) {
        return lh_error_set(check->error, LH_CORRUPT, "free list: %u of %u slots", free_count,
                            graph->free_count);
    }
    return LH_OK;
}

static enum lh_status check_entry(struct check *check)
{
    const struct lh_graph *graph = check->graph;
    if ((graph->entry == LH__NIL) != (graph->live == 0)) {
        return lh_error_set(check->error, LH_CORRUPT, "entry point %u of %u nodes", graph->entry,
                            graph->live);
    }
    if (graph->live == 0) {
        return LH_OK;
    }
    if (graph->entry >= graph->slots || !lh__is_linked(graph, graph->entry)) {
        return lh_error_set(check->error, LH_CORRUPT, "entry point %u is not linked", graph->entry);
    }
    for (uint32_t node = 0; node < graph->slots; node++) {
        if (lh__is_linked(graph, node) && lh__level(graph, node) > lh__level(graph, graph->entry)) {
            return lh_error_set(check->error, LH_CORRUPT, "entry point %u stands below node %u",
                                graph->entry, node);
        }
    }
    return LH_OK;
}

/* Walks level 0 from the entry point; `queue` and `seen` have room for all. */
static enum lh_status check_reachable(struct check *check, uint32_t *queue, uint8_t *seen)
{
    const struct lh_graph *graph = check->graph;
    uint32_t done = 0, reached = 0;
    if (graph->live > 0) {
        queue[reached++] = graph->entry;
        seen[graph->entry] = 1;
    }
    while (done < reached) {
        const uint32_t *links = lh__links(graph, queue[done++], 0);
        uint32_t count = lh__links_count(graph, links, 0);
        for (uint32_t i = 0; i < count; i++) {
            if (seen[links[i]] == 0) {
                seen[links[i]] = 1;
                queue[reached++] = links[i];
            }
        }
    }
    uint32_t linked = graph->live - graph->copies;
    return reached == linked ? LH_OK
                             : lh_error_set(check->error, LH_CORRUPT,
                                            "%u of %u linked nodes unreachable on level 0",
                                            linked - reached, linked);
}

enum lh_status lh_graph_validate(const struct lh_graph *graph, struct lh_error *error)
{
    enum lh_status status = LH_OUT_OF_MEMORY;
    size_t slots = (size_t)graph->slots + 1;
    uint64_t signs[LH__SIGN_WORDS];
    struct check check = {graph, error, calloc(slots, sizeof *check.leading_up), 0, 0};
    uint32_t *queue = malloc(slots * sizeof *queue);
    uint8_t *seen = calloc(slots, sizeof *seen);
    struct lh__encoded again = {.code = aligned_alloc(64, graph->code_bytes), .signs = signs};
    if (check.leading_up == NULL || queue == NULL || seen == NULL || again.code == NULL) {
        status =
            lh_error_set(error, LH_OUT_OF_MEMORY, "no memory to validate %u slots", graph->slots);
        goto done;
    }
    status = check_free_list(&check);
    status = status == LH_OK ? check_entry(&check) : status;
    status = status == LH_OK ? check_nodes(&check, &again) : status;
    status = status == LH_OK ? check_degrees(&check) : status;
    status = status == LH_OK ? check_reachable(&check, queue, seen) : status;
    status = status == LH_OK ? lh__backlinks_validate(graph, error) : status;
done:
    free(again.code);
    free(seen);
    free(queue);
    free(check.leading_up);
    return status;
}
