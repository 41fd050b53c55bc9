/* What can be found wrong with a configuration beyond its values, without starting. Main thread. */
#include "actors/server.h"

enum lh_status lh_server_backend(const struct lh_config *config, bool *is_on_s3,
                                 struct lh_error *error)
{
    struct lh_str backend = lh_config_string(config, "storaged.backend");
    bool has_root = lh_config_string(config, "storaged.root").len > 0;
    bool has_bucket = lh_config_string(config, "s3.bucket").len > 0;
    bool is_auto = lh_str_eq(backend, LH_STR("auto"));
    *is_on_s3 = is_auto ? !has_root && has_bucket : lh_str_eq(backend, LH_STR("s3"));
    return is_auto || *is_on_s3 || has_root
               ? LH_OK
               : lh_error_set(error, LH_CONFIG,
                              "storaged.backend: disk needs a folder, storaged.root");
}

enum lh_status lh_server_check(const struct lh_config *config, struct lh_error *error)
{
    struct lh_services services;
    struct lh_access access;
    bool is_on_s3 = false;
    enum lh_status status = lh_services_read(config, &services, error);
    if (status != LH_OK)
        return status;
    status = lh_access_init(&access, config, error);
    if (status == LH_OK && lh_services_find(&services, LH_HTTP_STORAGED)->is_here)
        status = lh_server_backend(config, &is_on_s3, error);
    if (status == LH_OK && is_on_s3)
        status = lh_storaged_s3_check(config, access.secrets, error);
    if (status == LH_OK)
        status = lh_http_check_tls(lh_config_string(config, "server.tls_certificate").ptr,
                                   lh_config_string(config, "server.tls_key").ptr, error);
    if (status != LH_OK)
        lh_config_locate(config, error);
    lh_access_deinit(&access);
    return status;
}
