/* The table of keys behind base/config.h; for the configuration's own files. */
#ifndef LH_BASE_CONFIG_KEYS_H
#define LH_BASE_CONFIG_KEYS_H

#include "base/config.h"

/* Of "section.key" and of a variable's name, with the NUL; asserted where names are made. */
#define LH_CONFIG_NAME_MAX 64

enum lh_key_flag {
    LH_KEY_SECRET = 1, /* printed as stars */
    LH_KEY_BYTES = 2,  /* an integer that takes units */
    LH_KEY_BIND = 4,   /* a string that is host:port */
    LH_KEY_URL = 8,    /* a string that is empty or a URL */
    LH_KEY_LIVE = 16,  /* a change takes effect at SIGHUP */
};

struct lh_config_key {
    const char *section;
    const char *name;
    enum lh_config_type type;
    const char *value; /* the default, as text */
    uint64_t min, max; /* of a number, both allowed */
    unsigned flags;
    const char *choices; /* of a string: "a|b|c", or NULL for any */
    const char *comment;
};

extern const struct lh_config_key lh__config_keys[];
extern const size_t lh__config_key_count;

/* "vectord.shards" and "LAKEHOUSE_VECTORD_SHARDS". */
void lh__config_key_name(const struct lh_config_key *key, char name[LH_CONFIG_NAME_MAX]);
void lh__config_variable_name(const struct lh_config_key *key, char name[LH_CONFIG_NAME_MAX]);

/* A key's place by its name or its variable's name; lh__config_key_count when there is none. */
size_t lh__config_find(struct lh_str name, bool is_variable);

/* The error for a name that is no key's, with the nearest one when it is near. */
enum lh_status lh__config_unknown(struct lh_str name, bool is_variable, const char *origin,
                                  struct lh_error *error);

#endif
