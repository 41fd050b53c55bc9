/* SIGHUP: what a running server can take over from its files. Loop thread.
 *
 * Each part is taken over whole or stays as it was, and the log says which: tokens and rates, the
 * certificate and its key, the log's level. What only a start reads is named, so that nobody waits
 * for it. */
#include "actors/server.h"

#include <string.h>

void lh_server_set_log_level(struct lh_server *server, const struct lh_config *config)
{
    enum lh_log_level level = LH_LOG_INFO;
    lh_log_level_parse(lh_config_string(config, "log.level"), &level);
    lh_counter_set(&server->log.level, level);
}

void lh_server_reread_by(struct lh_server *server,
                         enum lh_status (*reread)(void *arg, struct lh_config **config,
                                                  struct lh_error *error),
                         void *arg)
{
    server->reread = reread;
    server->reread_arg = arg;
}

static void say_kept(const struct lh_server *server, const char *what, const struct lh_error *error)
{
    lh_log_line(&server->log, LH_LOG_ERROR, "not reloaded: what was read before holds on",
                LH_LOG_TEXT("part", what), LH_LOG_TEXT("reason", error->text));
}

static void say_restart(const struct lh_server *server, const char *key)
{
    lh_log_line(&server->log, LH_LOG_WARN, "changed, and takes a restart", LH_LOG_TEXT("key", key));
}

static void note_difference(const char *key, bool is_live, void *arg)
{
    const struct lh_server *server = arg;
    if (!is_live)
        say_restart(server, key);
}

static bool is_same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* The secrets that others than the loop have copies of. */
static void note_copied(const struct lh_server *server, const struct lh_secrets *before,
                        const struct lh_secrets *after)
{
    static const struct lh_secrets none;
    before = before != NULL ? before : &none;
    after = after != NULL ? after : &none;
    if (!is_same(before->s3_access_key_id, after->s3_access_key_id) ||
        !is_same(before->s3_secret_access_key, after->s3_secret_access_key) ||
        !is_same(before->s3_session_token, after->s3_session_token))
        say_restart(server, "[s3] of the secrets file");
    if (!is_same(before->peer_token, after->peer_token))
        say_restart(server, "[peer] of the secrets file");
}

/* False: the old configuration holds on. `config` is the one that holds now. */
static bool reread_config(struct lh_server *server, const struct lh_config **config)
{
    struct lh_config *fresh;
    struct lh_error error;
    *config = server->reloaded != NULL ? server->reloaded : server->config;
    if (server->reread == NULL)
        return true;
    if (server->reread(server->reread_arg, &fresh, &error) != LH_OK) {
        say_kept(server, "configuration", &error);
        return false;
    }
    lh_config_each_difference(server->config, fresh, note_difference, server);
    lh_config_destroy(server->reloaded);
    server->reloaded = fresh;
    *config = fresh;
    return true;
}

void lh_server_on_hangup(void *context)
{
    struct lh_gateway *gateway = context;
    struct lh_server *server =
        (struct lh_server *)(void *)((char *)gateway - offsetof(struct lh_server, gateway));
    struct lh_secrets *before = NULL;
    const struct lh_config *config;
    struct lh_error error;
    if (!reread_config(server, &config))
        return;
    lh_server_set_log_level(server, config);
    if (lh_access_reload(&server->access, config, &before, &error) != LH_OK) {
        say_kept(server, "secrets", &error);
    } else {
        note_copied(server, before, server->access.secrets);
        lh_secrets_destroy(before);
    }
    (void)lh_http_server_reload_tls(server->http); /* it says itself what it has done */
    lh_log_line(&server->log, LH_LOG_INFO, "reloaded",
                LH_LOG_U64("tokens", server->access.secrets != NULL
                                         ? server->access.secrets->token_count
                                         : 0),
                LH_LOG_STR("log_level", lh_config_string(config, "log.level")));
}
