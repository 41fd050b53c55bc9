// faiss IndexHNSWFlat behind peers.h. One thread.
#include "peers.h"

#include <faiss/IndexHNSW.h>
#include <omp.h>

struct lh_peer {
    faiss::IndexHNSWFlat index;

    explicit lh_peer(const struct lh_peer_options &o)
        : index(static_cast<int>(o.dimension), static_cast<int>(o.m), faiss::METRIC_INNER_PRODUCT)
    {
        index.hnsw.efConstruction = static_cast<int>(o.ef_construction);
        index.hnsw.rng = faiss::RandomGenerator(o.seed);
    }
};

namespace
{

struct lh_peer *create(const struct lh_peer_options *options)
{
    omp_set_num_threads(1);
    return new lh_peer(*options);
}

void destroy(struct lh_peer *peer)
{
    delete peer;
}

void add(struct lh_peer *peer, const float *rows, uint32_t count)
{
    peer->index.add(count, rows);
}

uint32_t search(struct lh_peer *peer, const float *query, uint32_t k, uint32_t ef, uint32_t *rows)
{
    std::vector<faiss::Index::idx_t> labels(k);
    std::vector<float> distances(k);
    peer->index.hnsw.efSearch = static_cast<int>(ef);
    peer->index.search(1, query, k, distances.data(), labels.data());
    uint32_t found = 0;
    for (; found < k && labels[found] >= 0; found++)
        rows[found] = static_cast<uint32_t>(labels[found]);
    return found;
}

uint32_t entry(const struct lh_peer *peer)
{
    return static_cast<uint32_t>(peer->index.hnsw.entry_point);
}

// faiss counts levels from one.
uint32_t level(const void *peer, uint32_t row)
{
    return static_cast<const lh_peer *>(peer)->index.hnsw.levels[row] - 1;
}

uint32_t links(const void *peer, uint32_t row, uint32_t at_level, uint32_t *linked)
{
    const auto &hnsw = static_cast<const lh_peer *>(peer)->index.hnsw;
    size_t begin, end;
    hnsw.neighbor_range(row, static_cast<int>(at_level), &begin, &end);
    uint32_t count = 0;
    for (size_t i = begin; i < end && hnsw.neighbors[i] >= 0; i++)
        linked[count++] = static_cast<uint32_t>(hnsw.neighbors[i]);
    return count;
}

} // namespace

const struct lh_peer_kind lh_peer_faiss = {"faiss", create, destroy, add,
                                           search,  entry,  level,   links};
