/* Ids of queries, see query_ids.h. The loop. */
#include "actors/query_ids.h"

#include <string.h>
#include <sys/random.h>
#include <uuid/uuid.h>

void lh_query_ids_next(struct lh_query_ids *ids, char id[37])
{
    uuid_t uuid;
    if (ids->left < sizeof uuid) {
        ssize_t got = getrandom(ids->random, sizeof ids->random, 0);
        ids->left = got == sizeof ids->random ? sizeof ids->random : 0;
    }
    if (ids->left < sizeof uuid) {
        uuid_generate(uuid); /* it has ways of its own where the kernel gives nothing */
    } else {
        ids->left -= sizeof uuid;
        memcpy(uuid, ids->random + ids->left, sizeof uuid);
        uuid[6] = (unsigned char)((uuid[6] & 0x0f) | 0x40); /* version 4 */
        uuid[8] = (unsigned char)((uuid[8] & 0x3f) | 0x80); /* of RFC 9562's variant */
    }
    uuid_unparse_lower(uuid, id);
}
