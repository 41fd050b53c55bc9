/* actors/object_client: the same tests over both ways, by messages to a storaged of the test's own
 * and over HTTP to a lakehoused that it starts. */
#include "actors/object_client.h"
#include "actors/storaged.h"
#include "store/object_key.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define KEYS 2345u /* three pages */

struct store {
    char folder[64];
    struct lh_log log;
    struct lh_storaged storaged; /* when `pid` is 0 */
    pid_t pid;
    char url[64];
    struct lh_object_client *client;
    bool is_cancelled;
    struct lh_error error;
};

/* ---- the two stores ---- */

static bool is_cancelled(void *arg)
{
    return ((struct store *)arg)->is_cancelled;
}

static struct lh_object_client *make_client(struct store *store)
{
    struct lh_object_client *client;
    struct lh_object_client_options options = {
        .url = lh_str_of(store->url), .is_cancelled = is_cancelled, .arg = store};
    if (store->pid == 0)
        options.storaged = &store->storaged.actor;
    assert_int_equal(lh_object_client_create(&options, &client, &store->error), LH_OK);
    return client;
}

static struct store *make_store(void)
{
    struct store *store = calloc(1, sizeof *store);
    strcpy(store->folder, "/tmp/lakehoused-objects-XXXXXX");
    assert_non_null(mkdtemp(store->folder));
    return store;
}

static int start_local(void **state)
{
    struct store *store = make_store();
    struct lh_disk_options disk = {.key = "root", .lock = LH_OBJECT_LOCK_FILE, .is_shared = true};
    struct lh_storaged_options options = {.root = store->folder, .log = &store->log};
    char note[160];
    store->log = (struct lh_log){.fd = STDERR_FILENO, .level = {LH_LOG_ERROR}};
    assert_int_equal(lh_disk_open_folder(store->folder, &disk, &options.disk, note, &store->error),
                     LH_OK);
    assert_int_equal(lh_disk_open_plain(store->folder, &options.walk_disk, &store->error), LH_OK);
    assert_int_equal(lh_storaged_init(&store->storaged, &options, &store->error), LH_OK);
    assert_int_equal(lh_storaged_start(&store->storaged, &store->error), LH_OK);
    store->client = make_client(store);
    *state = store;
    return 0;
}

/* The port on which the server's log says that it listens; 0: not yet. */
static unsigned port_of(const char *log)
{
    char text[8192];
    int file = open(log, O_RDONLY);
    ssize_t len = file >= 0 ? read(file, text, sizeof text - 1) : 0;
    const char *at;
    close(file);
    text[len > 0 ? len : 0] = '\0';
    if (strstr(text, "\"event\":\"started\"") == NULL)
        return 0;
    at = strstr(text, "\"service\":\"storaged\"");
    assert_non_null(at);
    at = strstr(at, "127.0.0.1:");
    assert_non_null(at);
    return (unsigned)strtoul(at + strlen("127.0.0.1:"), NULL, 10);
}

static int start_remote(void **state)
{
    struct store *store = make_store();
    char log[96];
    char root[96];
    unsigned port = 0;
    snprintf(log, sizeof log, "%s/log", store->folder);
    snprintf(root, sizeof root, "storaged.root=%s/root", store->folder);
    store->pid = fork();
    assert_true(store->pid >= 0);
    if (store->pid == 0) {
        int file = open(log, O_WRONLY | O_CREAT, 0600);
        dup2(file, STDERR_FILENO);
        execl(LH_LAKEHOUSED, "lakehoused", "--set", root, "--set", "storaged.bind=127.0.0.1:0",
              "--set", "gateway.bind=none", "--set", "vectord.bind=none", "--set",
              "queryd.bind=none", "--set", "catalogd.bind=none", "--set", "ingestd.bind=none",
              (char *)NULL);
        _exit(127);
    }
    for (unsigned i = 0; i < 3000 && port == 0; i++) {
        usleep(10000);
        port = port_of(log);
    }
    assert_int_not_equal(port, 0);
    snprintf(store->url, sizeof store->url, "http://127.0.0.1:%u/", port);
    store->client = make_client(store);
    *state = store;
    return 0;
}

static int stop(void **state)
{
    struct store *store = *state;
    char command[96];
    int status = 0;
    if (store->pid == 0) {
        lh_storaged_stop(&store->storaged);
        lh_object_client_destroy(store->client);
        lh_storaged_deinit(&store->storaged);
    } else {
        lh_object_client_destroy(store->client);
        kill(store->pid, SIGTERM);
        waitpid(store->pid, &status, 0);
    }
    snprintf(command, sizeof command, "rm -rf %s", store->folder);
    assert_int_equal(system(command), 0);
    free(store);
    return status;
}

/* ---- bodies ---- */

struct body {
    uint64_t length;
    uint64_t fails_at; /* UINT64_MAX: nowhere */
    struct store *cancels;
    uint64_t taken; /* by a sink */
    bool is_wrong;
};

static char byte_at(uint64_t i)
{
    return (char)(i * 31 + (i >> 11) * 7 + (i >> 19));
}

static enum lh_status read_body(uint64_t offset, void *to, size_t len, void *arg,
                                struct lh_error *error)
{
    struct body *body = arg;
    if (offset + len > body->fails_at && body->cancels != NULL)
        body->cancels->is_cancelled = true;
    else if (offset + len > body->fails_at)
        return lh_error_set(error, LH_CORRUPT, "the source has had enough");
    for (size_t i = 0; i < len; i++)
        ((char *)to)[i] = byte_at(offset + i);
    return LH_OK;
}

static enum lh_status take_body(struct lh_str bytes, void *arg, struct lh_error *error)
{
    struct body *body = arg;
    if (body->taken + bytes.len > body->fails_at)
        return lh_error_set(error, LH_CORRUPT, "the sink has had enough");
    for (size_t i = 0; i < bytes.len; i++)
        body->is_wrong |= bytes.ptr[i] != byte_at(body->taken + i);
    body->taken += bytes.len;
    return LH_OK;
}

static enum lh_status put_made(struct store *store, const char *key, struct body *body,
                               struct lh_object_info *info)
{
    struct lh_http_source source = {.length = body->length, .read = read_body, .arg = body};
    return lh_object_client_put(store->client, lh_str_of(key), &source, "text/x-test", info,
                                &store->error);
}

static void assert_has(struct store *store, const char *key, uint64_t length)
{
    struct body body = {.length = length, .fails_at = UINT64_MAX};
    struct lh_http_sink sink = {take_body, &body};
    assert_int_equal(lh_object_client_get(store->client, lh_str_of(key), &sink, &store->error),
                     LH_OK);
    assert_int_equal(body.taken, length);
    assert_false(body.is_wrong);
}

static void assert_has_text(struct store *store, const char *key, const char *text)
{
    struct lh_buf bytes = LH_BUF_EMPTY;
    assert_int_equal(
        lh_object_client_get_bytes(store->client, lh_str_of(key), &bytes, 100, &store->error),
        LH_OK);
    assert_int_equal(bytes.len, strlen(text));
    assert_memory_equal(bytes.ptr, text, bytes.len);
    lh_buf_deinit(&bytes);
}

static void put_text(struct store *store, const char *key, const char *text)
{
    assert_int_equal(lh_object_client_put_bytes(store->client, lh_str_of(key), lh_str_of(text),
                                                NULL, NULL, &store->error),
                     LH_OK);
}

/* ---- tests ---- */

static void bodies_of_every_length_come_back(void **state)
{
    struct store *store = *state;
    const uint64_t piece = LH_TRANSFER_PIECE_BYTES;
    const uint64_t lengths[] = {0, 1, piece - 1, piece, piece + 1, 2 * piece, 5 * piece + 12345};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct body body = {.length = lengths[i], .fails_at = UINT64_MAX};
        struct lh_object_info put, head;
        assert_int_equal(put_made(store, "a/b", &body, &put), LH_OK);
        assert_int_equal(put.size, lengths[i]);
        assert_has(store, "a/b", lengths[i]);
        assert_int_equal(lh_object_client_head(store->client, LH_STR("a/b"), &head, &store->error),
                         LH_OK);
        assert_int_equal(head.size, lengths[i]);
        assert_string_equal(head.etag, put.etag);
        assert_string_equal(head.content_type, "text/x-test");
        assert_true(head.modified_ms > 1700000000000ull);
    }
}

static void odd_keys_are_the_same_on_both_ways(void **state)
{
    static const char *const keys[] = {
        "a b", "a+b", "100%/x%2Fy", "\xc3\xa9/\xe2\x82\xac", "=&?*()#", "x/y/z.parquet", "~"};
    struct store *store = *state;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        put_text(store, keys[i], keys[i]);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_has_text(store, keys[i], keys[i]);
}

static ino_t inode_of(const char *path)
{
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    return about.st_ino;
}

/* Puts a file and looks at what came of it. */
static void put_file(struct store *store, const char *path, const struct body *body)
{
    struct lh_object_info put, head;
    char *bytes = malloc(body->length);
    assert_int_equal(read_body(0, bytes, body->length, (void *)body, &store->error), LH_OK);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(file, bytes, body->length), (ssize_t)body->length);
    close(file);
    free(bytes);
    assert_int_equal(lh_object_client_put_file(store->client, LH_STR("file"), path, body->length,
                                               "text/x-test", &put, &store->error),
                     LH_OK);
    assert_has(store, "file", body->length);
    assert_int_equal(lh_object_client_head(store->client, LH_STR("file"), &head, &store->error),
                     LH_OK);
    assert_string_equal(put.etag, head.etag);
    assert_string_equal(head.content_type, "text/x-test");
}

/* On the store's file system one becomes the object, and has the tag that its bytes would have; on
 * another it is copied. */
static void files_go_and_come(void **state)
{
    struct store *store = *state;
    const struct body body = {.length = 700001, .fails_at = UINT64_MAX};
    struct lh_object_info linked, copied;
    char near[96], object[96], far[] = "/dev/shm/lakehoused-objects-XXXXXX";
    FILE *down = tmpfile();
    char *back = malloc(body.length + 1);
    snprintf(near, sizeof near, "%s-given", store->folder);
    snprintf(object, sizeof object, "%s/file", store->folder);
    put_file(store, near, &body);
    assert_int_equal(lh_object_client_head(store->client, LH_STR("file"), &linked, &store->error),
                     LH_OK);
    if (store->pid == 0)
        assert_int_equal(inode_of(near), inode_of(object));
    assert_int_equal(
        lh_object_client_get_file(store->client, LH_STR("file"), fileno(down), &store->error),
        LH_OK);
    assert_int_equal(pread(fileno(down), back, body.length + 1, 0), (ssize_t)body.length);
    for (uint64_t i = 0; i < body.length; i++)
        assert_int_equal(back[i], byte_at(i));
    /* One byte more than there is: nothing is put. One less: that is copied. */
    assert_int_equal(lh_object_client_put_file(store->client, LH_STR("file"), near, body.length + 1,
                                               NULL, NULL, &store->error),
                     LH_DISK_FAILED);
    assert_has(store, "file", body.length);
    assert_int_equal(lh_object_client_put_file(store->client, LH_STR("file"), near, body.length - 1,
                                               NULL, NULL, &store->error),
                     LH_OK);
    assert_has(store, "file", body.length - 1);
    close(mkstemp(far));
    put_file(store, far, &body);
    assert_int_equal(lh_object_client_head(store->client, LH_STR("file"), &copied, &store->error),
                     LH_OK);
    assert_string_equal(linked.etag, copied.etag);
    assert_int_equal(lh_object_client_put_file(store->client, LH_STR("file"), "/nowhere", 1, NULL,
                                               NULL, &store->error),
                     LH_DISK_FAILED);
    assert_has(store, "file", body.length);
    unlink(near);
    unlink(far);
    free(back);
    fclose(down);
}

static void what_is_not_there_is_said(void **state)
{
    struct store *store = *state;
    struct lh_buf bytes = LH_BUF_EMPTY;
    struct lh_object_info info;
    struct lh_str key = LH_STR("nowhere/x");
    assert_int_equal(lh_object_client_get_bytes(store->client, key, &bytes, 9, &store->error),
                     LH_KEY_NOT_FOUND);
    assert_int_equal(store->error.status, LH_KEY_NOT_FOUND);
    assert_int_equal(lh_object_client_head(store->client, key, &info, &store->error),
                     LH_KEY_NOT_FOUND);
    assert_int_equal(lh_object_client_delete(store->client, key, &store->error), LH_OK);
    put_text(store, "nowhere/x", "1234567890");
    assert_int_equal(lh_object_client_get_bytes(store->client, key, &bytes, 9, &store->error),
                     LH_BODY_TOO_LARGE);
    assert_int_equal(lh_object_client_delete(store->client, key, &store->error), LH_OK);
    assert_int_equal(lh_object_client_head(store->client, key, &info, &store->error),
                     LH_KEY_NOT_FOUND);
    assert_int_equal(lh_object_client_head(store->client, LH_STR("a//b"), &info, &store->error),
                     LH_INVALID_ARGUMENT);
    lh_buf_deinit(&bytes);
}

static void a_new_object_is_put_once(void **state)
{
    struct store *store = *state;
    struct lh_str key = LH_STR("new/key");
    assert_int_equal(lh_object_client_put_new(store->client, key, LH_STR("first"), "text/plain",
                                              NULL, &store->error),
                     LH_OK);
    assert_int_equal(lh_object_client_put_new(store->client, key, LH_STR("second"), "text/plain",
                                              NULL, &store->error),
                     LH_PRECONDITION_FAILED);
    assert_has_text(store, "new/key", "first");
}

static void a_put_that_breaks_off_leaves_the_old_object(void **state)
{
    struct store *store = *state;
    put_text(store, "kept", "old");
    for (unsigned piece = 0; piece < 6; piece++) {
        struct body body = {.length = 5ull * LH_TRANSFER_PIECE_BYTES + 1,
                            .fails_at = (uint64_t)piece * LH_TRANSFER_PIECE_BYTES};
        assert_int_equal(put_made(store, "kept", &body, NULL), LH_CORRUPT);
        assert_string_equal(store->error.text, "the source has had enough");
        assert_has_text(store, "kept", "old");
    }
    put_text(store, "kept", "new");
    assert_has_text(store, "kept", "new");
}

static void a_cancelled_put_leaves_the_old_object(void **state)
{
    struct store *store = *state;
    struct body body = {
        .length = 1ull << 32, .fails_at = 3u * LH_TRANSFER_PIECE_BYTES, .cancels = store};
    put_text(store, "kept", "old");
    assert_int_equal(put_made(store, "kept", &body, NULL), LH_CLOSED);
    store->is_cancelled = false;
    assert_has_text(store, "kept", "old");
}

static void a_sink_that_fails_ends_the_get(void **state)
{
    struct store *store = *state;
    struct body body = {.length = 5ull * LH_TRANSFER_PIECE_BYTES, .fails_at = UINT64_MAX};
    struct lh_http_sink sink = {take_body, &body};
    assert_int_equal(put_made(store, "large", &body, NULL), LH_OK);
    body.fails_at = body.length / 2;
    assert_int_equal(lh_object_client_get(store->client, LH_STR("large"), &sink, &store->error),
                     LH_CORRUPT);
    assert_string_equal(store->error.text, "the sink has had enough");
    assert_true(body.taken > 0 && body.taken <= body.length / 2);
    assert_has(store, "large", body.length);
}

struct seen {
    char last[32];
    uint32_t count;
    uint32_t stop_at;
    uint64_t bytes;
};

static enum lh_status take_listed(const struct lh_object_listed *listed, void *arg,
                                  struct lh_error *error)
{
    struct seen *seen = arg;
    char key[32];
    if (seen->count == seen->stop_at)
        return lh_error_set(error, LH_CORRUPT, "enough");
    snprintf(key, sizeof key, "%.*s", LH_STR_FMT(listed->key));
    assert_true(strcmp(seen->last, key) < 0);
    assert_true(listed->etag.len > 0);
    strcpy(seen->last, key);
    seen->bytes += listed->size;
    seen->count++;
    return LH_OK;
}

static void a_list_goes_over_all_its_pages(void **state)
{
    struct store *store = *state;
    struct seen seen = {.stop_at = UINT32_MAX};
    put_text(store, "k", "before");
    put_text(store, "l/1", "behind");
    for (unsigned i = 0; i < KEYS; i++) {
        char key[32];
        snprintf(key, sizeof key, "k/%u", (i * 7919u) % KEYS);
        put_text(store, key, "123");
    }
    assert_int_equal(
        lh_object_client_list(store->client, LH_STR("k/"), take_listed, &seen, &store->error),
        LH_OK);
    assert_int_equal(seen.count, KEYS);
    assert_int_equal(seen.bytes, 3 * KEYS);
    seen = (struct seen){.stop_at = 1500};
    assert_int_equal(
        lh_object_client_list(store->client, LH_STR("k/"), take_listed, &seen, &store->error),
        LH_CORRUPT);
    seen = (struct seen){.stop_at = 0};
    assert_int_equal(
        lh_object_client_list(store->client, LH_STR("none/"), take_listed, &seen, &store->error),
        LH_OK);
}

struct worker {
    struct store store; /* a client of its own, of the same store */
    unsigned number;
    pthread_t thread;
};

static void *work(void *arg)
{
    struct worker *worker = arg;
    for (uint64_t i = 0; i < 30; i++) {
        struct body body = {.length = i * 40001, .fails_at = UINT64_MAX};
        char key[32];
        snprintf(key, sizeof key, "t%u/%u", worker->number, (unsigned)i % 3);
        assert_int_equal(put_made(&worker->store, key, &body, NULL), LH_OK);
        assert_has(&worker->store, key, body.length);
    }
    return NULL;
}

static void threads_with_clients_of_their_own_share_a_store(void **state)
{
    struct store *store = *state;
    struct worker workers[4] = {0};
    for (unsigned i = 0; i < 4; i++) {
        workers[i].number = i;
        workers[i].store.client = make_client(store);
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(workers[i].thread, NULL);
    if (store->pid == 0) /* clients of a storaged of this process outlive its thread */
        lh_storaged_stop(&store->storaged);
    for (unsigned i = 0; i < 4; i++)
        lh_object_client_destroy(workers[i].store.client);
}

static void a_store_that_has_stopped_is_said(void **state)
{
    struct store *store = *state;
    struct body body = {.length = 10, .fails_at = UINT64_MAX};
    lh_storaged_stop(&store->storaged);
    assert_int_equal(put_made(store, "a", &body, NULL), LH_STOPPING);
    assert_string_equal(store->error.text, "PUT a: storaged has stopped");
}

#define LOCAL(test)                                   \
    {                                                 \
        "local/" #test, test, start_local, stop, NULL \
    }
#define REMOTE(test)                                  \
    {                                                 \
        "http/" #test, test, start_remote, stop, NULL \
    }
#define BOTH(test) LOCAL(test), REMOTE(test)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(bodies_of_every_length_come_back),
        BOTH(odd_keys_are_the_same_on_both_ways),
        BOTH(files_go_and_come),
        BOTH(what_is_not_there_is_said),
        BOTH(a_new_object_is_put_once),
        BOTH(a_put_that_breaks_off_leaves_the_old_object),
        BOTH(a_cancelled_put_leaves_the_old_object),
        BOTH(a_sink_that_fails_ends_the_get),
        BOTH(a_list_goes_over_all_its_pages),
        BOTH(threads_with_clients_of_their_own_share_a_store),
        LOCAL(a_store_that_has_stopped_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
