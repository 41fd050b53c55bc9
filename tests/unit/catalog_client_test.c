/* actors/catalog_client: the same tests over both ways, by messages to a catalog of the test's own
 * and over HTTP to a lakehoused that it starts. */
#include "actors/catalog_client.h"
#include "actors/catalog_service.h"
#include "actors/storaged.h"
#include "store/object_key.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define BELIEVE_MS 300u
#define HOUR_MS    3600000u

struct host {
    char folder[64];
    struct lh_log log;
    struct lh_config *config;
    struct lh_storaged storaged; /* when `pid` is 0 */
    struct lh_catalog catalog;
    pid_t pid;
    char url[64];
    struct lh_object_client *objects;
    struct lh_catalog_client *client;
    struct lh_error error;
};

static struct lh_catalog_client *make_client(struct host *host, uint64_t believe_ms)
{
    struct lh_catalog_client *client;
    struct lh_catalog_client_options options = {.url = lh_str_of(host->url),
                                                .believe_ms = believe_ms};
    if (host->pid == 0)
        options.catalogd = &host->catalog.catalogd.actor;
    assert_int_equal(lh_catalog_client_create(&options, &client, &host->error), LH_OK);
    return client;
}

static struct lh_object_client_options objects_of(struct host *host)
{
    struct lh_object_client_options options = {.url = lh_str_of(host->url)};
    if (host->pid == 0)
        options.storaged = &host->storaged.actor;
    return options;
}

/* The catalog reads its store first. */
static void wait_for_catalog(struct host *host)
{
    struct lh_buf answer = LH_BUF_EMPTY;
    for (unsigned i = 0; i < 3000; i++) {
        if (lh_catalog_client_list(host->client, LH_STR(""), LH_STR(""), 1, &answer,
                                   &host->error) == LH_OK)
            break;
        assert_int_equal(host->error.status, LH_DATASET_LOADING);
        usleep(10000);
    }
    assert_true(answer.len > 0);
    lh_buf_deinit(&answer);
}

static struct host *make_host(void)
{
    struct host *host = calloc(1, sizeof *host);
    assert_non_null(host);
    strcpy(host->folder, "/tmp/lakehoused-catalog-XXXXXX");
    assert_non_null(mkdtemp(host->folder));
    return host;
}

static void finish_host(struct host *host)
{
    struct lh_object_client_options objects = objects_of(host);
    assert_int_equal(lh_object_client_create(&objects, &host->objects, &host->error), LH_OK);
    host->client = make_client(host, 0);
    wait_for_catalog(host);
}

static int start_local(void **state)
{
    if (lh_sql_version() == NULL)
        return 0;
    struct host *host = make_host();
    struct lh_disk_options disk = {.key = "root", .lock = LH_OBJECT_LOCK_FILE, .is_shared = true};
    struct lh_storaged_options storaged = {.root = host->folder, .log = &host->log};
    char setting[96], note[160];
    host->log = (struct lh_log){.fd = STDERR_FILENO, .level = {LH_LOG_ERROR}};
    assert_int_equal(lh_disk_open_folder(host->folder, &disk, &storaged.disk, note, &host->error),
                     LH_OK);
    assert_int_equal(lh_disk_open_plain(host->folder, &storaged.walk_disk, &host->error), LH_OK);
    assert_int_equal(lh_storaged_init(&host->storaged, &storaged, &host->error), LH_OK);
    assert_int_equal(lh_storaged_start(&host->storaged, &host->error), LH_OK);
    assert_int_equal(lh_config_create(&host->config), LH_OK);
    snprintf(setting, sizeof setting, "vectord.data_dir=%s/work", host->folder);
    assert_int_equal(lh_config_set_argument(host->config, lh_str_of(setting), &host->error), LH_OK);
    struct lh_catalog_options options = {
        .config = host->config, .objects = objects_of(host), .log = &host->log};
    assert_int_equal(lh_catalog_init(&host->catalog, &options, &host->error), LH_OK);
    assert_true(host->catalog.is_made);
    assert_int_equal(lh_catalog_start(&host->catalog, &host->error), LH_OK);
    finish_host(host);
    *state = host;
    return 0;
}

/* The port on which the server's log says that it listens; 0: not yet. */
static unsigned port_of(const char *log)
{
    char text[8192];
    int file = open(log, O_RDONLY);
    ssize_t len = file >= 0 ? read(file, text, sizeof text - 1) : 0;
    close(file);
    text[len > 0 ? len : 0] = '\0';
    if (strstr(text, "\"event\":\"started\"") == NULL)
        return 0;
    const char *at = strstr(text, "\"service\":\"gateway\"");
    assert_non_null(at);
    at = strstr(at, "127.0.0.1:");
    assert_non_null(at);
    return (unsigned)strtoul(at + strlen("127.0.0.1:"), NULL, 10);
}

static int start_remote(void **state)
{
    if (lh_sql_version() == NULL)
        return 0;
    struct host *host = make_host();
    char log[96], root[96];
    unsigned port = 0;
    snprintf(log, sizeof log, "%s/log", host->folder);
    snprintf(root, sizeof root, "storaged.root=%s/root", host->folder);
    host->pid = fork();
    assert_true(host->pid >= 0);
    if (host->pid == 0) {
        int file = open(log, O_WRONLY | O_CREAT, 0600);
        dup2(file, STDERR_FILENO);
        execl(LH_LAKEHOUSED, "lakehoused", "--set", root, "--set", "gateway.bind=127.0.0.1:0",
              "--set", "vectord.bind=none", "--set", "storaged.bind=none", "--set",
              "catalogd.bind=none", "--set", "ingestd.bind=none", "--set", "queryd.bind=none",
              (char *)NULL);
        _exit(127);
    }
    for (unsigned i = 0; i < 3000 && port == 0; i++) {
        usleep(10000);
        port = port_of(log);
    }
    assert_int_not_equal(port, 0);
    snprintf(host->url, sizeof host->url, "http://127.0.0.1:%u/", port);
    finish_host(host);
    *state = host;
    return 0;
}

static int stop(void **state)
{
    struct host *host = *state;
    char command[96];
    int status = 0;
    if (host == NULL)
        return 0;
    if (host->pid == 0) {
        lh_catalog_stop(&host->catalog);
        lh_storaged_stop(&host->storaged);
    }
    lh_catalog_client_destroy(host->client);
    lh_object_client_destroy(host->objects);
    if (host->pid == 0) {
        lh_catalog_deinit(&host->catalog);
        lh_storaged_deinit(&host->storaged);
        lh_config_destroy(host->config);
    } else {
        kill(host->pid, SIGTERM);
        waitpid(host->pid, &status, 0);
    }
    snprintf(command, sizeof command, "rm -rf %s", host->folder);
    assert_int_equal(system(command), 0);
    free(host);
    return status;
}

static struct host *host_of(void **state)
{
    if (*state == NULL)
        skip();
    return *state;
}

/* ---- calls ---- */

/* An object whose key is the fingerprint, and the registration of it. */
static enum lh_status registers(struct host *host, struct lh_catalog_client *client,
                                const char *name, const char *fingerprint,
                                enum lh_register_mode mode, bool *is_new)
{
    struct lh_manifest_object object = {.key = lh_str_of(fingerprint), .size = 3};
    struct lh_manifest asked = {.name = lh_str_of(name),
                                .fingerprint = lh_str_of(fingerprint),
                                .objects = &object,
                                .count = 1,
                                .schema_json = LH_STR("[{\"name\":\"a\",\"type\":\"DATE\"}]"),
                                .has_row_count = true,
                                .row_count = 7};
    struct lh_manifest *made = NULL;
    assert_int_equal(lh_object_client_put_bytes(host->objects, object.key, LH_STR("abc"), NULL,
                                                NULL, &host->error),
                     LH_OK);
    enum lh_status status =
        lh_catalog_client_register(client, &asked, mode, &made, is_new, &host->error);
    if (status == LH_OK) {
        assert_string_equal(made->name.ptr, name);
        assert_string_equal(made->schema_json.ptr, asked.schema_json.ptr);
    }
    lh_manifest_destroy(made);
    return status;
}

static uint64_t version_of(struct host *host, struct lh_catalog_client *client, const char *name)
{
    struct lh_manifest *manifest;
    if (lh_catalog_client_get(client, lh_str_of(name), 0, &manifest, &host->error) != LH_OK)
        fail_msg("%s", host->error.text);
    uint64_t version = manifest->version;
    lh_manifest_destroy(manifest);
    return version;
}

/* ---- tests ---- */

static void what_is_registered_is_got(void **state)
{
    struct host *host = host_of(state);
    struct lh_manifest *manifest;
    bool is_new;
    assert_int_equal(registers(host, host->client, "demo", "f1", LH_REGISTER_CREATE, &is_new),
                     LH_OK);
    assert_true(is_new);
    assert_int_equal(registers(host, host->client, "demo", "f1", LH_REGISTER_CREATE, &is_new),
                     LH_OK);
    assert_false(is_new);
    assert_int_equal(registers(host, host->client, "demo", "f2", LH_REGISTER_APPEND, &is_new),
                     LH_OK);
    assert_true(is_new);
    assert_int_equal(
        lh_catalog_client_get(host->client, LH_STR("demo"), 0, &manifest, &host->error), LH_OK);
    assert_string_equal(manifest->dataset_id, "679e0307-be5f-5828-a0e7-9afab4462864");
    assert_int_equal(manifest->version, 2);
    assert_int_equal(manifest->count, 2);
    assert_int_equal(manifest->row_count, 14);
    assert_string_equal(manifest->objects[0].key.ptr, "f1");
    assert_string_equal(manifest->objects[0].fingerprint.ptr, "f1");
    assert_string_equal(manifest->objects[1].fingerprint.ptr, "f2");
    assert_true(manifest->created_ms > 1700000000000);
    lh_manifest_destroy(manifest);
    assert_int_equal(
        lh_catalog_client_get(host->client, LH_STR("demo"), 1, &manifest, &host->error), LH_OK);
    assert_int_equal(manifest->version, 1);
    lh_manifest_destroy(manifest);
}

static void what_is_refused_has_the_same_status_on_both_ways(void **state)
{
    struct host *host = host_of(state);
    struct lh_manifest *manifest;
    struct lh_buf answer = LH_BUF_EMPTY;
    bool is_new;
    assert_int_equal(registers(host, host->client, "a", "f1", LH_REGISTER_CREATE, &is_new), LH_OK);
    assert_int_equal(registers(host, host->client, "a", "f2", LH_REGISTER_CREATE, &is_new),
                     LH_FINGERPRINT_CONFLICT);
    assert_non_null(strstr(host->error.text, "f1"));
    assert_int_equal(registers(host, host->client, "a b", "f2", LH_REGISTER_CREATE, &is_new),
                     LH_INVALID_ARGUMENT);
    assert_int_equal(strncmp(host->error.text, "name", 4), 0);
    assert_int_equal(
        lh_catalog_client_get(host->client, LH_STR("none"), 0, &manifest, &host->error),
        LH_DATASET_NOT_FOUND);
    assert_int_equal(lh_catalog_client_get(host->client, LH_STR("a"), 9, &manifest, &host->error),
                     LH_VERSION_NOT_FOUND);
    assert_int_equal(lh_catalog_client_delete(host->client, LH_STR("none"), true, &host->error),
                     LH_DATASET_NOT_FOUND);
    struct lh_manifest_object object = {.key = LH_STR("missing"), .size = 3};
    struct lh_manifest asked = {
        .name = LH_STR("b"), .fingerprint = LH_STR("f"), .objects = &object, .count = 1};
    assert_int_equal(lh_catalog_client_register(host->client, &asked, LH_REGISTER_CREATE, &manifest,
                                                &is_new, &host->error),
                     LH_OBJECT_MISMATCH);
    assert_non_null(strstr(host->error.text, "objects[0].key"));
    assert_int_equal(
        lh_catalog_client_list(host->client, LH_STR(""), LH_STR(""), 10, &answer, &host->error),
        LH_OK);
    assert_null(memmem(answer.ptr, answer.len, "\"b\"", 3));
    lh_buf_deinit(&answer);
}

static void datasets_are_listed_and_deleted(void **state)
{
    struct host *host = host_of(state);
    struct lh_buf answer = LH_BUF_EMPTY;
    struct lh_object_info info;
    bool is_new;
    for (const char *const *name = (const char *const[]){"x1", "x2", "y", NULL}; *name; name++)
        assert_int_equal(registers(host, host->client, *name, *name, LH_REGISTER_CREATE, &is_new),
                         LH_OK);
    assert_int_equal(
        lh_catalog_client_list(host->client, LH_STR("x"), LH_STR("x1"), 10, &answer, &host->error),
        LH_OK);
    assert_non_null(memmem(answer.ptr, answer.len, "\"x2\"", 4));
    assert_null(memmem(answer.ptr, answer.len, "\"x1\"", 4));
    assert_null(memmem(answer.ptr, answer.len, "\"y\"", 3));
    lh_buf_deinit(&answer);
    assert_int_equal(lh_catalog_client_delete(host->client, LH_STR("x1"), false, &host->error),
                     LH_OK);
    assert_int_equal(lh_catalog_client_delete(host->client, LH_STR("x2"), true, &host->error),
                     LH_OK);
    assert_int_equal(lh_object_client_head(host->objects, LH_STR("x1"), &info, &host->error),
                     LH_OK);
    assert_int_equal(lh_object_client_head(host->objects, LH_STR("x2"), &info, &host->error),
                     LH_KEY_NOT_FOUND);
}

/* From another process, for as long as was said; in this one, never; one's own changes, at once. */
static void a_manifest_is_believed_for_a_while(void **state)
{
    struct host *host = host_of(state);
    struct lh_catalog_client *believer = make_client(host, BELIEVE_MS);
    struct lh_catalog_client *steady = make_client(host, HOUR_MS);
    bool is_new, is_remote = host->pid != 0;
    assert_int_equal(registers(host, host->client, "a", "f1", LH_REGISTER_CREATE, &is_new), LH_OK);
    assert_int_equal(version_of(host, believer, "a"), 1);
    assert_int_equal(version_of(host, steady, "a"), 1);
    assert_int_equal(registers(host, host->client, "a", "f2", LH_REGISTER_APPEND, &is_new), LH_OK);
    assert_int_equal(version_of(host, host->client, "a"), 2);
    assert_int_equal(version_of(host, steady, "a"), is_remote ? 1 : 2);
    usleep((BELIEVE_MS + 50) * 1000);
    assert_int_equal(version_of(host, believer, "a"), 2);
    assert_int_equal(registers(host, believer, "a", "f3", LH_REGISTER_APPEND, &is_new), LH_OK);
    assert_int_equal(version_of(host, believer, "a"), 3);
    assert_int_equal(registers(host, steady, "a", "f4", LH_REGISTER_APPEND, &is_new), LH_OK);
    assert_int_equal(version_of(host, steady, "a"), 4);
    if (!is_remote) { /* as threads are joined before a client goes */
        struct lh_catalog_client *own = host->client;
        lh_catalog_stop(&host->catalog);
        assert_int_equal(lh_catalog_client_delete(own, LH_STR("a"), false, &host->error),
                         LH_CLOSED);
    }
    lh_catalog_client_destroy(steady);
    lh_catalog_client_destroy(believer);
}

static void *append(void *arg)
{
    struct host *host = ((void **)arg)[0];
    const char *label = ((void **)arg)[1];
    struct lh_catalog_client *client = ((void **)arg)[2];
    struct lh_manifest *made;
    struct lh_error error;
    char fingerprint[16];
    bool is_new;
    (void)host;
    for (unsigned i = 0; i < 20; i++) {
        snprintf(fingerprint, sizeof fingerprint, "%s%u", label, i);
        struct lh_manifest_object object = {.key = lh_str_of(fingerprint), .size = 3};
        struct lh_manifest asked = {.name = LH_STR("all"),
                                    .fingerprint = lh_str_of(fingerprint),
                                    .objects = &object,
                                    .count = 1};
        if (lh_catalog_client_register(client, &asked, LH_REGISTER_APPEND, &made, &is_new,
                                       &error) != LH_OK)
            return arg;
        lh_manifest_destroy(made);
    }
    return NULL;
}

static void threads_with_clients_of_their_own_share_a_catalog(void **state)
{
    struct host *host = host_of(state);
    static const char *const labels[] = {"p", "q", "r", "s"};
    struct lh_catalog_client *clients[4];
    pthread_t threads[4];
    void *args[4][3];
    void *failed = NULL;
    char key[16];
    for (unsigned i = 0; i < 4; i++) {
        clients[i] = make_client(host, 0);
        args[i][0] = host;
        args[i][1] = (void *)(uintptr_t)labels[i];
        args[i][2] = clients[i];
        for (unsigned j = 0; j < 20; j++) {
            snprintf(key, sizeof key, "%s%u", labels[i], j);
            assert_int_equal(lh_object_client_put_bytes(host->objects, lh_str_of(key),
                                                        LH_STR("abc"), NULL, NULL, &host->error),
                             LH_OK);
        }
    }
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, append, args[i]), 0);
    for (unsigned i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        failed = result != NULL ? result : failed;
    }
    assert_null(failed);
    assert_int_equal(version_of(host, host->client, "all"), 80);
    if (host->pid == 0)
        lh_catalog_stop(&host->catalog);
    for (unsigned i = 0; i < 4; i++)
        lh_catalog_client_destroy(clients[i]);
}

#define LOCAL(test)  cmocka_unit_test_setup_teardown(test, start_local, stop)
#define REMOTE(test) cmocka_unit_test_setup_teardown(test, start_remote, stop)
#define BOTH(test)   LOCAL(test), REMOTE(test)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(what_is_registered_is_got),
        BOTH(what_is_refused_has_the_same_status_on_both_ways),
        BOTH(datasets_are_listed_and_deleted),
        BOTH(a_manifest_is_believed_for_a_while),
        BOTH(threads_with_clients_of_their_own_share_a_catalog),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
