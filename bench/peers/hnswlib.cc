// hnswlib behind peers.h. One thread. Its internals are read to export the links: they are public
// members, as of 0.6.2.
#include "peers.h"

#include <hnswlib/hnswlib.h>

struct lh_peer {
    hnswlib::InnerProductSpace space;
    hnswlib::HierarchicalNSW<float> graph;

    explicit lh_peer(const struct lh_peer_options &o)
        : space(o.dimension), graph(&space, o.capacity, o.m, o.ef_construction, o.seed)
    {
    }
};

namespace
{

uint32_t dimension(const lh_peer *peer)
{
    return static_cast<uint32_t>(peer->graph.data_size_ / sizeof(float));
}

struct lh_peer *create(const struct lh_peer_options *options)
{
    return new lh_peer(*options);
}

void destroy(struct lh_peer *peer)
{
    delete peer;
}

void add(struct lh_peer *peer, const float *rows, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        peer->graph.addPoint(rows + static_cast<size_t>(i) * dimension(peer),
                             peer->graph.cur_element_count);
}

// searchKnn answers farthest first.
uint32_t search(struct lh_peer *peer, const float *query, uint32_t k, uint32_t ef, uint32_t *rows)
{
    peer->graph.setEf(ef);
    auto nearest = peer->graph.searchKnn(query, k);
    auto found = static_cast<uint32_t>(nearest.size());
    for (uint32_t i = found; i-- > 0; nearest.pop())
        rows[i] = static_cast<uint32_t>(nearest.top().second);
    return found;
}

uint32_t entry(const struct lh_peer *peer)
{
    return peer->graph.enterpoint_node_;
}

uint32_t level(const void *peer, uint32_t row)
{
    return static_cast<const lh_peer *>(peer)->graph.element_levels_[row];
}

uint32_t links(const void *peer, uint32_t row, uint32_t at_level, uint32_t *linked)
{
    const auto &graph = static_cast<const lh_peer *>(peer)->graph;
    auto *list = graph.get_linklist_at_level(row, static_cast<int>(at_level));
    uint32_t count = graph.getListCount(list);
    for (uint32_t i = 0; i < count; i++)
        linked[i] = list[1 + i];
    return count;
}

} // namespace

const struct lh_peer_kind lh_peer_hnswlib = {"hnswlib", create, destroy, add,
                                             search,    entry,  level,   links};
