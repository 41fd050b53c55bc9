/* HTTP metrics. Loop thread; the primitives may be read from any.
 *
 * One row a route and one for requests that matched none, counted by the status they got. */
#include "net/internal.h"

#include <stdio.h>
#include <stdlib.h>

/* Every status this server sends, 499 for a client that left before its answer, and 0 for others,
 * which an upstream may have sent. */
static const int lh__statuses[] = {200, 201, 202, 204, 206, 304, 400, 401, 403, 404, 405,
                                   408, 409, 411, 412, 413, 414, 415, 416, 417, 422, 429,
                                   431, 499, 500, 501, 502, 503, 504, 505, 507, 508, 0};

#define LH__STATUSES (sizeof lh__statuses / sizeof *lh__statuses)

enum lh_status lh__metrics_create(struct lh_http_server *server)
{
    size_t rows = server->options.route_count + 1;

    server->route_metrics = calloc(rows, sizeof *server->route_metrics);
    server->status_counters = calloc(rows * LH__STATUSES, sizeof *server->status_counters);
    if (server->route_metrics == NULL || server->status_counters == NULL) {
        return LH_OUT_OF_MEMORY; /* lh__metrics_destroy frees either */
    }
    for (size_t i = 0; i < rows; i++) {
        server->route_metrics[i].by_status = server->status_counters + i * LH__STATUSES;
    }
    return LH_OK;
}

void lh__metrics_destroy(struct lh_http_server *server)
{
    free(server->route_metrics);
    free(server->status_counters);
}

void lh__metrics_answered(struct lh_http_call *call)
{
    struct lh_http_server *server = call->conn->server;
    size_t row =
        call->route ? (size_t)(call->route - server->options.routes) : server->options.route_count;
    struct lh__route_metrics *metrics = &server->route_metrics[row];
    size_t i = 0;

    while (i + 1 < LH__STATUSES && lh__statuses[i] != call->status) {
        i++;
    }
    lh_counter_add(&metrics->by_status[i], 1);
    if (call->started_ns != 0) {
        lh_histogram_observe(&metrics->latency, lh_clock_ns() - call->started_ns);
    }
}

static const char *lh__row_name(const struct lh_http_server *server, size_t row)
{
    return row < server->options.route_count ? server->options.routes[row].operation : "none";
}

static void lh__gauge(struct lh_buf *out, const char *name, const char *help, double value)
{
    lh_metrics_family(out, name, "gauge", help);
    lh_metrics_sample(out, name, "", value);
}

void lh_http_server_metrics(const struct lh_http_server *server, struct lh_buf *out)
{
    char labels[128];

    lh_metrics_family(out, "lakehouse_http_requests_total", "counter",
                      "Requests answered, by route and status.");
    for (size_t row = 0; row <= server->options.route_count; row++) {
        for (size_t i = 0; i < LH__STATUSES; i++) {
            uint64_t count = lh_counter_get(&server->route_metrics[row].by_status[i]);
            if (count > 0) {
                char status[8];
                snprintf(status, sizeof status, lh__statuses[i] ? "%d" : "other", lh__statuses[i]);
                snprintf(labels, sizeof labels, "route=\"%s\",status=\"%s\"",
                         lh__row_name(server, row), status);
                lh_metrics_sample(out, "lakehouse_http_requests_total", labels, (double)count);
            }
        }
    }
    lh_metrics_family(out, "lakehouse_http_request_seconds", "histogram",
                      "From the end of the header to the end of the answer, by route.");
    for (size_t row = 0; row <= server->options.route_count; row++) {
        snprintf(labels, sizeof labels, "route=\"%s\"", lh__row_name(server, row));
        lh_metrics_histogram(out, "lakehouse_http_request_seconds", labels,
                             &server->route_metrics[row].latency);
    }
    lh__gauge(out, "lakehouse_http_connections", "Open client connections.", server->conn_count);
    lh__gauge(out, "lakehouse_http_body_bytes_in_flight",
              "Bytes of request bodies reserved, being read or with a service.",
              (double)server->body_bytes);
    lh__gauge(out, "lakehouse_http_body_bytes_waiting",
              "Bytes of announced request bodies that wait for memory, unread.",
              (double)server->body_bytes_waiting);
    lh__gauge(out, "lakehouse_http_answer_bytes_queued",
              "Bytes of answers that their clients have not taken yet.",
              (double)server->answer_bytes);
    lh_metrics_family(out, "lakehouse_http_answer_bytes_spliced_total", "counter",
                      "Bytes of answers that went from a file to the socket without a copy.");
    lh_metrics_sample(out, "lakehouse_http_answer_bytes_spliced_total", "",
                      (double)lh_counter_get(&server->spliced_bytes));
    lh_metrics_family(out, "lakehouse_http_connections_accepted_total", "counter",
                      "Client connections accepted.");
    lh_metrics_sample(out, "lakehouse_http_connections_accepted_total", "",
                      (double)lh_counter_get(&server->accepted));
    lh_metrics_family(out, "lakehouse_http_connections_refused_total", "counter",
                      "Client connections answered 503 because connections_max was reached.");
    lh_metrics_sample(out, "lakehouse_http_connections_refused_total", "",
                      (double)lh_counter_get(&server->refused));
}
