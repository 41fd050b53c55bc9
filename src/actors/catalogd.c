/* The catalog's actor: questions are answered from memory, changes one after the other.
 *
 * Runs on catalogd's thread, which blocks in its mailbox alone. What blocks in the object store or
 * in DuckDB is a job for the store's thread (catalog_store.c) and comes back as a message.
 *
 * Invariants: a manifest is in the object store for good before it is in force here; one change is
 * under way at a time, so what was decided about it still holds when its job is back. */
#include "actors/catalogd.h"

#include "base/clock.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

/* ---- answers ---- */

void lh__catalogd_answer(struct lh_catalogd *catalogd, struct lh_catalog_call *call)
{
    (void)catalogd;
    if (call->error.status == LH_OK && lh_buf_failed(&call->answer))
        lh_error_set(&call->error, LH_OUT_OF_MEMORY, "not enough memory for the answer");
    call->head.lane = LH_LANE_EXPRESS;
    enum lh_status status = lh_mailbox_push(call->reply_to, &call->head);
    assert(status == LH_OK); /* who asks waits for the answer */
    (void)status;
}

void lh__catalogd_answer_error(struct lh_catalogd *catalogd, struct lh_catalog_call *call,
                               const struct lh_error *error)
{
    call->error = *error;
    lh__catalogd_answer(catalogd, call);
}

void lh__catalogd_answer_manifest(struct lh_catalogd *catalogd, struct lh_catalog_call *call,
                                  int http_status, const struct lh_manifest *manifest)
{
    call->http_status = http_status;
    lh_manifest_append_json(manifest, &call->answer);
    lh__catalogd_answer(catalogd, call);
}

void lh__catalogd_send(struct lh_catalogd *catalogd, struct lh_catalog_job *job)
{
    enum lh_status status = lh_actor_send(catalogd->store, &job->head);
    assert(status == LH_OK); /* it stops after this one */
    (void)status;
}

/* ---- limits of the caller ---- */

bool lh__catalogd_allows_key(const struct lh_catalog_call *call, struct lh_str key)
{
    struct lh_str left = lh_buf_str(&call->allowed);
    bool allows = left.len == 0;
    while (left.len > 0 && !allows) {
        const char *end = memchr(left.ptr, '\n', left.len);
        struct lh_str prefix = {left.ptr, (size_t)(end - left.ptr)};
        allows = prefix.len > 0 && lh_str_has_prefix(key, prefix);
        left = (struct lh_str){end + 1, left.len - prefix.len - 1};
    }
    return allows;
}

bool lh__catalogd_allows_name(const struct lh_catalog_call *call, struct lh_str name)
{
    char folder[sizeof LH_DATASET_FOLDER + LH_NAME_BYTES_MAX + 1];
    int len = snprintf(folder, sizeof folder, LH_DATASET_FOLDER "%.*s/", LH_STR_FMT(name));
    return lh__catalogd_allows_key(call, (struct lh_str){folder, (size_t)len});
}

/* ---- questions ---- */

enum lh_status lh__catalogd_check_listed(const struct lh_catalogd *catalogd, struct lh_error *error)
{
    if (catalogd->is_listed)
        return LH_OK;
    if (catalogd->trouble.status != LH_OK)
        return lh_error_set(error, LH_DATASET_LOADING,
                            "the catalog is not read yet, as the object store failed: %.90s",
                            catalogd->trouble.text);
    return lh_error_set(error, LH_DATASET_LOADING, "the catalog is being read: try again");
}

static enum lh_status not_found(struct lh_str name, struct lh_error *error)
{
    return lh_error_set(error, LH_DATASET_NOT_FOUND, "there is no dataset \"%.*s\"",
                        LH_STR_FMT(name));
}

/* An older version is read when it is asked for. */
static void read_old(struct lh_catalogd *catalogd, struct lh_catalog_call *call)
{
    struct lh_error error;
    struct lh_catalog_job *job = lh_catalog_job_create(LH_CATALOG_READ, LH_LANE_EXPRESS);
    if (job == NULL || lh_catalog_job_add(job, lh_str_of(call->name), call->version) != LH_OK) {
        lh_catalog_job_destroy(job);
        lh_error_set(&error, LH_OUT_OF_MEMORY, "not enough memory for the manifest");
        lh__catalogd_answer_error(catalogd, call, &error);
        return;
    }
    job->call = call;
    lh__catalogd_send(catalogd, job);
}

static void old_back(struct lh_catalogd *catalogd, struct lh_catalog_job *job)
{
    struct lh_catalog_call *call = job->call;
    struct lh_catalog_version *old = &job->versions[0];
    struct lh_error error;
    job->call = NULL;
    if (job->error.status != LH_OK) {
        lh__catalogd_answer_error(catalogd, call, &job->error);
    } else if (old->manifest != NULL) {
        lh__catalogd_answer_manifest(catalogd, call, 200, old->manifest);
        struct lh_dataset *dataset = lh_registry_find(&catalogd->registry, lh_str_of(old->name));
        if (dataset != NULL && lh_dataset_has_version(dataset, old->version)) {
            lh_registry_remember(&catalogd->registry, old->manifest);
            old->manifest = NULL;
        }
    } else {
        bool is_gone = old->error.status == LH_KEY_NOT_FOUND;
        lh_error_set(&error, is_gone ? LH_VERSION_NOT_FOUND : LH_DATASET_FAILED,
                     "version %" PRIu64 " is %s: %.110s", old->version, is_gone ? "gone" : "broken",
                     old->error.text);
        lh__catalogd_answer_error(catalogd, call, &error);
    }
    lh_catalog_job_destroy(job);
}

/* What keeps the newest manifest from being answered. */
static enum lh_status tell_state(struct lh_catalogd *catalogd, const struct lh_dataset *dataset,
                                 struct lh_error *error)
{
    switch (dataset->state) {
    case LH_DATASET_IS_DELETING:
        return not_found(lh_str_of(dataset->name), error);
    case LH_DATASET_IS_FAILED:
        return lh_error_set(error, LH_DATASET_FAILED, "version %" PRIu64 " is broken: %.120s",
                            lh_dataset_last_version(dataset), dataset->reason);
    default:
        if (catalogd->trouble.status != LH_OK)
            return lh_error_set(
                error, LH_DATASET_LOADING,
                "the manifest is still to be read, as the object store failed: %.80s",
                catalogd->trouble.text);
        return lh_error_set(error, LH_DATASET_LOADING,
                            "the manifest is still to be read, as are those of %" PRIu64
                            " of %" PRIu64 " datasets: try again",
                            lh_counter_get(&catalogd->metrics.unread),
                            lh_counter_get(&catalogd->metrics.datasets));
    }
}

static void get(struct lh_catalogd *catalogd, struct lh_catalog_call *call)
{
    struct lh_str name = lh_str_of(call->name);
    const struct lh_dataset *dataset = lh_registry_find(&catalogd->registry, name);
    struct lh_error error;
    if (lh__catalogd_check_listed(catalogd, &error) != LH_OK) {
        lh__catalogd_answer_error(catalogd, call, &error);
        return;
    }
    if (dataset == NULL || dataset->version_count == 0) {
        not_found(name, &error);
        lh__catalogd_answer_error(catalogd, call, &error);
        return;
    }
    uint64_t last = lh_dataset_last_version(dataset);
    const struct lh_manifest *found = dataset->newest;
    if (call->version != 0 && call->version != last)
        found = lh_registry_recall(&catalogd->registry, name, call->version);
    if (found != NULL) {
        lh__catalogd_answer_manifest(catalogd, call, 200, found);
    } else if (call->version == 0 || call->version == last) {
        tell_state(catalogd, dataset, &error);
        lh__catalogd_answer_error(catalogd, call, &error);
    } else if (lh_dataset_has_version(dataset, call->version)) {
        read_old(catalogd, call);
    } else {
        lh_error_set(&error, LH_VERSION_NOT_FOUND,
                     "dataset \"%.60s\" has no version %" PRIu64 ", the newest is %" PRIu64,
                     dataset->name, call->version, last);
        lh__catalogd_answer_error(catalogd, call, &error);
    }
}

static void append_dataset(const struct lh_dataset *dataset, struct lh_buf *out)
{
    const struct lh_manifest *newest = dataset->newest;
    char id[LH_DATASET_ID_BYTES + 1];
    lh_dataset_id(lh_str_of(dataset->name), id);
    lh_buf_printf(out,
                  "{\"name\":\"%s\",\"dataset_id\":\"%s\",\"state\":\"%s\",\"version\":%" PRIu64
                  ",\"versions\":%" PRIu32,
                  dataset->name, id, lh_dataset_state_name(dataset->state),
                  lh_dataset_last_version(dataset), dataset->version_count);
    if (dataset->state == LH_DATASET_IS_FAILED) {
        lh_buf_append_str(out, LH_STR(",\"reason\":"));
        lh_buf_append_json_string(out, lh_str_of(dataset->reason));
    }
    if (newest != NULL) {
        uint64_t size = 0;
        for (uint32_t i = 0; i < newest->count; i++)
            size += newest->objects[i].size;
        lh_buf_append_str(out, LH_STR(",\"fingerprint\":"));
        lh_buf_append_json_string(out, newest->fingerprint);
        lh_buf_printf(out, ",\"objects\":%" PRIu32 ",\"size\":%" PRIu64, newest->count, size);
        if (newest->has_row_count)
            lh_buf_printf(out, ",\"row_count\":%" PRIu64, newest->row_count);
        lh_buf_append_str(out, LH_STR(",\"created_at\":\""));
        lh_append_time(out, newest->created_ms);
        lh_buf_append_char(out, '"');
    }
    lh_buf_append_char(out, '}');
}

/* Where a page begins: at the prefix, or behind the cursor. */
static uint32_t seek_page(const struct lh_registry *registry, const struct lh_catalog_call *call)
{
    uint32_t at = lh_registry_seek(registry, lh_str_of(call->name));
    uint32_t after = lh_registry_seek(registry, lh_str_of(call->cursor));
    if (call->cursor[0] == '\0')
        return at;
    if (after < registry->count && strcmp(registry->datasets[after]->name, call->cursor) == 0)
        after++;
    return after > at ? after : at;
}

static void list(struct lh_catalogd *catalogd, struct lh_catalog_call *call)
{
    const struct lh_registry *registry = &catalogd->registry;
    struct lh_str prefix = lh_str_of(call->name);
    const char *last = NULL;
    struct lh_error error;
    uint32_t listed = 0;
    if (lh__catalogd_check_listed(catalogd, &error) != LH_OK) {
        lh__catalogd_answer_error(catalogd, call, &error);
        return;
    }
    call->http_status = 200;
    lh_buf_append_str(&call->answer, LH_STR("{\"datasets\":["));
    for (uint32_t i = seek_page(registry, call); i < registry->count; i++) {
        const struct lh_dataset *dataset = registry->datasets[i];
        struct lh_str name = lh_str_of(dataset->name);
        if (!lh_str_has_prefix(name, prefix))
            break;
        if (dataset->version_count == 0 || !lh__catalogd_allows_name(call, name))
            continue;
        if (listed == call->limit) {
            lh_buf_printf(&call->answer, "],\"next_cursor\":\"%s\"}\n", last);
            lh__catalogd_answer(catalogd, call);
            return;
        }
        if (listed++ > 0)
            lh_buf_append_char(&call->answer, ',');
        append_dataset(dataset, &call->answer);
        last = dataset->name;
    }
    lh_buf_append_str(&call->answer, LH_STR("]}\n"));
    lh__catalogd_answer(catalogd, call);
}

/* ---- the actor ---- */

static void handle_call(struct lh_catalogd *catalogd, struct lh_catalog_call *call)
{
    switch (call->op) {
    case LH_CATALOG_GET:
        get(catalogd, call);
        return;
    case LH_CATALOG_LIST:
        list(catalogd, call);
        return;
    case LH_CATALOG_REGISTER:
    case LH_CATALOG_DELETE:
        lh__catalogd_change(catalogd, call);
        return;
    }
}

static void handle_job(struct lh_catalogd *catalogd, struct lh_catalog_job *job)
{
    if (job->is_of_change)
        lh__catalogd_change_back(catalogd, job);
    else if (job->call != NULL)
        old_back(catalogd, job);
    else
        lh__catalogd_read_back(catalogd, job);
}

static void run(void *self)
{
    struct lh_catalogd *catalogd = self;
    struct lh_actor *actor = &catalogd->actor;
    bool has_more = true;
    while (has_more) {
        struct lh_msg *msg;
        while ((msg = lh_actor_next(actor)) != NULL) {
            if (msg->type == LH_MSG_CATALOG)
                handle_call(catalogd, (struct lh_catalog_call *)msg);
            else
                handle_job(catalogd, (struct lh_catalog_job *)msg);
        }
        lh__catalogd_read(catalogd);
        bool is_shut = lh_mailbox_is_shut(&actor->mailbox);
        uint64_t due = catalogd->retry_ns != 0 ? catalogd->retry_ns : LH_ACTOR_FOR_EVER;
        has_more = lh_actor_wait_until(actor, due) || !is_shut;
    }
}

void lh_catalogd_init(struct lh_catalogd *catalogd, struct lh_actor *store,
                      const struct lh_log *log)
{
    *catalogd = (struct lh_catalogd){.store = store, .log = log};
    lh_actor_init(&catalogd->actor, "catalogd", run, catalogd);
}

void lh_catalogd_deinit(struct lh_catalogd *catalogd)
{
    assert(catalogd->change.call == NULL && catalogd->changes.count == 0);
    lh_registry_deinit(&catalogd->registry);
    lh_actor_deinit(&catalogd->actor);
}
