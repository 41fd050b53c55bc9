/* What another service's error answer says, as an error of our own. */
#ifndef LH_ACTORS_TOLD_H
#define LH_ACTORS_TOLD_H

#include "net/client.h"

/* The status that stands for the answer's {"error": {"code", "message"}}, with its message;
 * LH_BAD_GATEWAY, naming `service`, when it says nothing of that kind. */
enum lh_status lh_told_error(const char *service, const struct lh_http_ask *ask,
                             const struct lh_http_told *told, struct lh_error *error);

#endif
