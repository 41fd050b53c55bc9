/* Vectors inside statements: what SQL's vector functions ask of whoever has the indexes.
 *
 *   vector_search(index, query, k [, ef])   a table: id, distance, metadata, nearest first; `query`
 *                                           may be a parameter, a subquery or another's column
 *   nearest(index, query, k [, ef])         the same
 *   vectors(index)                          every item: id, vector, metadata
 *
 * A session has one provider. Its functions are called on the session's thread, and may block. */
#ifndef LH_SQL_VECTORS_H
#define LH_SQL_VECTORS_H

#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

struct lh_sql_search {
    struct lh_str index;
    const float *queries; /* count x dimension, finite */
    uint32_t count;
    uint32_t dimension;
    uint32_t k;
    uint32_t ef; /* 0: the index's own */
    bool with_metadata;
};

struct lh_sql_item {
    struct lh_str id;
    struct lh_str metadata; /* JSON text of an object; empty when it was not asked for */
    float distance;         /* of a search */
    const float *vector;    /* of a page that has them */
};

struct lh_sql_items {
    struct lh_sql_item *items;
    uint32_t count;
    uint32_t *ends;     /* of a search: ends[i] is how many items answer queries 0..i */
    uint32_t dimension; /* of a page's vectors */
    void *owner;        /* the provider's */
};

struct lh_sql_vectors {
    enum lh_status (*search)(void *arg, const struct lh_sql_search *search,
                             struct lh_sql_items *found, struct lh_error *error);
    /* The next items behind `cursor`, which is empty at first and afterwards at the end. */
    enum lh_status (*page)(void *arg, struct lh_str index, bool with_vector, struct lh_buf *cursor,
                           struct lh_sql_items *found, struct lh_error *error);
    /* Of what one of them has found. */
    void (*release)(struct lh_sql_items *found);
    void *arg;
};

struct lh_sql_session;

/* Before the session's first statement; without it the functions are errors. */
void lh_sql_session_set_vectors(struct lh_sql_session *session,
                                const struct lh_sql_vectors *vectors);

#endif
