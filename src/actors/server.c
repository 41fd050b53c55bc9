/* Starting and stopping. Runs on the main thread, which becomes the loop.
 *
 * The way of a request is loop, decoder, vectord, worker and back; the loop ends only when none is
 * in flight, so the threads behind it stop with empty mailboxes. */
#include "actors/server.h"

#include "base/clock.h"
#include "store/object_key.h"
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A peer's copies are as old as the last checkpoint: the log of what came since must be here. */
#define PEER_DATA_DIR "lakehouse-data"

uint32_t lh_server_cores(void)
{
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof cpus, &cpus) != 0)
        return 1;
    int count = CPU_COUNT(&cpus);
    return count > 0 ? (uint32_t)count : 1;
}

static uint32_t or_default(uint64_t configured, uint32_t fallback)
{
    return configured != 0 ? (uint32_t)configured : fallback;
}

/* NULL when it is empty; the configuration outlives the server. */
static const char *path_of(const struct lh_config *config, const char *key)
{
    struct lh_str path = lh_config_string(config, key);
    return path.len > 0 ? path.ptr : NULL; /* ends in a NUL, and has no other */
}

static enum lh_status make_http(struct lh_server *server, const struct lh_config *config,
                                struct lh_error *error)
{
#define MILLIS(key) (uint32_t) lh_config_integer(config, key)
    struct lh_http_options options = {
        .routes = lh_routes,
        .route_count = lh_route_count,
        .context = &server->gateway,
        .on_head = lh_gateway_on_head,
        .on_hangup = lh_server_on_hangup,
        .forwarded = lh_services_elsewhere(&server->services),
        .forward = lh_gateway_forward,
        .on_message = lh_gateway_on_message,
        .on_tick = lh_gateway_on_tick,
        .on_stopped = lh_gateway_on_stopped,
        .log = &server->log,
        .body_bytes_max = lh_config_integer(config, "server.body_bytes_max"),
        .body_bytes_in_flight_max = lh_config_integer(config, "server.body_bytes_in_flight_max"),
        .connections_max = (uint32_t)lh_config_integer(config, "server.connections_max"),
        .header_timeout_ms = MILLIS("server.header_timeout"),
        .idle_timeout_ms = MILLIS("server.idle_timeout"),
        .body_rate_bytes_min = (uint32_t)lh_config_integer(config, "server.body_rate_min"),
        .write_timeout_ms = MILLIS("server.write_timeout"),
        .drain_timeout_ms = MILLIS("server.drain_timeout"),
        .tls_certificate = path_of(config, "server.tls_certificate"),
        .tls_key = path_of(config, "server.tls_key"),
    };
#undef MILLIS
    return lh_http_server_create(&options, &server->http, error);
}

static enum lh_status listen_on(struct lh_server *server, const struct lh_config *config,
                                enum lh_http_service service, struct lh_error *error)
{
    const struct lh_service_place *place = lh_services_find(&server->services, service);
    struct lh_config_address configured = lh_config_bind(config, place->bind_key);
    struct lh_http_bind bind = {configured.host, configured.port, service};
    if (!place->listens)
        return LH_OK;
    enum lh_status status = lh_http_server_listen(server->http, &bind, error);
    if (status != LH_OK)
        lh_config_blame(config, place->bind_key, error);
    return status;
}

static void make_actors(struct lh_server *server, const struct lh_config *config)
{
    struct lh_mailbox *gateway = lh_http_server_mailbox(server->http);
    struct lh_vectord_options options = {
        .workers = server->workers,
        .worker_count = server->worker_count,
        .default_shards = server->worker_count,
        .memory_bytes_max = lh_config_integer(config, "server.memory_max"),
        .persister = server->is_kept ? &server->persister : NULL,
        .recovery = server->is_kept ? &server->recovery : NULL,
        .peer = server->has_peer ? &server->peer.actor : NULL,
        .checkpoint_bytes = lh_config_integer(config, "vectord.checkpoint_bytes"),
        .checkpoint_age_ms = lh_config_integer(config, "vectord.checkpoint_age"),
        .clock_ns = lh_clock_ns,
        .gateway = gateway,
        .log = &server->log,
    };
    for (uint32_t i = 0; i < server->worker_count; i++)
        lh_worker_init(&server->workers[i], i);
    lh_vectord_init(&server->vectord, &options);
    server->actors_made = true;
}

/* The choice "a|b|c" that a key has, as its number. */
static unsigned choice(const struct lh_config *config, const char *key, const char *const *names)
{
    unsigned i = 0;
    while (!lh_str_eq(lh_config_string(config, key), lh_str_of(names[i])))
        i++; /* the configuration holds no other */
    return i;
}

enum lh_disk_io lh_server_io(const struct lh_config *config)
{
    static const char *const names[] = {"auto", "uring", "blocking"};
    return (enum lh_disk_io)choice(config, "server.io", names);
}

static unsigned durability_of(const struct lh_config *config)
{
    static const char *const names[] = {"commit", "interval", "none"};
    return choice(config, "vectord.durability", names);
}

enum lh_status lh_server_objects(const struct lh_server *server, const struct lh_config *config,
                                 const char *url_key, struct lh_object_client_options *options,
                                 struct lh_error *error)
{
    const struct lh_secrets *secrets = server->access.secrets;
    struct lh_str url = lh_config_string(config, url_key);
    bool is_here = lh_services_find(&server->services, LH_HTTP_STORAGED)->is_here;
    bool is_own = is_here && (url.len == 0 || lh_services_is_own_url(config, "storaged.bind", url));
    *options = (struct lh_object_client_options){0};
    if (is_own) {
        options->storaged = server->gateway.storaged;
        if (options->storaged != NULL || url.len == 0)
            return LH_OK;
        lh_error_set(error, LH_CONFIG,
                     "it is this server's own, which keeps no objects without storaged.root");
        lh_config_blame(config, url_key, error);
        return LH_CONFIG;
    }
    options->url = url;
    options->token = secrets != NULL ? secrets->peer_token : NULL;
    return LH_OK;
}

/* The storaged peer's actor sees the same folder through a disk of its own. */
static enum lh_status make_peer(struct lh_server *server, const struct lh_config *config,
                                const char *data_dir, struct lh_error *error)
{
    struct lh_str url = lh_config_string(config, "vectord.storaged_url");
    struct lh_peer_options options = {.log = &server->log, .vectord = &server->vectord.actor};
    if (url.len == 0)
        return LH_OK;
    enum lh_status status =
        lh_server_objects(server, config, "vectord.storaged_url", &options.objects, error);
    if (status == LH_OK)
        status = lh_disk_open_plain(data_dir, &options.disk, error);
    if (status != LH_OK)
        return status;
    status = lh_peer_init(&server->peer, &options, error);
    server->has_peer = status == LH_OK;
    if (status != LH_OK)
        lh_disk_destroy(options.disk);
    else
        lh_log_line(&server->log, LH_LOG_INFO, "storaged peer",
                    LH_LOG_STR("vectord.storaged_url", url),
                    LH_LOG_TEXT("by", options.objects.storaged != NULL ? "messages" : "HTTP"),
                    LH_LOG_TEXT("data_dir", data_dir));
    return status;
}

/* Opens vectord.data_dir and reads what is there; nothing when there is none. */
static enum lh_status open_disk(struct lh_server *server, const struct lh_config *config,
                                struct lh_error *error)
{
    struct lh_str folder = lh_config_string(config, "vectord.data_dir");
    if (folder.len == 0 && lh_config_string(config, "vectord.storaged_url").len > 0)
        folder = LH_STR(PEER_DATA_DIR);
    struct lh_persister_options options = {
        .log = &server->log,
        .segment_bytes = lh_config_integer(config, "vectord.log_segment_bytes"),
        .sync_interval_ms = lh_config_integer(config, "vectord.sync_interval"),
        .clock_ns = lh_clock_ns,
        .vectord = &server->vectord.actor,
        .gateway = lh_http_server_mailbox(server->http),
    };
    struct lh_disk_options disk = {.key = "data_dir", .lock = "lock", .io = lh_server_io(config)};
    char path[4096];
    char note[160];
    if (folder.len == 0)
        return LH_OK;
    if (folder.len >= sizeof path)
        return lh_error_set(error, LH_CONFIG, "vectord.data_dir: longer than %zu bytes",
                            sizeof path - 1);
    memcpy(path, folder.ptr, folder.len);
    path[folder.len] = '\0';
    enum lh_status status = lh_disk_open_folder(path, &disk, &options.disk, note, error);
    if (status != LH_OK) {
        lh_config_blame(config, "vectord.data_dir", error);
        return status;
    }
    lh_log_line(&server->log, note[0] == '\0' ? LH_LOG_INFO : LH_LOG_WARN, "disk opened",
                LH_LOG_TEXT("data_dir", path), LH_LOG_TEXT("io", lh_disk_name(options.disk)),
                LH_LOG_TEXT("note", note));
    status = lh_persister_init(&server->persister, &options, &server->recovery, error);
    server->is_kept = status == LH_OK;
    if (status != LH_OK)
        lh_disk_destroy(options.disk);
    return status == LH_OK ? make_peer(server, config, path, error) : status;
}

/* Storaged on S3. */
static enum lh_status open_s3(struct lh_server *server, const struct lh_config *config,
                              struct lh_error *error)
{
    enum lh_status status = lh_storaged_s3_open(&server->storaged_s3, config,
                                                server->access.secrets, &server->log, error);
    server->has_s3 = status == LH_OK;
    if (status != LH_OK)
        return status;
    server->gateway.storaged = &server->storaged_s3.actor;
    server->gateway.s3_metrics = &server->storaged_s3.metrics;
    return listen_on(server, config, LH_HTTP_STORAGED, error);
}

/* Opens storaged.root; nothing when there is none. */
static enum lh_status open_storaged(struct lh_server *server, const struct lh_config *config,
                                    struct lh_error *error)
{
    struct lh_str folder = lh_config_string(config, "storaged.root");
    struct lh_disk_options disk = {.key = "storaged.root",
                                   .lock = LH_OBJECT_LOCK_FILE,
                                   .io = lh_server_io(config),
                                   .is_shared = true};
    char path[4096];
    char note[160];
    struct lh_storaged_options options = {.root = path, .log = &server->log};
    bool is_on_s3;
    if (lh_server_backend(config, &is_on_s3, error) != LH_OK)
        return error->status;
    if (is_on_s3)
        return open_s3(server, config, error);
    if (folder.len == 0)
        return LH_OK;
    if (folder.len >= sizeof path)
        return lh_error_set(error, LH_CONFIG, "storaged.root: longer than %zu bytes",
                            sizeof path - 1);
    memcpy(path, folder.ptr, folder.len);
    path[folder.len] = '\0';
    enum lh_status status = lh_disk_open_folder(path, &disk, &options.disk, note, error);
    if (status != LH_OK) {
        lh_config_blame(config, "storaged.root", error);
        return status;
    }
    status = lh_disk_open_plain(path, &options.walk_disk, error);
    if (status == LH_OK)
        status = lh_storaged_init(&server->storaged, &options, error);
    server->has_storaged = status == LH_OK;
    if (status != LH_OK) {
        lh_disk_destroy(options.walk_disk);
        lh_disk_destroy(options.disk);
        return status;
    }
    server->gateway.storaged = &server->storaged.actor;
    server->gateway.storaged_metrics = &server->storaged.metrics;
    lh_log_line(&server->log, note[0] == '\0' ? LH_LOG_INFO : LH_LOG_WARN, "object store opened",
                LH_LOG_TEXT("storaged.root", path), LH_LOG_TEXT("io", lh_disk_name(options.disk)),
                LH_LOG_TEXT("note", note));
    return listen_on(server, config, LH_HTTP_STORAGED, error);
}

static enum lh_status make_decoders(struct lh_server *server, struct lh_error *error)
{
    struct lh_mailbox *gateway = lh_http_server_mailbox(server->http);
    for (uint32_t i = 0; i < server->decoder_count; i++) {
        enum lh_status status =
            lh_decoder_actor_init(&server->decoders[i], i, &server->vectord.actor, gateway);
        server->decoders_made++;
        if (status != LH_OK)
            return lh_error_set(error, status, "not enough memory for a decoder");
    }
    return LH_OK;
}

/* The vector service, all but its threads. */
static enum lh_status make_vectord(struct lh_server *server, const struct lh_config *config,
                                   struct lh_error *error)
{
    uint32_t cores = lh_server_cores();
    server->worker_count = or_default(lh_config_integer(config, "vectord.shards"), cores);
    server->decoder_count =
        2 * or_default(lh_config_integer(config, "server.decoders"), cores < 4 ? 1 : cores / 4);
    server->workers = calloc(server->worker_count, sizeof *server->workers);
    server->decoders = calloc(server->decoder_count, sizeof *server->decoders);
    if (server->workers == NULL || server->decoders == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to start");
    enum lh_status status = open_disk(server, config, error);
    if (status != LH_OK)
        return status;
    make_actors(server, config);
    return make_decoders(server, error);
}

static enum lh_status start_threads(struct lh_server *server, struct lh_error *error)
{
    enum lh_status status = LH_OK;
    if (server->is_kept)
        status = lh_actor_start(&server->persister.actor, error);
    if (status == LH_OK)
        status = lh_actor_start(&server->vectord.actor, error);
    if (server->has_peer && status == LH_OK)
        status = lh_actor_start(&server->peer.actor, error);
    for (uint32_t i = 0; i < server->worker_count && status == LH_OK; i++)
        status = lh_actor_start(&server->workers[i].actor, error);
    for (uint32_t i = 0; i < server->decoder_count && status == LH_OK; i++)
        status = lh_actor_start(&server->decoders[i].actor, error);
    return status;
}

static enum lh_status make_proxy(struct lh_server *server, const struct lh_config *config,
                                 struct lh_error *error)
{
    const struct lh_proxy_options options = {.http = server->http,
                                             .access = &server->access,
                                             .services = &server->services,
                                             .log = &server->log};
    return lh_proxy_init(&server->gateway.proxy, &options, config, error);
}

static enum lh_status make_queryd(struct lh_server *server, const struct lh_config *config,
                                  struct lh_error *error)
{
    const struct lh_secrets *secrets = server->access.secrets;
    bool has_catalog = server->has_catalog && server->catalog.is_made;
    const struct lh_queryd_options options = {
        .config = config,
        .http = server->http,
        .vectord = server->actors_made ? &server->vectord.actor : NULL,
        .catalogd = has_catalog ? &server->catalog.catalogd.actor : NULL,
        .storaged = server->gateway.storaged,
        .token = secrets != NULL ? secrets->peer_token : NULL,
        .log = &server->log,
    };
    server->has_queryd = true;
    return lh_queryd_init(&server->queryd, &options, error);
}

/* The catalog listens where it has a store to be in; its routes behind the gateway say what is
 * missing otherwise. */
static enum lh_status make_catalog(struct lh_server *server, const struct lh_config *config,
                                   struct lh_error *error)
{
    struct lh_catalog_options options = {.config = config, .log = &server->log};
    enum lh_status status =
        lh_server_objects(server, config, "catalogd.storaged_url", &options.objects, error);
    if (status != LH_OK)
        return status;
    server->has_catalog = true;
    status = lh_catalog_init(&server->catalog, &options, error);
    if (status == LH_OK && server->catalog.is_made)
        status = listen_on(server, config, LH_HTTP_CATALOGD, error);
    return status;
}

static bool is_elsewhere(const struct lh_config *config, const char *bind_key, struct lh_str url)
{
    return url.len > 0 && !lh_services_is_own_url(config, bind_key, url);
}

/* As the catalog: it listens where there is what it needs. */
static enum lh_status make_ingestd(struct lh_server *server, const struct lh_config *config,
                                   struct lh_error *error)
{
    const struct lh_secrets *secrets = server->access.secrets;
    struct lh_ingestd_options options = {
        .http = server->http,
        .access = &server->access,
        .log = &server->log,
        .storaged_url = lh_config_string(config, "ingestd.storaged_url"),
        .catalogd_url = lh_config_string(config, "ingestd.catalogd_url"),
        .token = secrets != NULL ? secrets->peer_token : NULL,
    };
    if (!is_elsewhere(config, "storaged.bind", options.storaged_url)) {
        options.storaged_url = LH_STR("");
        options.storaged = server->has_storaged ? &server->storaged.actor
                           : server->has_s3     ? &server->storaged_s3.actor
                                                : NULL;
    }
    if (!is_elsewhere(config, "catalogd.bind", options.catalogd_url)) {
        options.catalogd_url = LH_STR("");
        options.catalogd =
            server->has_catalog && server->catalog.is_made ? &server->catalog.catalogd.actor : NULL;
    }
    server->has_ingestd = true;
    enum lh_status status = lh_ingestd_init(&server->ingestd, config, &options, error);
    if (status == LH_OK && server->ingestd.reason.status == LH_OK)
        status = listen_on(server, config, LH_HTTP_INGESTD, error);
    return status;
}

static void wire_gateway(struct lh_server *server)
{
    server->gateway.http = server->http;
    server->gateway.access = &server->access;
    server->gateway.decoders = server->decoders;
    server->gateway.decoder_count = server->decoder_count;
    server->gateway.vectord = server->actors_made ? &server->vectord : NULL;
    server->gateway.queryd = server->has_queryd ? &server->queryd : NULL;
    server->gateway.catalog = server->has_catalog ? &server->catalog : NULL;
    server->gateway.ingestd = server->has_ingestd ? &server->ingestd : NULL;
    server->gateway.peer = server->has_peer ? &server->peer : NULL;
    server->gateway.workers = server->workers;
    server->gateway.worker_count = server->worker_count;
}

static void log_start(struct lh_server *server, const struct lh_config *config)
{
    lh_log_line(&server->log, LH_LOG_INFO, "started", LH_LOG_U64("pid", (uint64_t)getpid()),
                LH_LOG_U64("shard_workers", server->worker_count),
                LH_LOG_U64("decoders", server->decoder_count),
                LH_LOG_TEXT("kernels", lh_graph_kernels()));
    if (!server->is_kept && server->actors_made)
        lh_log_line(&server->log, LH_LOG_WARN,
                    "ephemeral: without vectord.data_dir vectors are in memory only and gone when "
                    "the server stops");
}

enum lh_status lh_server_start(struct lh_server *server, const struct lh_config *config,
                               struct lh_error *error)
{
    *server = (struct lh_server){.log = {.fd = STDERR_FILENO}};
    struct lh_gateway_options options = {
        .search_credits = (uint32_t)lh_config_integer(config, "server.search_credits"),
        .add_credits = (uint32_t)lh_config_integer(config, "server.add_credits"),
        .search_timeout_ms = lh_config_integer(config, "server.search_timeout"),
        .durability = durability_of(config),
        .answer_bytes_max = lh_config_integer(config, "server.body_bytes_in_flight_max"),
        .log = &server->log,
    };
    server->config = config;
    lh_server_set_log_level(server, config);
    enum lh_status status = lh_services_read(config, &server->services, error);
    if (status == LH_OK)
        status = lh_access_init(&server->access, config, error);
    if (status == LH_OK)
        status = lh_gateway_init(&server->gateway, &options);
    if (status == LH_OK)
        status = make_http(server, config, error);
    if (status == LH_OK)
        status = listen_on(server, config, LH_HTTP_GATEWAY, error);
    if (status == LH_OK)
        status = listen_on(server, config, LH_HTTP_VECTORD, error);
    if (status == LH_OK)
        status = listen_on(server, config, LH_HTTP_QUERYD, error);
    if (status == LH_OK)
        status = make_proxy(server, config, error);
    if (status == LH_OK && lh_services_find(&server->services, LH_HTTP_STORAGED)->is_here)
        status = open_storaged(server, config, error);
    if (status == LH_OK && lh_services_find(&server->services, LH_HTTP_VECTORD)->is_here)
        status = make_vectord(server, config, error);
    if (status == LH_OK && lh_services_find(&server->services, LH_HTTP_CATALOGD)->is_here)
        status = make_catalog(server, config, error);
    if (status == LH_OK && lh_services_find(&server->services, LH_HTTP_INGESTD)->is_here)
        status = make_ingestd(server, config, error);
    if (status == LH_OK && lh_services_find(&server->services, LH_HTTP_QUERYD)->is_here)
        status = make_queryd(server, config, error);
    wire_gateway(server);
    if (status == LH_OK)
        status = lh_http_server_watch_signals(server->http, error);
    if (status == LH_OK && server->has_storaged)
        status = lh_storaged_start(&server->storaged, error);
    if (status == LH_OK && server->has_s3)
        status = lh_actor_start(&server->storaged_s3.actor, error);
    if (status == LH_OK && server->has_catalog)
        status = lh_catalog_start(&server->catalog, error);
    if (status == LH_OK && server->has_ingestd)
        status = lh_ingestd_start(&server->ingestd, error);
    if (status == LH_OK && server->actors_made)
        status = start_threads(server, error);
    if (status == LH_OK && server->has_queryd)
        status = lh_queryd_start(&server->queryd, error);
    if (status == LH_OK)
        log_start(server, config);
    if (status != LH_OK) {
        lh_config_locate(config, error);
        lh_server_stop(server);
    }
    return status;
}

bool lh_server_run(struct lh_server *server)
{
    lh_http_server_run(server->http);
    bool is_in_order = !lh_http_server_was_aborted(server->http);
    lh_log_line(&server->log, is_in_order ? LH_LOG_INFO : LH_LOG_WARN,
                is_in_order ? "stopped" : "aborted");
    return is_in_order;
}

void lh_server_stop(struct lh_server *server)
{
    if (server->has_queryd)
        lh_queryd_stop(&server->queryd);
    if (server->actors_made) {
        /* A push touches its receiver's wake-up after the message is out: all threads end before
         * the first actor goes. Nothing is in flight, so none still sends to another. */
        for (uint32_t i = 0; i < server->decoders_made; i++) {
            lh_actor_stop(&server->decoders[i].actor);
            lh_actor_join(&server->decoders[i].actor);
        }
        lh_actor_stop(&server->vectord.actor);
        lh_actor_join(&server->vectord.actor);
        if (server->has_peer) {
            lh_actor_stop(&server->peer.actor);
            lh_actor_join(&server->peer.actor);
        }
        for (uint32_t i = 0; i < server->worker_count; i++) {
            lh_actor_stop(&server->workers[i].actor);
            lh_actor_join(&server->workers[i].actor);
        }
        if (server->is_kept) {
            lh_actor_stop(&server->persister.actor);
            lh_actor_join(&server->persister.actor);
        }
        for (uint32_t i = 0; i < server->decoders_made; i++)
            lh_decoder_actor_deinit(&server->decoders[i]);
        for (uint32_t i = 0; i < server->worker_count; i++)
            lh_actor_deinit(&server->workers[i].actor);
        lh_vectord_deinit(&server->vectord);
    }
    if (server->has_ingestd) /* before those that it calls */
        lh_ingestd_stop(&server->ingestd);
    if (server->has_catalog)
        lh_catalog_stop(&server->catalog);
    if (server->has_storaged) /* behind the peer, which may be its client */
        lh_storaged_stop(&server->storaged);
    if (server->has_s3) {
        lh_actor_stop(&server->storaged_s3.actor);
        lh_actor_join(&server->storaged_s3.actor);
    }
    if (server->has_peer)
        lh_peer_deinit(&server->peer);
    if (server->has_storaged)
        lh_storaged_deinit(&server->storaged);
    if (server->has_s3)
        lh_storaged_s3_deinit(&server->storaged_s3);
    if (server->is_kept) {
        lh_persister_deinit(&server->persister);
        lh_recovery_deinit(&server->recovery);
    }
    if (server->has_queryd)
        lh_queryd_deinit(&server->queryd);
    if (server->has_ingestd)
        lh_ingestd_deinit(&server->ingestd);
    if (server->has_catalog)
        lh_catalog_deinit(&server->catalog);
    if (server->http != NULL)
        lh_http_server_destroy(server->http);
    lh_gateway_deinit(&server->gateway);
    lh_access_deinit(&server->access);
    lh_config_destroy(server->reloaded);
    free(server->workers);
    free(server->decoders);
    *server = (struct lh_server){0};
}
