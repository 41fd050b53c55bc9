/* /metrics: Prometheus text of every part of the server. Loop thread; other threads' counters are
 * read as they stand. */
#include "actors/gateway.h"

#include "base/clock.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Resident and virtual bytes, from /proc/self/statm (pages). */
static void append_process(struct lh_buf *out)
{
    unsigned long long virtual_pages = 0;
    unsigned long long resident_pages = 0;
    long page = sysconf(_SC_PAGESIZE);
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL)
        return;
    int got = fscanf(file, "%llu %llu", &virtual_pages, &resident_pages);
    fclose(file);
    if (got != 2)
        return;
    lh_metrics_family(out, "process_resident_memory_bytes", "gauge", "Resident memory");
    lh_metrics_sample(out, "process_resident_memory_bytes", "", (double)resident_pages * page);
    lh_metrics_family(out, "process_virtual_memory_bytes", "gauge", "Virtual memory");
    lh_metrics_sample(out, "process_virtual_memory_bytes", "", (double)virtual_pages * page);
}

/* One counter of each worker, as a family with a label a shard. */
static void append_workers(struct lh_buf *out, const struct lh_gateway *gateway, const char *name,
                           const char *help, size_t offset, double scale)
{
    lh_metrics_family(out, name, "counter", help);
    for (uint32_t i = 0; i < gateway->worker_count; i++) {
        const char *metrics = (const char *)&gateway->workers[i].metrics;
        const struct lh_counter *counter = (const void *)(metrics + offset);
        char labels[32];
        snprintf(labels, sizeof labels, "shard=\"%u\"", i);
        lh_metrics_sample(out, name, labels, (double)lh_counter_get(counter) * scale);
    }
}

static void append_shards(struct lh_buf *out, const struct lh_gateway *gateway)
{
    static const char *const lanes[LH_LANES] = {"express", "bulk"};
    char labels[48];
    lh_metrics_family(out, "lakehouse_shard_queue_depth", "gauge",
                      "Parts of requests that wait at a shard worker");
    for (uint32_t i = 0; i < gateway->worker_count; i++) {
        for (int lane = 0; lane < LH_LANES; lane++) {
            snprintf(labels, sizeof labels, "shard=\"%u\",lane=\"%s\"", i, lanes[lane]);
            lh_metrics_sample(out, "lakehouse_shard_queue_depth", labels,
                              (double)lh_worker_depth(&gateway->workers[i], lane));
        }
    }
#define WORKER(name, help, field, scale) \
    append_workers(out, gateway, name, help, offsetof(struct lh_worker_metrics, field), scale)
    WORKER("lakehouse_shard_adds_total", "Items that were new", adds, 1);
    WORKER("lakehouse_shard_updates_total", "Items that replaced one", updates, 1);
    WORKER("lakehouse_shard_deletes_total", "Items deleted", deletes, 1);
    WORKER("lakehouse_shard_searches_total", "Queries answered", searches, 1);
    WORKER("lakehouse_shard_expired_total", "Searches skipped past their deadline", expired, 1);
    WORKER("lakehouse_shard_busy_seconds_total",
           "Time with something to do; its rate is the "
           "busy fraction",
           busy_ns, 1e-9);
#undef WORKER
    lh_metrics_family(out, "lakehouse_shard_bulk_step_seconds", "histogram",
                      "How long one bulk step held up searches");
    for (uint32_t i = 0; i < gateway->worker_count; i++) {
        snprintf(labels, sizeof labels, "shard=\"%u\"", i);
        lh_metrics_histogram(out, "lakehouse_shard_bulk_step_seconds", labels,
                             &gateway->workers[i].metrics.bulk_step);
    }
}

static void append_gauge(struct lh_buf *out, const char *name, const char *help, double value)
{
    lh_metrics_family(out, name, "gauge", help);
    lh_metrics_sample(out, name, "", value);
}

static void append_vectord(struct lh_buf *out, const struct lh_vectord *vectord)
{
    append_gauge(out, "lakehouse_indexes", "Indexes",
                 (double)lh_counter_get(&vectord->metrics.indexes));
    append_gauge(out, "lakehouse_items", "Items in all indexes",
                 (double)lh_counter_get(&vectord->metrics.items));
    append_gauge(out, "lakehouse_vector_bytes", "Memory that shards hold",
                 (double)lh_counter_get(&vectord->metrics.bytes));
    append_gauge(out, "lakehouse_lsn", "Number of the last change",
                 (double)lh_counter_get(&vectord->metrics.lsn));
}

static void append_counter(struct lh_buf *out, const char *name, const char *help,
                           const struct lh_counter *counter)
{
    lh_metrics_family(out, name, "counter", help);
    lh_metrics_sample(out, name, "", (double)lh_counter_get(counter));
}

static void append_checkpoints(struct lh_buf *out, const struct lh_vectord_metrics *metrics)
{
    append_gauge(out, "lakehouse_indexes_loading", "Indexes that are not there yet",
                 (double)lh_counter_get(&metrics->loading));
    append_gauge(out, "lakehouse_indexes_failed", "Indexes that could not be loaded",
                 (double)lh_counter_get(&metrics->failed));
    append_counter(out, "lakehouse_log_replayed_total", "Records looked at since the start",
                   &metrics->replayed);
    append_counter(out, "lakehouse_checkpoints_total", "Index files written",
                   &metrics->checkpoints);
    append_counter(out, "lakehouse_checkpoint_failures_total", "Index files that could not be",
                   &metrics->checkpoint_failures);
    append_counter(out, "lakehouse_checkpoint_bytes_total", "Bytes of index files written",
                   &metrics->checkpoint_bytes);
    lh_metrics_family(out, "lakehouse_checkpoint_seconds", "histogram",
                      "From its begin to its end");
    lh_metrics_histogram(out, "lakehouse_checkpoint_seconds", "", &metrics->checkpoint_time);
}

/* The log and the disk, where there is one. */
static void append_persister(struct lh_buf *out, const struct lh_persister *persister)
{
    char labels[32];
    if (persister == NULL)
        return;
    const struct lh_wal_metrics *log = lh_wal_metrics(persister->wal);
    lh_metrics_family(out, "lakehouse_disk_io", "gauge", "How files are written");
    snprintf(labels, sizeof labels, "io=\"%s\"", lh_disk_name(persister->options.disk));
    lh_metrics_sample(out, "lakehouse_disk_io", labels, 1);
    append_counter(out, "lakehouse_log_records_total", "Changes written to the log", &log->records);
    append_counter(out, "lakehouse_log_bytes_total", "Bytes written to the log", &log->bytes);
    append_counter(out, "lakehouse_log_groups_total",
                   "Writes of the log; records by groups is the mean group", &log->groups);
    append_counter(out, "lakehouse_log_syncs_total", "Syncs of the log", &log->syncs);
    append_counter(out, "lakehouse_log_failures_total", "Writes and syncs that failed",
                   &log->failures);
    append_gauge(out, "lakehouse_log_live_bytes", "Log that no checkpoint has made superfluous",
                 (double)lh_counter_get(&log->live_bytes));
    lh_metrics_family(out, "lakehouse_log_sync_seconds", "histogram", "One sync of the log");
    lh_metrics_histogram(out, "lakehouse_log_sync_seconds", "", &log->sync_time);
}

static void append_gateway(struct lh_buf *out, const struct lh_gateway *gateway)
{
    lh_metrics_family(out, "lakehouse_credits", "gauge", "Requests that may still be let in");
    lh_metrics_sample(out, "lakehouse_credits", "lane=\"express\"",
                      gateway->admission.lanes[LH_LANE_EXPRESS].left);
    lh_metrics_sample(out, "lakehouse_credits", "lane=\"bulk\"",
                      gateway->admission.lanes[LH_LANE_BULK].left);
    lh_metrics_family(out, "lakehouse_waiting", "gauge", "Requests that wait for a credit");
    lh_metrics_sample(out, "lakehouse_waiting", "lane=\"express\"",
                      (double)gateway->admission.lanes[LH_LANE_EXPRESS].waiting);
    lh_metrics_sample(out, "lakehouse_waiting", "lane=\"bulk\"",
                      (double)gateway->admission.lanes[LH_LANE_BULK].waiting);
    append_gauge(out, "lakehouse_requests_in_flight", "Requests behind the gateway",
                 (double)gateway->in_flight);
    append_gauge(out, "lakehouse_ndjson_streams", "NDJSON bodies that are being read",
                 gateway->streams);
    lh_metrics_family(out, "lakehouse_refused_total", "counter", "Requests refused for overload");
    lh_metrics_sample(out, "lakehouse_refused_total", "", (double)gateway->refused);
}

static void append_peer(struct lh_buf *out, const struct lh_peer *peer,
                        const struct lh_vectord *vectord)
{
    /* Nothing is pending only when all has been heard that vectord has told; how many indexes that
     * is about is not known before. In this order: what is heard meanwhile is in `pending`. */
    uint64_t heard = lh_counter_get(&peer->metrics.notes);
    bool is_all_heard = lh_counter_get(&vectord->metrics.peer_notes) == heard;
    uint64_t counted = lh_counter_get(&peer->metrics.pending);
    uint64_t pending = counted == 0 && !is_all_heard ? 1 : counted;
    uint64_t success_ns = lh_counter_get(&peer->metrics.success_ns);
    lh_metrics_family(out, "lakehouse_peer_uploads_total", "counter",
                      "Index files that the storaged peer has taken");
    lh_metrics_sample(out, "lakehouse_peer_uploads_total", "",
                      (double)lh_counter_get(&peer->metrics.uploads));
    lh_metrics_family(out, "lakehouse_peer_downloads_total", "counter",
                      "Index files that came from the storaged peer");
    lh_metrics_sample(out, "lakehouse_peer_downloads_total", "",
                      (double)lh_counter_get(&peer->metrics.downloads));
    lh_metrics_family(out, "lakehouse_peer_failures_total", "counter",
                      "Calls of the storaged peer that failed, and are tried again");
    lh_metrics_sample(out, "lakehouse_peer_failures_total", "",
                      (double)lh_counter_get(&peer->metrics.failures));
    append_gauge(out, "lakehouse_peer_pending",
                 "Indexes whose object is not known to be what it should be", (double)pending);
    if (success_ns != 0)
        append_gauge(out, "lakehouse_peer_success_age_seconds",
                     "Time since a call of the storaged peer last went well",
                     (double)(lh_clock_ns() - success_ns) * 1e-9);
}

static void append_storaged(struct lh_buf *out, const struct lh_storaged_metrics *metrics)
{
    append_counter(out, "lakehouse_objects_put_total", "Objects put", &metrics->puts);
    append_counter(out, "lakehouse_objects_got_total", "Objects got, whole or in part",
                   &metrics->gets);
    append_counter(out, "lakehouse_objects_deleted_total", "Deletes answered", &metrics->deletes);
    append_counter(out, "lakehouse_objects_listed_total", "Pages of lists", &metrics->lists);
    append_counter(out, "lakehouse_objects_failures_total",
                   "Object calls that failed by no fault of the client's", &metrics->errors);
    append_counter(out, "lakehouse_objects_put_bytes_total", "Bytes of objects taken",
                   &metrics->bytes_in);
    append_counter(out, "lakehouse_objects_got_bytes_total", "Bytes of objects given",
                   &metrics->bytes_out);
    append_counter(out, "lakehouse_objects_folder_syncs_total",
                   "Syncs of folders; one may be for many objects", &metrics->folder_syncs);
    append_gauge(out, "lakehouse_objects_in_flight", "Object calls that the store has begun",
                 (double)lh_counter_get(&metrics->in_flight));
    append_gauge(out, "lakehouse_objects_listed", "1 once all objects are counted",
                 (double)lh_counter_get(&metrics->is_listed));
    append_gauge(out, "lakehouse_objects", "Objects known", (double)lh_counter_get(&metrics->keys));
    append_gauge(out, "lakehouse_objects_index_bytes", "Memory of the index of keys",
                 (double)lh_counter_get(&metrics->index_bytes));
}

static void append_s3(struct lh_buf *out, const struct lh_storaged_s3_metrics *metrics)
{
    append_counter(out, "lakehouse_s3_requests_total", "Requests to the S3 store, with every try",
                   &metrics->requests);
    append_counter(out, "lakehouse_s3_retries_total", "Of them, those that will be tried again",
                   &metrics->retries);
    append_counter(out, "lakehouse_s3_failures_total",
                   "Requests to the S3 store that were given up by no fault of the client's",
                   &metrics->failures);
    append_gauge(out, "lakehouse_s3_upload_bytes",
                 "Room given to uploads until the S3 store has them",
                 (double)lh_counter_get(&metrics->upload_bytes));
}

void lh_handle_metrics(struct lh_http_call *call, void *context)
{
    struct lh_gateway *gateway = context;
    struct lh_buf out = LH_BUF_EMPTY;
    lh_access_metrics(gateway->access, &out);
    lh_http_server_metrics(gateway->http, &out);
    append_gateway(&out, gateway);
    lh_proxy_metrics(&gateway->proxy, &out);
    if (gateway->vectord != NULL) {
        append_vectord(&out, gateway->vectord);
        append_checkpoints(&out, &gateway->vectord->metrics);
        append_persister(&out, gateway->vectord->options.persister);
        append_shards(&out, gateway);
    }
    if (gateway->peer != NULL)
        append_peer(&out, gateway->peer, gateway->vectord);
    if (gateway->catalog != NULL)
        lh_catalog_metrics(gateway->catalog, &out);
    if (gateway->queryd != NULL)
        lh_queryd_metrics(gateway->queryd, &out);
    if (gateway->ingestd != NULL)
        lh_ingestd_metrics(gateway->ingestd, &out);
    if (gateway->storaged_metrics != NULL)
        append_storaged(&out, gateway->storaged_metrics);
    if (gateway->s3_metrics != NULL)
        append_s3(&out, gateway->s3_metrics);
    append_process(&out);
    lh_http_answer(call, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
}
