/* actors/storaged_s3 through its messages, against a real S3 server that checks signatures. */
#include "actors/storaged_s3.h"
#include "unit/s3_server.h"
#include "unit/seed.h"

#include <poll.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/eventfd.h>

#include <cmocka.h>

#define PART_BYTES (256u << 10)
#define SKIPPED    77 /* what ctest takes for it */

static struct s3_server swift;

/* An asker: a mailbox on the test's own thread. */
struct asker {
    struct lh_storaged_s3 storaged;
    struct lh_mailbox mailbox;
    struct lh_msg_queue queues[LH_LANES];
    int wakeup;
    struct lh_log log;
};

struct wrong {
    const char *endpoint;
    const char *region;
    const char *bucket;
    const char *access_key;
    const char *secret_key;
};

static void wake(void *arg)
{
    uint64_t one = 1;
    assert_int_equal(write(*(int *)arg, &one, sizeof one), sizeof one);
}

static struct lh_str or_default(const char *given, const char *usual)
{
    return lh_str_of(given != NULL ? given : usual);
}

static struct asker *ask_of(const struct wrong *wrong)
{
    struct asker *asker = calloc(1, sizeof *asker);
    char endpoint[64];
    struct lh_error error;
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", swift.port);
    struct lh_s3_options store = {.endpoint = or_default(wrong->endpoint, endpoint),
                                  .region = or_default(wrong->region, S3_REGION),
                                  .bucket = or_default(wrong->bucket, S3_BUCKET),
                                  .use_path_style = true,
                                  .credentials = {or_default(wrong->access_key, S3_ACCESS_KEY),
                                                  or_default(wrong->secret_key, S3_SECRET_KEY),
                                                  {NULL, 0}}};
    asker->wakeup = eventfd(0, EFD_CLOEXEC);
    lh_mailbox_init(&asker->mailbox, wake, &asker->wakeup);
    asker->log = (struct lh_log){.fd = STDERR_FILENO, .level = {LH_LOG_WARN}};
    struct lh_storaged_s3_options options = {.log = &asker->log,
                                             .single_put_bytes = 4 * PART_BYTES,
                                             .part_bytes = PART_BYTES,
                                             .upload_bytes_max = 8 * PART_BYTES};
    assert_int_equal(lh_s3_create(&store, &options.s3, &error), LH_OK);
    assert_int_equal(lh_storaged_s3_init(&asker->storaged, &options, &error), LH_OK);
    assert_int_equal(lh_actor_start(&asker->storaged.actor, &error), LH_OK);
    return asker;
}

static struct asker *ask(void)
{
    return ask_of(&(struct wrong){0});
}

static void ask_no_more(struct asker *asker)
{
    lh_actor_stop(&asker->storaged.actor);
    lh_actor_join(&asker->storaged.actor);
    assert_int_equal(asker->storaged.upload_bytes, 0);
    assert_null(asker->storaged.works);
    lh_storaged_s3_deinit(&asker->storaged);
    close(asker->wakeup);
    free(asker);
}

/* ---- one step, and whole transfers ---- */

static void send(struct asker *asker, struct lh_transfer *transfer)
{
    assert_int_equal(lh_actor_send(&asker->storaged.actor, &transfer->head), LH_OK);
}

static struct lh_transfer *receive(struct asker *asker)
{
    struct lh_msg *msg;
    uint64_t count;
    for (;;) {
        lh_mailbox_drain(&asker->mailbox, asker->queues);
        msg = lh_msg_queue_take(&asker->queues[LH_LANE_EXPRESS]);
        if (msg != NULL)
            return (struct lh_transfer *)msg;
        struct pollfd ready = {.fd = asker->wakeup, .events = POLLIN};
        assert_int_equal(poll(&ready, 1, 120000), 1);
        assert_int_equal(read(asker->wakeup, &count, sizeof count), sizeof count);
    }
}

static struct lh_transfer *make(struct asker *asker, enum lh_transfer_op op, const char *key)
{
    struct lh_transfer *transfer = lh_transfer_create(op, &asker->mailbox);
    lh_buf_append_str(&transfer->key, lh_str_of(key));
    transfer->want_body = true;
    return transfer;
}

static char byte_at(uint64_t i)
{
    return (char)(i * 31 + (i >> 11) * 7 + (i >> 19));
}

/* Puts `len` bytes in pieces; the length is announced, or not. */
static struct lh_transfer *put_way(struct asker *asker, const char *key, uint64_t len,
                                   bool is_announced, size_t piece_len)
{
    struct lh_transfer *transfer = make(asker, LH_TRANSFER_PUT, key);
    uint64_t sent = 0;
    strcpy(transfer->info.content_type, "text/x-test; a=\"b\"");
    if (is_announced)
        transfer->length = len;
    do {
        assert_int_equal(transfer->piece.len, 0);
        for (size_t i = 0; i < piece_len && sent < len; i++)
            lh_buf_append_char(&transfer->piece, byte_at(sent++));
        transfer->is_last = sent == len;
        send(asker, transfer);
        transfer = receive(asker);
    } while (!transfer->is_over);
    return transfer;
}

static void put(struct asker *asker, const char *key, uint64_t len)
{
    struct lh_transfer *transfer = put_way(asker, key, len, true, 100000);
    assert_string_equal(transfer->error.text, "");
    assert_int_equal(transfer->error.status, LH_OK);
    assert_int_equal(transfer->info.size, len);
    assert_true(strlen(transfer->info.etag) >= 32);
    lh_transfer_destroy(transfer);
}

/* Sends the transfer of a GET until it is over; its bytes must be those of put. */
static struct lh_transfer *get_all(struct asker *asker, struct lh_transfer *transfer)
{
    uint64_t at = UINT64_MAX;
    for (;;) {
        send(asker, transfer);
        transfer = receive(asker);
        if (transfer->error.status != LH_OK)
            break;
        if (at == UINT64_MAX)
            at = transfer->body_first;
        assert_true(transfer->piece.len <= LH_S3_DOWNLOAD_BYTES_MAX);
        for (size_t i = 0; i < transfer->piece.len; i++)
            assert_int_equal(transfer->piece.ptr[i], byte_at(at + i));
        at += transfer->piece.len;
        assert_int_equal(transfer->is_over, transfer->is_last);
        if (transfer->is_over)
            break;
    }
    if (transfer->error.status == LH_OK && transfer->want_body && !transfer->is_not_modified)
        assert_int_equal(at, transfer->body_first + transfer->body_length);
    assert_true(transfer->is_over);
    return transfer;
}

static void get(struct asker *asker, const char *key, uint64_t len)
{
    struct lh_transfer *transfer = get_all(asker, make(asker, LH_TRANSFER_GET, key));
    assert_int_equal(transfer->error.status, LH_OK);
    assert_int_equal(transfer->info.size, len);
    assert_int_equal(transfer->body_length, len);
    assert_string_equal(transfer->info.content_type, "text/x-test; a=\"b\"");
    assert_true(transfer->info.modified_ms > 1600000000000u);
    lh_transfer_destroy(transfer);
}

static void get_fails(struct asker *asker, const char *key, enum lh_status status)
{
    struct lh_transfer *transfer = get_all(asker, make(asker, LH_TRANSFER_GET, key));
    assert_int_equal(transfer->error.status, status);
    lh_transfer_destroy(transfer);
}

static void del(struct asker *asker, const char *key)
{
    struct lh_transfer *transfer = make(asker, LH_TRANSFER_DELETE, key);
    send(asker, transfer);
    transfer = receive(asker);
    assert_int_equal(transfer->error.status, LH_OK);
    assert_true(transfer->is_over);
    lh_transfer_destroy(transfer);
}

static struct lh_transfer *list(struct asker *asker, const char *prefix, const char *cursor,
                                uint32_t limit)
{
    struct lh_transfer *transfer = make(asker, LH_TRANSFER_LIST, prefix);
    lh_buf_append_str(&transfer->cursor, lh_str_of(cursor));
    transfer->limit = limit;
    send(asker, transfer);
    transfer = receive(asker);
    assert_true(transfer->is_over);
    return transfer;
}

static void assert_key(const struct lh_object_entry *entry, const char *key)
{
    assert_int_equal(entry->key.len, strlen(key));
    assert_memory_equal(entry->key.ptr, key, entry->key.len);
}

/* ---- tests ---- */

static const char *const odd_keys[] = {
    "plain",
    "a b",
    "a+b",
    "a%20b",
    "100%",
    "a=b&c?d*(e)!'",
    "\xc3\xa9t\xc3\xa9/\xe2\x98\x83/\xf0\x9f\x90\x98",
    "a//b",
    "a/./b",
    "a/../b",
    "#frag;x,y:z@w",
    "tilde~",
    "\"<&>\"",
    "x\\y",
    "trailing/",
};

static void odd_keys_are_put_read_listed_and_deleted(void **state)
{
    struct asker *asker = ask();
    uint32_t count = sizeof odd_keys / sizeof odd_keys[0];
    char key[256];
    for (uint32_t i = 0; i < count; i++) {
        snprintf(key, sizeof key, "odd/%s", odd_keys[i]);
        put(asker, key, i);
    }
    struct lh_transfer *found = list(asker, "odd/", "", 1000);
    assert_int_equal(found->error.status, LH_OK);
    assert_int_equal(found->entry_count, count);
    assert_false(found->is_truncated);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = 0;
        snprintf(key, sizeof key, "odd/%s", odd_keys[i]);
        while (at < count && !lh_str_eq(found->entries[at].key, lh_str_of(key)))
            at++;
        assert_true(at < count);
        assert_int_equal(found->entries[at].size, i);
        get(asker, key, i);
        del(asker, key);
        get_fails(asker, key, LH_KEY_NOT_FOUND);
        del(asker, key); /* gone is gone */
    }
    lh_transfer_destroy(found);
    ask_no_more(asker);
}

static void a_key_that_s3_cannot_have_is_refused(void **state)
{
    struct asker *asker = ask();
    char key[LH_S3_KEY_BYTES_MAX + 2];
    memset(key, 'k', sizeof key);
    key[LH_S3_KEY_BYTES_MAX + 1] = '\0';
    get_fails(asker, key, LH_LIMIT_EXCEEDED);
    get_fails(asker, "", LH_INVALID_ARGUMENT);
    get_fails(asker, "\xff", LH_INVALID_ARGUMENT);
    key[LH_S3_KEY_BYTES_MAX] = '\0';
    put(asker, key, 10);
    get(asker, key, 10);
    del(asker, key);
    ask_no_more(asker);
}

static void bodies_of_every_size_come_back(void **state)
{
    static const uint64_t sizes[] = {0,
                                     1,
                                     100000,
                                     PART_BYTES - 1,
                                     PART_BYTES,
                                     PART_BYTES + 1,
                                     2 * PART_BYTES,
                                     4 * PART_BYTES,
                                     4 * PART_BYTES + 1,
                                     11 * PART_BYTES + 12345};
    struct asker *asker = ask();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int way = 0; way < 4; way++) {
            struct lh_transfer *transfer =
                put_way(asker, "sized", sizes[i], way & 1, way & 2 ? 700000 : 65536);
            assert_int_equal(transfer->error.status, LH_OK);
            assert_int_equal(transfer->info.size, sizes[i]);
            bool is_multipart = sizes[i] > 4 * PART_BYTES || (!(way & 1) && sizes[i] >= PART_BYTES);
            assert_int_equal(strchr(transfer->info.etag, '-') != NULL, is_multipart);
            lh_transfer_destroy(transfer);
            get(asker, "sized", sizes[i]);
        }
    del(asker, "sized");
    ask_no_more(asker);
}

static void ranges_conditions_and_heads_mean_what_they_say(void **state)
{
    struct asker *asker = ask();
    const uint64_t len = 3 * PART_BYTES;
    static const struct {
        bool is_suffix;
        uint64_t first, last, want_first, want_length;
    } ranges[] = {{false, 0, 9, 0, 10},
                  {false, 1000, UINT64_MAX, 1000, 3 * PART_BYTES - 1000},
                  {false, 5, 5, 5, 1},
                  {true, 0, 100, 3 * PART_BYTES - 100, 100},
                  {false, 3 * PART_BYTES - 1, 9999999, 3 * PART_BYTES - 1, 1}};
    put(asker, "ranged", len);
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        struct lh_transfer *transfer = make(asker, LH_TRANSFER_GET, "ranged");
        transfer->has_range = true;
        transfer->is_range_suffix = ranges[i].is_suffix;
        transfer->range_first = ranges[i].first;
        transfer->range_last = ranges[i].last;
        transfer = get_all(asker, transfer);
        assert_int_equal(transfer->error.status, LH_OK);
        assert_int_equal(transfer->info.size, len);
        assert_int_equal(transfer->body_first, ranges[i].want_first);
        assert_int_equal(transfer->body_length, ranges[i].want_length);
        lh_transfer_destroy(transfer);
    }
    struct lh_transfer *outside = make(asker, LH_TRANSFER_GET, "ranged");
    outside->has_range = true;
    outside->range_first = len;
    outside->range_last = UINT64_MAX;
    outside = get_all(asker, outside);
    assert_int_equal(outside->error.status, LH_RANGE_NOT_SATISFIABLE);
    lh_transfer_destroy(outside);

    struct lh_transfer *head = make(asker, LH_TRANSFER_GET, "ranged");
    head->want_body = false;
    head = get_all(asker, head);
    assert_int_equal(head->error.status, LH_OK);
    assert_int_equal(head->info.size, len);
    assert_int_equal(head->piece.len, 0);

    struct lh_transfer *same = make(asker, LH_TRANSFER_GET, "ranged");
    lh_buf_printf(&same->if_none_match, "\"%s\"", head->info.etag);
    same = get_all(asker, same);
    assert_int_equal(same->error.status, LH_OK);
    assert_true(same->is_not_modified);
    lh_transfer_destroy(same);
    lh_transfer_destroy(head);

    struct lh_transfer *other = make(asker, LH_TRANSFER_GET, "ranged");
    lh_buf_printf(&other->if_match, "\"0123456789abcdef0123456789abcdef\"");
    other = get_all(asker, other);
    assert_int_equal(other->error.status, LH_PRECONDITION_FAILED);
    lh_transfer_destroy(other);

    struct lh_transfer *none = make(asker, LH_TRANSFER_GET, "nothing is here");
    none->want_body = false;
    none = get_all(asker, none);
    assert_int_equal(none->error.status, LH_KEY_NOT_FOUND);
    lh_transfer_destroy(none);
    del(asker, "ranged");
    ask_no_more(asker);
}

/* What the store keeps: objects, parts, and the marks of uploads. */
static unsigned long files_at_the_store(void)
{
    char line[128];
    snprintf(line, sizeof line, "find %s/devices -name '*.data' | wc -l", swift.folder);
    FILE *out = popen(line, "r");
    assert_non_null(out);
    assert_non_null(fgets(line, sizeof line, out));
    pclose(out);
    return strtoul(line, NULL, 10);
}

static void an_upload_that_is_aborted_leaves_nothing(void **state)
{
    struct asker *asker = ask();
    unsigned long before = files_at_the_store();
    for (int pieces = 1; pieces < 12; pieces++) {
        struct lh_transfer *transfer = make(asker, LH_TRANSFER_PUT, "aborted");
        for (int i = 0; i <= pieces; i++) {
            transfer->is_abort = i == pieces;
            for (size_t j = 0; j < 150000 && i < pieces; j++)
                lh_buf_append_char(&transfer->piece, byte_at(j));
            send(asker, transfer);
            transfer = receive(asker);
            assert_int_equal(transfer->error.status, LH_OK);
            assert_int_equal(transfer->is_over, i == pieces);
        }
        lh_transfer_destroy(transfer);
        get_fails(asker, "aborted", LH_KEY_NOT_FOUND);
        assert_int_equal(files_at_the_store(), before);
    }
    ask_no_more(asker);
}

/* Sends a put's last piece, which is the caller's mistake. */
static void put_is_invalid(struct asker *asker, struct lh_transfer *transfer)
{
    transfer->is_last = true;
    send(asker, transfer);
    transfer = receive(asker);
    assert_true(transfer->is_over);
    assert_int_equal(transfer->error.status, LH_INVALID_ARGUMENT);
    lh_transfer_destroy(transfer);
}

static void a_body_that_is_not_as_long_as_announced_is_refused(void **state)
{
    struct asker *asker = ask();
    for (uint64_t announced = 10; announced < 10000000; announced += 4999990) {
        struct lh_transfer *transfer = make(asker, LH_TRANSFER_PUT, "short");
        transfer->length = announced;
        lh_buf_append_str(&transfer->piece, LH_STR("12345"));
        put_is_invalid(asker, transfer);
    }
    get_fails(asker, "short", LH_KEY_NOT_FOUND);
    ask_no_more(asker);
}

static void lists_are_in_byte_order_and_go_on_behind_the_cursor(void **state)
{
    enum { COUNT = 25 };
    struct asker *asker = ask();
    char key[32];
    for (int i = 0; i < COUNT; i++) {
        snprintf(key, sizeof key, "paged/%c%d", "Aa~"[i % 3], i);
        put(asker, key, 1);
    }
    char last[64] = "";
    uint32_t seen = 0;
    bool has_more = true;
    while (has_more) {
        struct lh_transfer *page = list(asker, "paged/", last, 7);
        assert_int_equal(page->error.status, LH_OK);
        for (uint32_t i = 0; i < page->entry_count; i++, seen++) {
            snprintf(key, sizeof key, "%.*s", LH_STR_FMT(page->entries[i].key));
            assert_true(strcmp(key, last) > 0);
            strcpy(last, key);
        }
        has_more = page->is_truncated;
        lh_transfer_destroy(page);
    }
    assert_int_equal(seen, COUNT);
    struct lh_transfer *none = list(asker, "paged/zzz", "", 5);
    assert_int_equal(none->entry_count, 0);
    assert_false(none->is_truncated);
    lh_transfer_destroy(none);
    struct lh_transfer *one = list(asker, "paged/A0", "", 5);
    assert_int_equal(one->entry_count, 1);
    assert_key(&one->entries[0], "paged/A0");
    lh_transfer_destroy(one);
    ask_no_more(asker);
}

static void a_reader_that_stops_is_closed(void **state)
{
    struct asker *asker = ask();
    put(asker, "large", 30 * PART_BYTES);
    struct lh_transfer *transfer = make(asker, LH_TRANSFER_GET, "large");
    send(asker, transfer);
    transfer = receive(asker);
    assert_false(transfer->is_last);
    usleep(200000); /* the store sends on until it is held back */
    transfer->is_abort = true;
    send(asker, transfer);
    transfer = receive(asker);
    assert_true(transfer->is_over);
    assert_int_equal(transfer->error.status, LH_OK);
    lh_transfer_destroy(transfer);
    get(asker, "large", 30 * PART_BYTES);
    ask_no_more(asker);
}

static void many_uploads_share_the_room(void **state)
{
    enum { COUNT = 50 };
    struct asker *asker = ask();
    uint64_t sent[COUNT] = {0};
    const uint64_t len = 5 * PART_BYTES + 77;
    char key[32];
    unsigned over = 0;
    for (uintptr_t i = 0; i < COUNT; i++) {
        snprintf(key, sizeof key, "many/%zu", (size_t)i);
        struct lh_transfer *transfer = make(asker, LH_TRANSFER_PUT, key);
        strcpy(transfer->info.content_type, "text/x-test; a=\"b\"");
        transfer->length = i % 2 ? len : LH_HTTP_LENGTH_UNKNOWN;
        transfer->owner = &sent[i];
        send(asker, transfer);
    }
    while (over < COUNT) {
        struct lh_transfer *transfer = receive(asker);
        uint64_t *at = transfer->owner;
        assert_int_equal(transfer->error.status, LH_OK);
        if (transfer->is_over) {
            over++;
            lh_transfer_destroy(transfer);
            continue;
        }
        for (size_t i = 0; i < 100000 && *at < len; i++)
            lh_buf_append_char(&transfer->piece, byte_at((*at)++));
        transfer->is_last = *at == len;
        send(asker, transfer);
    }
    for (int i = 0; i < COUNT; i++) {
        snprintf(key, sizeof key, "many/%d", i);
        get(asker, key, len);
    }
    ask_no_more(asker);
}

/* Whoever has a file sends its bytes instead. */
static void a_file_becomes_no_object(void **state)
{
    struct asker *asker = ask();
    struct lh_transfer *transfer = make(asker, LH_TRANSFER_PUT, "linked");
    transfer->linked = "/proc/self/exe";
    transfer->length = 1;
    put_is_invalid(asker, transfer);
    transfer = make(asker, LH_TRANSFER_GET, "linked");
    send(asker, transfer);
    transfer = receive(asker);
    assert_int_equal(transfer->error.status, LH_KEY_NOT_FOUND);
    lh_transfer_destroy(transfer);
    ask_no_more(asker);
}

static void what_is_wrong_is_named(void **state)
{
    static const struct {
        struct wrong wrong;
        const char *want;
    } cases[] = {
        {{.secret_key = "not it"}, "s3.secret_access_key: it is not the one of s3.access_key_id"},
        {{.access_key = "nobody"}, "s3.access_key_id"},
        {{.bucket = "no-such-bucket"}, "s3.bucket: the store has no bucket \"no-such-bucket\""},
        {{.region = "us-west-9"}, "s3.region: the store wants \"eu-test-1\""},
        {{.endpoint = "http://127.0.0.1:1"}, "s3.endpoint: http://127.0.0.1:1: Connection refused"},
        {{.endpoint = "http://no-such-host.invalid"}, "no such host"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct asker *asker = ask_of(&cases[i].wrong);
        struct lh_transfer *transfer = make(asker, LH_TRANSFER_GET, "key");
        transfer = get_all(asker, transfer);
        print_message("%s\n", transfer->error.text);
        assert_int_equal(transfer->error.status, LH_BAD_GATEWAY);
        assert_non_null(strstr(transfer->error.text, cases[i].want));
        lh_transfer_destroy(transfer);
        ask_no_more(asker);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_keys_are_put_read_listed_and_deleted),
        cmocka_unit_test(a_key_that_s3_cannot_have_is_refused),
        cmocka_unit_test(bodies_of_every_size_come_back),
        cmocka_unit_test(ranges_conditions_and_heads_mean_what_they_say),
        cmocka_unit_test(an_upload_that_is_aborted_leaves_nothing),
        cmocka_unit_test(a_body_that_is_not_as_long_as_announced_is_refused),
        cmocka_unit_test(lists_are_in_byte_order_and_go_on_behind_the_cursor),
        cmocka_unit_test(a_reader_that_stops_is_closed),
        cmocka_unit_test(many_uploads_share_the_room),
        cmocka_unit_test(a_file_becomes_no_object),
        cmocka_unit_test(what_is_wrong_is_named),
    };
    if (!s3_server_start(&swift)) {
        printf("python3-swift is not here: there is no S3 store to test with\n");
        return SKIPPED;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    s3_server_end(&swift);
    return failed;
}
