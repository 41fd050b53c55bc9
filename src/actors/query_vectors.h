/* The vector functions of SQL, answered by the vector service. */
#ifndef LH_ACTORS_QUERY_VECTORS_H
#define LH_ACTORS_QUERY_VECTORS_H

#include "actors/vector_client.h"
#include "net/client.h"
#include "sql/vectors.h"

struct lh_query_vectors {
    struct lh_vector_client *client; /* NULL: it is not in this process */
    struct lh_http_client *http;     /* to the one in another; NULL: there is none */
    const struct lh_reach *reach;    /* of the statement that runs */
    enum lh_status status;           /* of a call that has failed, for the worker to clear */
};

/* What a session is given; `vectors` outlives it. */
struct lh_sql_vectors lh_query_vectors_provider(struct lh_query_vectors *vectors);

/* ---- between its files: the same over HTTP ---- */

LH_MUST_USE enum lh_status lh_query_vectors_search_remote(struct lh_http_client *http,
                                                          const struct lh_sql_search *search,
                                                          struct lh_sql_items *items,
                                                          struct lh_error *error);
LH_MUST_USE enum lh_status lh_query_vectors_page_remote(struct lh_http_client *http,
                                                        struct lh_str index, bool with_vector,
                                                        uint32_t limit, struct lh_buf *cursor,
                                                        struct lh_sql_items *items,
                                                        struct lh_error *error);
void lh_query_vectors_release_remote(struct lh_sql_items *items);

/* Adds lines of NDJSON. An error's text is the other's, which counts lines from the first of these.
 */
LH_MUST_USE enum lh_status lh_query_vectors_add_remote(struct lh_http_client *http,
                                                       struct lh_str index, const char *durability,
                                                       struct lh_str lines, uint64_t *added,
                                                       uint64_t *updated, struct lh_error *error);

#endif
