/* storaged on S3 as the configuration has it. Main thread, at start. */
#include "actors/storaged_s3.h"

#include <stdio.h>
#include <stdlib.h>

static struct lh_str or_empty(const char *text)
{
    return text != NULL ? lh_str_of(text) : LH_STR("");
}

/* Where the credentials come from; the first place that has a key or its secret. */
static const char *find_credentials(const struct lh_config *config,
                                    const struct lh_secrets *secrets,
                                    struct lh_s3_credentials *credentials)
{
    const char *key = getenv("AWS_ACCESS_KEY_ID");
    const char *secret = getenv("AWS_SECRET_ACCESS_KEY");
    if (secrets != NULL &&
        (secrets->s3_access_key_id != NULL || secrets->s3_secret_access_key != NULL)) {
        *credentials =
            (struct lh_s3_credentials){.access_key_id = or_empty(secrets->s3_access_key_id),
                                       .secret_access_key = or_empty(secrets->s3_secret_access_key),
                                       .session_token = or_empty(secrets->s3_session_token)};
        return "secrets_path";
    }
    if ((key != NULL && *key != '\0') || (secret != NULL && *secret != '\0')) {
        *credentials =
            (struct lh_s3_credentials){.access_key_id = or_empty(key),
                                       .secret_access_key = or_empty(secret),
                                       .session_token = or_empty(getenv("AWS_SESSION_TOKEN"))};
        return "environment";
    }
    *credentials = (struct lh_s3_credentials){
        .access_key_id = lh_config_string(config, "s3.access_key_id"),
        .secret_access_key = lh_config_string(config, "s3.secret_access_key")};
    return "configuration";
}

/* The store as the configuration has it; `from`: where its credentials come from. */
static enum lh_status create(const struct lh_config *config, const struct lh_secrets *secrets,
                             struct lh_s3 **s3, const char **from, struct lh_error *error)
{
    struct lh_s3_options store = {.endpoint = lh_config_string(config, "s3.endpoint"),
                                  .region = lh_config_string(config, "s3.region"),
                                  .bucket = lh_config_string(config, "s3.bucket"),
                                  .use_path_style = lh_config_bool(config, "s3.use_path_style")};
    *from = find_credentials(config, secrets, &store.credentials);
    return lh_s3_create(&store, s3, error);
}

enum lh_status lh_storaged_s3_check(const struct lh_config *config,
                                    const struct lh_secrets *secrets, struct lh_error *error)
{
    struct lh_s3 *s3;
    const char *from;
    enum lh_status status = create(config, secrets, &s3, &from, error);
    if (status == LH_OK)
        lh_s3_destroy(s3);
    return status;
}

enum lh_status lh_storaged_s3_open(struct lh_storaged_s3 *storaged, const struct lh_config *config,
                                   const struct lh_secrets *secrets, const struct lh_log *log,
                                   struct lh_error *error)
{
    struct lh_storaged_s3_options options = {.log = log};
    const char *from;
    enum lh_status status = create(config, secrets, &options.s3, &from, error);
    if (status != LH_OK)
        return status;
    status = lh_storaged_s3_init(storaged, &options, error);
    if (status != LH_OK) {
        lh_s3_destroy(options.s3);
        return status;
    }
    lh_log_line(log, LH_LOG_INFO, "object store on s3",
                LH_LOG_STR("endpoint", lh_s3_endpoint(options.s3)),
                LH_LOG_STR("region", lh_s3_region(options.s3)),
                LH_LOG_STR("bucket", lh_s3_bucket(options.s3)), LH_LOG_TEXT("credentials", from));
    return LH_OK;
}
