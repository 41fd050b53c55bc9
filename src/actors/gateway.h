/* The gateway: the front door on the loop. Makes a request of each call, admits it, and answers
 * the call when the request comes back. */
#ifndef LH_ACTORS_GATEWAY_H
#define LH_ACTORS_GATEWAY_H

#include "actors/access.h"
#include "actors/admission.h"
#include "actors/catalog_service.h"
#include "actors/decoder.h"
#include "actors/ingestd.h"
#include "actors/notify.h"
#include "actors/peer.h"
#include "actors/proxy.h"
#include "actors/queryd.h"
#include "actors/storaged.h"
#include "actors/storaged_s3.h"
#include "actors/vectord.h"
#include "base/log.h"
#include "net/http.h"

struct lh_gateway_options {
    uint32_t search_credits; /* express requests in flight behind the gateway */
    uint32_t add_credits;    /* bulk requests in flight */
    uint64_t search_timeout_ms;
    enum lh_durability durability; /* what is configured; a request may ask for less */
    uint64_t answer_bytes_max;     /* expected of large answers in flight; past it they wait */
    const struct lh_log *log;
};

struct lh_gateway {
    struct lh_gateway_options options;
    struct lh_http_server *http;
    struct lh_access *access;
    struct lh_queryd *queryd;   /* NULL: it is elsewhere */
    struct lh_catalog *catalog; /* NULL: it is elsewhere */
    struct lh_ingestd *ingestd; /* NULL: it is elsewhere */
    struct lh_decoder_actor *decoders;
    uint32_t decoder_count; /* even: the second half is for large bodies */
    uint32_t next_decoder;
    struct lh_vectord *vectord; /* NULL: it is in another process */
    struct lh_proxy proxy;
    const struct lh_peer *peer;                         /* NULL: there is none */
    struct lh_actor *storaged;                          /* takes transfers; NULL: there is none */
    const struct lh_storaged_metrics *storaged_metrics; /* NULL: there is none with the disk */
    const struct lh_storaged_s3_metrics *s3_metrics;    /* NULL: there is none on S3 */
    struct lh_worker *workers;
    uint32_t worker_count;
    struct lh_admission admission;       /* whose requests wait, their sockets are not read */
    struct lh_msg_queue waiting_answers; /* decoded: until large answers have room */
    struct lh_msg_queue held;            /* refused: told so at their deadline_ns */
    uint64_t answer_bytes;               /* expected of large answers in flight */
    uint64_t in_flight;                  /* requests that exist */
    uint32_t transfers;                  /* of them, object calls */
    uint32_t streams;                    /* NDJSON bodies that are being read */
    uint64_t refused;                    /* 503 for want of credit */
    bool is_stopping;
    bool is_tick_out; /* `tick` is with vectord or the persister */
    uint64_t ticked_ns;
    struct lh_tick tick;
    struct lh_notify notify;
    struct lh_buf openapi;
};

/* The route table, for the server and for /openapi.json. */
extern const struct lh_route lh_routes[];
extern const size_t lh_route_count;

LH_MUST_USE enum lh_status lh_gateway_init(struct lh_gateway *gateway,
                                           const struct lh_gateway_options *options);
void lh_gateway_deinit(struct lh_gateway *gateway);

/* What the HTTP server calls; `context` is the gateway. */
void lh_gateway_on_head(struct lh_http_call *call, void *context);
void lh_gateway_on_message(struct lh_msg *msg, void *context);
void lh_gateway_on_tick(void *context);
void lh_gateway_on_stopped(void *context);

/* For routes of services in other processes. */
void lh_gateway_forward(struct lh_http_call *call, void *context);

/* ---- handlers, as the route table names them ---- */
void lh_handle_health(struct lh_http_call *call, void *context);
void lh_handle_ready(struct lh_http_call *call, void *context);
void lh_handle_metrics(struct lh_http_call *call, void *context);
void lh_handle_openapi(struct lh_http_call *call, void *context);
void lh_handle_index_create(struct lh_http_call *call, void *context);
void lh_handle_index_list(struct lh_http_call *call, void *context);
void lh_handle_index_get(struct lh_http_call *call, void *context);
void lh_handle_index_reshard(struct lh_http_call *call, void *context);
void lh_handle_index_checkpoint(struct lh_http_call *call, void *context);
void lh_handle_index_drop(struct lh_http_call *call, void *context);
void lh_handle_add(struct lh_http_call *call, void *context);
void lh_handle_search(struct lh_http_call *call, void *context);
void lh_handle_item_get(struct lh_http_call *call, void *context);
void lh_handle_item_drop(struct lh_http_call *call, void *context);
void lh_handle_items_delete(struct lh_http_call *call, void *context);
void lh_handle_items_page(struct lh_http_call *call, void *context);
void lh_handle_object_put(struct lh_http_call *call, void *context);
void lh_handle_object_get(struct lh_http_call *call, void *context);
void lh_handle_object_delete(struct lh_http_call *call, void *context);
void lh_handle_object_list(struct lh_http_call *call, void *context);

void lh_handle_dataset_register(struct lh_http_call *call, void *context);
void lh_handle_dataset_get(struct lh_http_call *call, void *context);
void lh_handle_dataset_delete(struct lh_http_call *call, void *context);
void lh_handle_dataset_list(struct lh_http_call *call, void *context);

/* ---- between the files of the gateway ---- */

/* Whether the body is said to be JSON; if not, the call has been answered. */
bool lh__gateway_check_json(struct lh_http_call *call);
/* A query parameter that is true or false, and false when it is absent. LH_INVALID_ARGUMENT. */
LH_MUST_USE enum lh_status lh__gateway_parse_flag(const struct lh_http_call *call, const char *name,
                                                  bool *flag, struct lh_error *error);

/* A call of the catalog has come back. */
void lh__catalog_back(struct lh_gateway *gateway, struct lh_catalog_call *made);

/* Makes the request of a call, with its index's name from the path. Answers the call and returns
 * NULL when it cannot. */
struct lh_request *lh__gateway_request(struct lh_gateway *gateway, struct lh_http_call *call,
                                       enum lh_op op);
/* "?durability=": what a change must have reached before it is answered. What is configured is the
 * most that can be asked for: no more is done for others at its cost. LH_INVALID_ARGUMENT. */
LH_MUST_USE enum lh_status lh__gateway_durability(const struct lh_gateway *gateway,
                                                  const struct lh_http_call *call,
                                                  enum lh_durability *durability,
                                                  struct lh_error *error);
/* Sends it on its way, or lets it wait for a credit, or refuses it. */
void lh__gateway_admit(struct lh_gateway *gateway, struct lh_request *request);
/* Frees a request and lets the next one in. */
void lh__gateway_release(struct lh_gateway *gateway, struct lh_request *request);
/* Gives back the credits that it holds, if any, and lets others in. */
void lh__gateway_give_credits(struct lh_gateway *gateway, struct lh_request *request);

/* An NDJSON body begins; a piece of one has come back. */
void lh__ndjson_begin(struct lh_gateway *gateway, struct lh_http_call *call);
void lh__ndjson_back(struct lh_gateway *gateway, struct lh_request *request);

/* A transfer has come back from the store. */
void lh__object_back(struct lh_gateway *gateway, struct lh_transfer *transfer);

#endif
