/* Every limit, with its reason. A name ends in its unit. */
#ifndef LH_BASE_LIMITS_H
#define LH_BASE_LIMITS_H

/* Vectors (the HTTP contract). */
#define LH_ID_BYTES_MAX            512u   /* the Go daemons' limit; two ids fit a cache page */
#define LH_NAME_BYTES_MAX          128u   /* with ".lhv1" and a suffix still a file name */
#define LH_DIMENSION_MAX           65535u /* a row stays under 256 KiB */
#define LH_METADATA_BYTES_MAX      65536u /* one item's metadata, as JSON text */
#define LH_METADATA_DEPTH_MAX      64u    /* it is echoed, and clients parse by recursion */
#define LH_M_MIN                   2u     /* below, a graph is a path */
#define LH_M_MAX                   64u    /* a level-0 block stays at 512 bytes */
#define LH_M_DEFAULT               16u
#define LH_EF_MAX                  4096u /* bounds one search's work */
#define LH_EF_CONSTRUCTION_DEFAULT 200u
#define LH_EF_SEARCH_DEFAULT       128u
#define LH_K_MAX                   10000u /* bounds one answer */
#define LH_K_DEFAULT               10u
#define LH_SHARDS_MAX              256u     /* more than any host has cores */
#define LH_BATCH_IDS_MAX           1000000u /* ids in one delete: bounds its work and memory */
#define LH_BATCH_SEARCH_MAX        1024u    /* vectors in one batch search */
#define LH_BATCH_RESULTS_MAX       1000000u /* vectors x k in one batch search: bounds the answer */
#define LH_ANSWER_BYTES_MAX        (256u << 20) /* what shards may find for one request */
#define LH_PAGE_ITEMS_MAX          1000u        /* items in one page of a listing */
#define LH_PAGE_ITEMS_DEFAULT      100u
#define LH_NDJSON_BATCH_ITEMS      4096u /* lines applied at once: bulk steps stay short */
#define LH_NDJSON_LINE_BYTES_MAX   (4u << 20)
#define LH_NDJSON_STREAMS_MAX      256u         /* at once: each may hold two pieces and a line */
#define LH_NDJSON_PIECE_BYTES      (1u << 20)   /* what a stream sends to a decoder at once */
#define LH_LARGE_BODY_BYTES        (256u << 10) /* longer to decode than a search takes: apart */
#define LH_NODES_MAX               0x7fffffffu  /* a graph's node number keeps its top bit free */
#define LH_INDEXES_MAX             4096u /* each costs its shards a few KiB even when empty */

/* What has failed is tried again. */
#define LH_BACKOFF_MS_MIN 100u   /* the other side restarts: who waits for it hardly notices */
#define LH_BACKOFF_MS_MAX 60000u /* who has mended it waits no longer */

/* Files. */
#define LH_LHV1_ENVELOPE_BYTES_MAX (1u << 30) /* version 1 has all metadata in it: 1 KiB x 1M */

/* Objects. */
#define LH_OBJECT_KEY_BYTES_MAX 1024u /* S3's */
#define LH_OBJECT_NAME_BYTES_MAX                                     \
    254u /* of a segment on disk: a file name with one byte to spare \
          */
#define LH_OBJECT_LIST_MAX        1000u        /* keys in one page; S3's */
#define LH_ETAG_BYTES_MAX         79u          /* what S3 stores give is shorter */
#define LH_CONTENT_TYPE_BYTES_MAX 255u         /* RFC 6838's names and a few parameters */
#define LH_TRANSFER_PIECE_BYTES   (256u << 10) /* of an object in one message: fills a socket */
#define LH_TRANSFERS_MAX          512u         /* at once: each may hold three pieces */
#define LH_DIRECT_BYTES_MIN       (32u << 10)  /* below, a tail's own write costs what is saved */
#define LH_PIPE_BYTES             (1u << 20)   /* as fs.pipe-max-size allows any user */
#define LH_PIPES_MAX \
    32u /* so large, half of what fs.pipe-user-pages-soft allows; three descriptors each */
#define LH_SPLICE_BYTES_MIN (64u << 10) /* at 32 KiB a copy costs less than a pipe's way round */

/* The log. */
#define LH_RECORD_BYTES_MAX   (1u << 30) /* a body is 64 MiB unless configured; lengths are u32 */
#define LH_WAL_HELD_BYTES_MAX (8u << 20) /* written and not synced, kept for a failed sync */
#define LH_WAL_SPARES_MAX     2u   /* released segments kept for reuse: one fills, one is next */
#define LH_WAL_RETRY_MS       200u /* a failed disk is tried again this often */
#define LH_WAL_SCAN_BYTES_MAX (1u << 30) /* checksummed in the search behind a bad record */

/* SQL. */
#define LH_SQL_BYTES_MAX     (1u << 20) /* a statement; its tree is some 50 times that */
#define LH_SQL_NODES_MAX     200000u    /* of that tree: planning takes what binding does */
#define LH_SQL_TABLES_MAX    128u       /* named in it: no join order of more is found in time */
#define LH_SQL_SERIES_MAX    10000      /* elements of a list made by range() in each row */
#define LH_SQL_FORMAT_DIGITS 3u         /* of a width in a format: printf('%999d') is the widest */
#define LH_SQL_STRUCTURE_OPENED_MAX \
    256u /* brackets of from_json(j, '["INT"]'), read by recursion */
#define LH_SQL_SESSION_BYTES_MIN (1ull << 30) /* DuckDB needs some 700 MB at a limit of 256 MiB */

/* Ingest. */
#define LH_INGEST_COLUMNS_MAX    16384u       /* each costs the conversion some 50 KiB */
#define LH_INGEST_LINE_BYTES_MAX (2u << 20)   /* a line of text is held whole, several times over */
#define LH_INGEST_READ_BYTES     (8u << 20)   /* of CSV at once: DuckDB's own 32 MiB take longer */
#define LH_INGEST_JSON_DEPTH_MAX 256u         /* DuckDB reads it by recursion, and so do clients */
#define LH_INGEST_PIECE_BYTES    (512u << 10) /* of an upload: two are held, one is written */
#define LH_INGESTS_MAX           256u         /* at once: each may hold two pieces */

/* Datasets. */
#define LH_FINGERPRINT_BYTES_MAX 128u         /* a SHA-512 in hex */
#define LH_MANIFEST_OBJECTS_MAX  10000u       /* of one version: it is one answer, and one file */
#define LH_MANIFEST_BYTES_MAX    (64u << 20)  /* of its schema in all rows */
#define LH_SCHEMA_COLUMNS_MAX    16384u       /* wider tables are no use to SQL */
#define LH_SCHEMA_BYTES_MAX      (1u << 20)   /* as JSON: it is in every row of a manifest */
#define LH_ROW_COUNT_MAX         (1ull << 53) /* exact in JSON, for sizes as well */
#define LH_CATALOG_WAITING_MAX   256u         /* changes behind the one under way */
#define LH_CATALOG_PAGE_MAX      1000u        /* datasets in one page of a list */
#define LH_CATALOG_PAGE_DEFAULT  100u

/* HTTP. */
#define LH_HEADER_BYTES_MAX       16384u /* one request's header block */
#define LH_TARGET_BYTES_MAX       8192u  /* the request target */
#define LH_BODY_BYTES_MAX_DEFAULT (64ull << 20)
#define LH_WRITE_QUEUE_BYTES_MAX  (256u << 10) /* past it, the socket is not read */
#define LH_PATH_PARAMS_MAX        4u
#define LH_CHUNK_OVERHEAD_MAX     16384u /* a chunk line with its extensions */
#define LH_REQUEST_ID_BYTES_MAX   128u   /* a client's own X-Request-Id; UUIDs have 36 */

/* Upstreams: services in other processes. */
#define LH_INTERIM_RESPONSES_MAX 16u    /* before one answer: 100, 102 and 103 come once or twice */
#define LH_UPSTREAM_IDLE_MS      30000u /* less than the 75 s after which our own services close */
#define LH_UPSTREAM_WHOLE_BYTES  65536u /* an answer up to it is sent on when all of it is there */
#define LH_UPSTREAM_OUT_BYTES    262144u /* gathered for an upstream; past it the client waits */
#define LH_PROXY_HOPS_MAX        4u      /* gateways of ours behind one another; more is a loop */

/* S3. */
#define LH_S3_KEY_BYTES_MAX      1024u        /* S3's own */
#define LH_S3_PAGE_KEYS_MAX      1000u        /* in one answer to a list; S3's own */
#define LH_S3_PARTS_MAX          10000u       /* of one multipart upload; S3's own */
#define LH_S3_ANSWER_BYTES_MAX   (8u << 20)   /* a page of the longest keys, escaped */
#define LH_S3_TEXT_BYTES_MAX     8192u        /* one element: a key, each byte escaped, fits */
#define LH_S3_SINGLE_PUT_BYTES   (64u << 20)  /* a longer object goes up in parts */
#define LH_S3_PART_BYTES         (16u << 20)  /* with 10,000 parts 156 GiB, then they grow */
#define LH_S3_UPLOAD_BYTES_MAX   (256u << 20) /* of all uploads, kept until S3 has them */
#define LH_S3_DOWNLOAD_BYTES_MAX (512u << 10) /* of one object, not yet taken by its reader */
#define LH_S3_OBJECT_BYTES_MAX   (5ull << 40) /* S3's own: 5 TiB */
#define LH_S3_TRIES_MAX          6u           /* of one request, in about five seconds */

/* Configuration. */
#define LH_CONFIG_FILE_BYTES_MAX (1u << 20) /* no file of keys is near it; /dev/zero is past it */

/* Who may come in, and how much. */
#define LH_TOKENS_MAX           1024u /* a request's token is compared with every one */
#define LH_TOKEN_BYTES_MIN      16u   /* shorter ones can be guessed over the network */
#define LH_TOKEN_BYTES_MAX      4096u /* it comes in a header block of 16 KiB */
#define LH_TOKEN_NAME_BYTES_MAX 64u   /* stands in logs */
#define LH_TOKEN_PATTERNS_MAX   64u   /* of indexes, and of prefixes, in one token */
#define LH_CALLERS_MAX          4096u /* known at once: tokens and addresses, 208 bytes each */

#endif
