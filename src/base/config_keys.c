/* The table of configuration keys: type, default, range, comment; and finding a key by name. Any
 * thread; constant. */
#include "base/config_keys.h"

#include "base/limits.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define LH_CONFIG_ENV_PREFIX   "LAKEHOUSE_"
#define LH_CONFIG_DISTANCE_MAX 3u /* typing mistakes that a suggestion bridges */

/* clang-format off */
#define LH_STRING(section, name, value, flags, comment)                                            \
    {section, name, LH_CONFIG_STRING, value, 0, 0, flags, NULL, comment}
#define LH_CHOICE(section, name, value, choices, flags, comment)                                   \
    {section, name, LH_CONFIG_STRING, value, 0, 0, flags, choices, comment}
#define LH_INTEGER(section, name, value, min, max, flags, comment)                                 \
    {section, name, LH_CONFIG_INTEGER, value, min, max, flags, NULL, comment}
#define LH_DURATION(section, name, value, min, max, flags, comment)                                \
    {section, name, LH_CONFIG_DURATION, value, min, max, flags, NULL, comment}
#define LH_BOOL(section, name, value, flags, comment)                                              \
    {section, name, LH_CONFIG_BOOL, value, 0, 1, flags, NULL, comment}

#define LH_KIB      (1ull << 10)
#define LH_GIB      (1ull << 30)
#define LH_TIB      (1ull << 40)
#define LH_SECOND   1000ull
#define LH_DAY      (24ull * 3600 * LH_SECOND)
#define LH_URL_NOTE "URL of the service in another process; empty: in this one."

/* In the order of printing; the keys of one section stand together. */
const struct lh_config_key lh__config_keys[] = {
    LH_STRING("gateway", "bind", "127.0.0.1:3110", LH_KEY_BIND,
              "Where every service answers, under /v1: host:port, :port or [ipv6]:port; \"none\":\n"
              "nowhere, this process has no gateway."),
    LH_STRING("gateway", "secrets_path", "", LH_KEY_LIVE,
              "TOML file of bearer tokens and other secrets, which only its owner may read;\n"
              "empty: none, and then every bind has to be on this host."),
    LH_CHOICE("gateway", "open_status", "loopback", "anyone|loopback|nobody", LH_KEY_LIVE,
              "Who may read /metrics, /readyz and /openapi.json without a token; /healthz anyone\n"
              "may."),
    LH_INTEGER("gateway", "requests_per_second", "0", 0, 1000000000, LH_KEY_LIVE,
               "Of one token, or one address where there is none, averaged over a second; past it\n"
               "requests are answered 429. 0: no limit. A token may have its own."),
    LH_INTEGER("gateway", "bytes_per_second", "0", 0, LH_TIB, LH_KEY_BYTES | LH_KEY_LIVE,
               "The same for the bytes of request bodies."),
    LH_STRING("gateway", "storaged_url", "", LH_KEY_URL, LH_URL_NOTE),
    LH_STRING("gateway", "catalogd_url", "", LH_KEY_URL, LH_URL_NOTE),
    LH_STRING("gateway", "ingestd_url", "", LH_KEY_URL, LH_URL_NOTE),
    LH_STRING("gateway", "queryd_url", "", LH_KEY_URL, LH_URL_NOTE),
    LH_STRING("gateway", "vectord_url", "", LH_KEY_URL,
              LH_URL_NOTE "\n"
              "A bind of this process is no other one. A service in another process is not\n"
              "started here, and takes no data_dir, unless its bind is set here as well.\n"
              "With https:// its certificate must be trusted by the system's store, or by\n"
              "SSL_CERT_FILE."),
    LH_INTEGER("gateway", "proxy_connections", "256", 1, 65535, 0,
               "Connections to each service in another process; past it requests wait."),
    LH_INTEGER("gateway", "proxy_waiting", "1024", 0, 1000000, 0,
               "Requests that wait for one of them; past it they are answered 503."),
    LH_DURATION("gateway", "proxy_connect_timeout", "5s", 100, LH_DAY, 0,
                "To have such a connection: 503 when all are in use, 504 when none comes about."),
    LH_DURATION("gateway", "proxy_timeout", "5m", 100, LH_DAY, 0,
                "For such a service to take a request, to answer it, or to go on with its answer.\n"
                "Reshards and checkpoints of large indexes are answered when they are done."),
    LH_DURATION("gateway", "proxy_probe_every", "1s", 100, LH_DAY, 0,
                "How often such a service is asked whether it is ready. One that is not ready is\n"
                "asked ten times a second."),

    LH_INTEGER("server", "decoders", "0", 0, 256, 0,
               "Threads that read JSON bodies, and as many for those of 256 KiB and more, which\n"
               "so hold up no others; 0: a quarter of the cores, at least one."),
    LH_CHOICE("server", "io", "auto", "auto|uring|blocking", 0,
              "How files are written: io_uring, or blocking calls where the kernel refuses it."),
    LH_INTEGER("server", "body_bytes_max", "64MiB", LH_KIB, 2 * LH_GIB, LH_KEY_BYTES,
               "One request body. NDJSON streams may be of any length."),
    LH_INTEGER("server", "body_bytes_in_flight_max", "256MiB", LH_KIB, LH_TIB, LH_KEY_BYTES,
               "All request bodies together: past it new ones wait, past twice that they get 503.\n"
               "Large answers in flight are held to the same."),
    LH_INTEGER("server", "connections_max", "20000", 1, 1000000, 0,
               "Open connections; a further one is answered 503 and closed."),
    LH_STRING("server", "tls_certificate", "", 0,
              "PEM file of a certificate with its chain. With it and the key, every bind speaks\n"
              "TLS 1.2 or 1.3 and nothing else."),
    LH_STRING("server", "tls_key", "", 0,
              "PEM file of the certificate's private key, with access for its owner alone."),
    LH_DURATION("server", "header_timeout", "10s", 100, LH_DAY, 0,
                "For a request's header to arrive."),
    LH_DURATION("server", "idle_timeout", "75s", 100, LH_DAY, 0,
                "Between two requests of a connection."),
    LH_INTEGER("server", "body_rate_min", "1KiB", 0, LH_GIB, LH_KEY_BYTES,
               "Bytes a second that a body must bring after its first 10 seconds; 0: any rate."),
    LH_DURATION("server", "write_timeout", "30s", 100, LH_DAY, 0,
                "For a client to take some of its answer."),
    LH_DURATION("server", "drain_timeout", "10s", 0, LH_DAY, 0,
                "At stop, for requests in flight."),
    LH_INTEGER("server", "search_credits", "1024", 1, 1000000, 0,
               "Searches in flight, a body of many KiB as several; past it sockets are not read.\n"
               "Those who have lately asked share them evenly."),
    LH_INTEGER("server", "add_credits", "256", 1, 1000000, 0,
               "The same for adds."),
    LH_DURATION("server", "search_timeout", "10s", 1, LH_DAY, 0,
                "A search that has waited longer is answered 503."),
    LH_INTEGER("server", "memory_max", "0", 0, 1024 * LH_TIB, LH_KEY_BYTES,
               "What indexes may take before adds are answered 507; 0: no limit of its own."),

    LH_STRING("vectord", "bind", "127.0.0.1:3215", LH_KEY_BIND,
              "Where the vector service answers, with or without /v1; \"none\": only behind the\n"
              "gateway."),
    LH_INTEGER("vectord", "shards", "0", 0, LH_SHARDS_MAX, 0,
               "Shard threads, and the shards of a new index; 0: one a core. An index may be made\n"
               "with another number."),
    LH_STRING("vectord", "storaged_url", "", LH_KEY_URL,
              "A storaged that gets a copy of every checkpoint, and from which indexes come that\n"
              "are not here, as http://host:port or https://host:port (then its certificate must be\n"
              "trusted by the system's store, or by SSL_CERT_FILE); empty: none."),
    LH_STRING("vectord", "data_dir", "", 0,
              "Where indexes are kept; empty: in memory only, or with storaged_url, which needs a\n"
              "log here, the folder lakehouse-data where the server is started."),
    LH_CHOICE("vectord", "durability", "commit", "commit|interval|none", 0,
              "When an add is answered: once it is on disk, once it is written, or at once. A\n"
              "request may ask for less by ?durability=. Without data_dir nothing is on disk,\n"
              "whatever it says."),
    LH_DURATION("vectord", "sync_interval", "100ms", 100, LH_DAY, 0,
                "With durability interval: between two syncs of the log, to a tenth of a second."),
    LH_INTEGER("vectord", "log_segment_bytes", "64MiB", 64 * LH_KIB, LH_GIB, LH_KEY_BYTES,
               "One file of the log, allocated whole where there is room."),
    LH_INTEGER("vectord", "checkpoint_bytes", "1GiB", 64 * LH_KIB, LH_TIB, LH_KEY_BYTES,
               "Log written since the last checkpoints that starts one, or twice the indexes'\n"
               "files where that is more."),
    LH_DURATION("vectord", "checkpoint_age", "60m", 0, LH_DAY, 0,
                "A change that only the log has for longer than this starts one; 0: never."),

    LH_STRING("storaged", "bind", "127.0.0.1:3211", LH_KEY_BIND,
              "Where the object store answers, with or without /v1, if it has a root or a bucket."),
    LH_CHOICE("storaged", "backend", "auto", "auto|disk|s3", 0,
              "Where objects lie: in the folder root, or in the bucket of [s3]. auto: in root if\n"
              "it is set, else in the bucket if that is set, else nowhere."),
    LH_STRING("storaged", "root", "", 0,
              "Folder of the disk backend: an object is a file in it, under its key's path.\n"
              "Empty: object calls are answered 501."),

    LH_STRING("catalogd", "bind", "127.0.0.1:3212", LH_KEY_BIND,
              "Where the catalog of datasets answers, where there is an object store for it;\n"
              "\"none\": only behind the gateway."),
    LH_STRING("catalogd", "storaged_url", "", LH_KEY_URL,
              "URL of the object store that keeps the datasets' manifests, when it is in another\n"
              "process; empty: in this one."),

    LH_STRING("ingestd", "bind", "127.0.0.1:3213", LH_KEY_BIND,
              "Where ingest answers, where there are an object store and a catalog for it."),
    LH_STRING("ingestd", "storaged_url", "", LH_KEY_URL,
              "URL of the object store that keeps the datasets, when it is in another process;\n"
              "empty: in this one."),
    LH_STRING("ingestd", "catalogd_url", "", LH_KEY_URL, "The same of the catalog."),
    LH_INTEGER("ingestd", "max_ingest_bytes", "256MiB", 1, LH_TIB, LH_KEY_BYTES,
               "One upload, as it is sent."),
    LH_INTEGER("ingestd", "max_decompressed_bytes", "16GiB", 1, LH_TIB, LH_KEY_BYTES,
               "What a compressed one may hold; of Parquet, what its footer says."),
    LH_INTEGER("ingestd", "workers", "1", 1, 64, 0, "Files that are converted at once."),
    LH_INTEGER("ingestd", "memory_limit", "256MiB", 64 * 1024 * LH_KIB, LH_TIB, LH_KEY_BYTES,
               "Memory of all conversions together; what does not fit is spilled."),
    LH_STRING("ingestd", "spool_dir", "", 0,
              "Where uploads lie until they are registered; empty: beside the vectors, or without\n"
              "vectord.data_dir a folder that goes with the server."),

    LH_STRING("queryd", "bind", "127.0.0.1:3214", LH_KEY_BIND, "Where SQL answers."),
    LH_STRING("queryd", "catalogd_url", "", LH_KEY_URL,
              "URL of the catalog whose datasets are tables, when in another process; empty:\n"
              "this one's, or where the gateway sends its calls."),
    LH_STRING("queryd", "storaged_url", "", LH_KEY_URL,
              "The same of the object store that has their objects."),
    LH_STRING("queryd", "vectord_url", "", LH_KEY_URL,
              "The same of the vector service that vector functions ask."),
    LH_STRING("queryd", "secrets_path", "", LH_KEY_LIVE, "Another name of gateway.secrets_path."),
    LH_DURATION("queryd", "refresh_every", "30s", 0, LH_DAY, 0,
                "How long what a catalog in another process has said is believed. This one's is\n"
                "asked by every statement."),
    LH_INTEGER("queryd", "workers", "2", 1, 64, 0, "Queries that run at once."),
    LH_INTEGER("queryd", "memory_limit", "1GiB", 64 * 1024 * LH_KIB, LH_TIB, LH_KEY_BYTES,
               "Memory of all queries together; four times that may go to disk."),
    LH_DURATION("queryd", "timeout", "60s", 1, LH_DAY, 0,
                "For one query. A request may ask for less, as timeout_ms."),
    LH_INTEGER("queryd", "rows_max", "10000000", 1, 1000000000000, 0,
               "Rows of one answer; it says when it is cut there. A request may ask for less, as\n"
               "max_rows."),
    LH_INTEGER("queryd", "bytes_max", "1GiB", LH_KIB, LH_TIB, LH_KEY_BYTES,
               "The same of its bytes, as max_bytes."),
    LH_STRING("queryd", "cache_dir", "", 0,
              "Where queries keep what they read and spill; empty: beside the vectors, or without\n"
              "vectord.data_dir a folder that goes with the server."),
    LH_INTEGER("queryd", "cache_bytes", "10GiB", 1024 * LH_KIB, 1024 * LH_TIB, LH_KEY_BYTES,
               "What it may hold; then files that no statement has used for minutes go."),

    LH_STRING("s3", "endpoint", "", LH_KEY_URL,
              "URL of an S3-compatible store; empty: Amazon's of the region. Over http bodies are\n"
              "signed; over https TLS keeps them whole."),
    LH_STRING("s3", "region", "us-east-1", 0, "Region that requests are signed for."),
    LH_STRING("s3", "bucket", "", 0, "Bucket that holds the objects. It has to exist."),
    LH_STRING("s3", "access_key_id", "", 0,
              "Access key. The table [s3] of secrets_path goes before it, and then the variables\n"
              "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN."),
    LH_STRING("s3", "secret_access_key", "", LH_KEY_SECRET, "Its secret."),
    LH_BOOL("s3", "use_path_style", "true", 0,
            "endpoint/bucket/key rather than bucket.endpoint/key, which Amazon wants."),

    LH_CHOICE("log", "level", "info", "debug|info|warn|error", LH_KEY_LIVE,
              "Lines below it are not written."),
};
/* clang-format on */

const size_t lh__config_key_count = sizeof lh__config_keys / sizeof lh__config_keys[0];

void lh__config_key_name(const struct lh_config_key *key, char name[LH_CONFIG_NAME_MAX])
{
    int len = snprintf(name, LH_CONFIG_NAME_MAX, "%s.%s", key->section, key->name);
    assert(len > 0 && len < LH_CONFIG_NAME_MAX);
    (void)len;
}

void lh__config_variable_name(const struct lh_config_key *key, char name[LH_CONFIG_NAME_MAX])
{
    int len =
        snprintf(name, LH_CONFIG_NAME_MAX, LH_CONFIG_ENV_PREFIX "%s_%s", key->section, key->name);
    assert(len > 0 && len < LH_CONFIG_NAME_MAX);
    for (int i = 0; i < len; i++)
        if (name[i] >= 'a' && name[i] <= 'z')
            name[i] = (char)(name[i] - 'a' + 'A');
}

size_t lh__config_find(struct lh_str name, bool is_variable)
{
    for (size_t i = 0; i < lh__config_key_count; i++) {
        char candidate[LH_CONFIG_NAME_MAX];
        if (is_variable)
            lh__config_variable_name(&lh__config_keys[i], candidate);
        else
            lh__config_key_name(&lh__config_keys[i], candidate);
        if (lh_str_eq(name, lh_str_of(candidate)))
            return i;
    }
    return lh__config_key_count;
}

/* Levenshtein's edit distance, by one row of Wagner and Fischer's table. */
static unsigned lh_edit_distance(struct lh_str a, struct lh_str b)
{
    unsigned row[LH_CONFIG_NAME_MAX + 1];
    assert(b.len <= LH_CONFIG_NAME_MAX);
    for (unsigned j = 0; j <= b.len; j++)
        row[j] = j;
    for (unsigned i = 1; i <= a.len; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            unsigned above = row[j], best = diagonal + (a.ptr[i - 1] != b.ptr[j - 1]);
            if (above + 1 < best)
                best = above + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[b.len];
}

enum lh_status lh__config_unknown(struct lh_str name, bool is_variable, const char *origin,
                                  struct lh_error *error)
{
    char nearest[LH_CONFIG_NAME_MAX] = "", place[LH_CONFIG_NAME_MAX + 8] = "";
    unsigned best = LH_CONFIG_DISTANCE_MAX + 1;
    int shown = name.len < LH_CONFIG_NAME_MAX ? (int)name.len : LH_CONFIG_NAME_MAX;
    for (size_t i = 0; i < lh__config_key_count && name.len <= LH_CONFIG_NAME_MAX; i++) {
        char candidate[LH_CONFIG_NAME_MAX];
        unsigned distance;
        if (is_variable)
            lh__config_variable_name(&lh__config_keys[i], candidate);
        else
            lh__config_key_name(&lh__config_keys[i], candidate);
        distance = lh_edit_distance(name, lh_str_of(candidate));
        if (distance < best) {
            best = distance;
            memcpy(nearest, candidate, sizeof nearest);
        }
    }
    if (!is_variable)
        snprintf(place, sizeof place, "%.*s: ", shown, name.ptr);
    return lh_error_set(error, LH_CONFIG, "%s: %sunknown %s%s%s%s", origin, place,
                        is_variable ? "variable" : "key", nearest[0] ? "; did you mean " : "",
                        nearest, nearest[0] ? "?" : "");
}
