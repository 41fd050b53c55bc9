/* Exported links and the searcher that judges them. One thread.
 *
 * `lists` holds, for each row and each of its levels from 0 up, a count and that many rows;
 * `offsets` says where a row's lists begin. The search keeps its beam as one sorted pool whose
 * entries remember whether they were expanded: a candidate that falls off the pool's end is one
 * that the two heaps of the paper would never expand either. */
#include "links.h"

#include "base/limits.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct candidate {
    float distance;
    uint32_t row;
    bool expanded;
};

struct lh_links {
    uint32_t count;
    uint32_t entry;
    uint32_t entry_level;
    uint64_t level_0_links;
    uint64_t *offsets;
    uint32_t *lists;
    uint32_t *visited; /* the search that last saw the row */
    uint32_t search;
    uint32_t pool_count;
    struct candidate pool[LH_EF_MAX];
};

static uint64_t total_words(const struct lh_links_source *source)
{
    uint64_t words = 0;
    uint32_t linked[LH_LINKS_MAX];
    for (uint32_t row = 0; row < source->count; row++)
        for (uint32_t level = 0; level <= source->level(source->graph, row); level++)
            words += 1 + source->links(source->graph, row, level, linked);
    return words;
}

enum lh_status lh_links_create(const struct lh_links_source *source, struct lh_links **out)
{
    struct lh_links *links = calloc(1, sizeof *links);
    if (links == NULL)
        return LH_OUT_OF_MEMORY;
    links->count = source->count;
    links->entry = source->entry;
    links->entry_level = source->level(source->graph, source->entry);
    links->offsets = malloc(source->count * sizeof *links->offsets);
    links->lists = malloc(total_words(source) * sizeof *links->lists);
    links->visited = calloc(source->count, sizeof *links->visited);
    if (links->offsets == NULL || links->lists == NULL || links->visited == NULL) {
        lh_links_destroy(links);
        return LH_OUT_OF_MEMORY;
    }
    uint64_t at = 0;
    for (uint32_t row = 0; row < source->count; row++) {
        links->offsets[row] = at;
        for (uint32_t level = 0; level <= source->level(source->graph, row); level++) {
            uint32_t count = source->links(source->graph, row, level, links->lists + at + 1);
            links->lists[at] = count;
            links->level_0_links += level == 0 ? count : 0;
            at += 1 + count;
        }
    }
    *out = links;
    return LH_OK;
}

void lh_links_destroy(struct lh_links *links)
{
    if (links == NULL)
        return;
    free(links->offsets);
    free(links->lists);
    free(links->visited);
    free(links);
}

double lh_links_degree(const struct lh_links *links)
{
    return (double)links->level_0_links / links->count;
}

/* An lh_graph seen by row instead of by node. */
struct graph_view {
    const struct lh_graph *graph;
    const uint32_t *nodes; /* by row */
    uint32_t *rows;        /* by node */
};

static uint32_t graph_level(const void *arg, uint32_t row)
{
    const struct graph_view *view = arg;
    return lh_graph_level(view->graph, view->nodes[row]);
}

static uint32_t graph_links(const void *arg, uint32_t row, uint32_t level, uint32_t *linked)
{
    const struct graph_view *view = arg;
    uint32_t count;
    const uint32_t *links = lh_graph_links(view->graph, view->nodes[row], level, &count);
    assert(count <= LH_LINKS_MAX);
    for (uint32_t i = 0; i < count; i++)
        linked[i] = view->rows[links[i]];
    return count;
}

enum lh_status lh_links_create_from_graph(const struct lh_graph *graph, const uint32_t *nodes,
                                          uint32_t count, struct lh_links **links)
{
    struct graph_view view = {.graph = graph, .nodes = nodes};
    uint32_t entry;
    if (!lh_graph_entry(graph, &entry))
        return LH_INVALID_ARGUMENT;
    view.rows = malloc(lh_graph_slots(graph) * sizeof *view.rows);
    if (view.rows == NULL)
        return LH_OUT_OF_MEMORY;
    for (uint32_t row = 0; row < count; row++)
        view.rows[nodes[row]] = row;
    struct lh_links_source source = {.graph = &view,
                                     .count = count,
                                     .entry = view.rows[entry],
                                     .level = graph_level,
                                     .links = graph_links};
    enum lh_status status = lh_links_create(&source, links);
    free(view.rows);
    return status;
}

/* Inserts in order of distance; the pool holds at most `ef`. Returns where, or `ef` when worse
 * than all. */
static uint32_t pool_insert(struct lh_links *links, uint32_t ef, float distance, uint32_t row)
{
    struct candidate *pool = links->pool;
    uint32_t low = 0, high = links->pool_count;
    if (high == ef && distance >= pool[ef - 1].distance)
        return ef;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (pool[middle].distance <= distance)
            low = middle + 1;
        else
            high = middle;
    }
    uint32_t moved = links->pool_count - low;
    if (links->pool_count == ef)
        moved--;
    else
        links->pool_count++;
    memmove(pool + low + 1, pool + low, moved * sizeof *pool);
    pool[low] = (struct candidate){distance, row, false};
    return low;
}

/* Algorithm 2 on one level: starts from what the pool holds. */
static void search_level(struct lh_links *links, const struct lh_dataset *data, const float *query,
                         uint32_t level, uint32_t ef, uint64_t *distances)
{
    uint32_t search = ++links->search, next = 0;
    for (uint32_t i = 0; i < links->pool_count; i++) {
        links->pool[i].expanded = false;
        links->visited[links->pool[i].row] = search;
    }
    while (next < links->pool_count) {
        if (links->pool[next].expanded) {
            next++;
            continue;
        }
        links->pool[next].expanded = true;
        const uint32_t *list = links->lists + links->offsets[links->pool[next].row];
        for (uint32_t i = 0; i < level; i++)
            list += 1 + list[0];
        for (uint32_t i = 1; i <= list[0]; i++) {
            uint32_t row = list[i];
            if (links->visited[row] == search)
                continue;
            links->visited[row] = search;
            const float *unit = data->units + (size_t)row * data->dimension;
            float distance = 1 - lh_dataset_dot(query, unit, data->dimension);
            ++*distances;
            uint32_t at = pool_insert(links, ef, distance, row);
            if (at < next)
                next = at;
        }
    }
}

uint32_t lh_links_search(struct lh_links *links, const struct lh_dataset *data, const float *query,
                         uint32_t k, uint32_t ef, uint32_t *rows, uint64_t *distances)
{
    assert(ef >= 1 && ef <= LH_EF_MAX);
    const float *entry = data->units + (size_t)links->entry * data->dimension;
    links->pool[0].distance = 1 - lh_dataset_dot(query, entry, data->dimension);
    links->pool[0].row = links->entry;
    links->pool_count = 1;
    ++*distances;
    for (uint32_t level = links->entry_level; level > 0; level--)
        search_level(links, data, query, level, 1, distances);
    search_level(links, data, query, 0, ef, distances);
    uint32_t found = links->pool_count < k ? links->pool_count : k;
    for (uint32_t i = 0; i < found; i++)
        rows[i] = links->pool[i].row;
    return found;
}
