/* Every route of the server. Constants.
 *
 * One table makes dispatch, 404, 405 with Allow, OPTIONS, HEAD and /openapi.json. */
#include "actors/gateway.h"

#define VECTOR                                                          \
    "{\"oneOf\":[{\"type\":\"array\",\"items\":{\"type\":\"number\"}}," \
    "{\"type\":\"string\",\"contentEncoding\":\"base64\","              \
    "\"description\":\"little-endian float32\"}]}"
#define METADATA "{\"type\":\"object\",\"description\":\"up to 64 KiB of JSON\"}"
#define ID       "{\"type\":\"string\",\"minLength\":1,\"maxLength\":512}"
#define INTEGER  "{\"type\":\"integer\"}"
#define NUMBERS  "{\"type\":\"array\",\"items\":{\"type\":\"number\"}}"
#define INFO                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"dimension\":" INTEGER \
    ",\"distance\":{\"enum\":[\"cosine\",\"euclidean\",\"dot\"]},\"m\":" INTEGER                 \
    ",\"ef_construction\":" INTEGER ",\"ef_search\":" INTEGER ",\"shards\":" INTEGER             \
    ",\"count\":" INTEGER ",\"state\":{\"enum\":[\"ready\",\"loading\",\"failed\"]},"            \
    "\"reason\":{\"type\":\"string\"},\"bytes\":" INTEGER ",\"lsn\":" INTEGER                    \
    ",\"checkpoint_lsn\":" INTEGER "}}"
#define CREATE                                                                           \
    "{\"type\":\"object\",\"required\":[\"name\",\"dimension\"],\"properties\":{"        \
    "\"name\":{\"type\":\"string\",\"pattern\":\"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$\"}," \
    "\"dimension\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":65535},"              \
    "\"distance\":{\"enum\":[\"cosine\",\"euclidean\",\"dot\"],\"default\":\"cosine\"}," \
    "\"m\":{\"type\":\"integer\",\"minimum\":2,\"maximum\":64,\"default\":16},"          \
    "\"ef_construction\":{\"type\":\"integer\",\"maximum\":4096,\"default\":200},"       \
    "\"ef_search\":{\"type\":\"integer\",\"maximum\":4096,\"default\":128},"             \
    "\"shards\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":256}}}"
#define RESHARD                                                                   \
    "{\"type\":\"object\",\"required\":[\"shards\"],\"properties\":{\"shards\":{" \
    "\"type\":\"integer\",\"minimum\":1,\"maximum\":256}}}"
#define ADD                                                                                        \
    "{\"type\":\"object\",\"required\":[\"items\"],\"properties\":{\"items\":{\"type\":\"array\"," \
    "\"items\":{\"type\":\"object\",\"required\":[\"id\",\"vector\"],\"properties\":{\"id\":" ID   \
    ",\"vector\":" VECTOR ",\"metadata\":" METADATA "}}}}}"
#define ADDED "{\"type\":\"object\",\"properties\":{\"added\":" INTEGER ",\"updated\":" INTEGER "}}"
#define SEARCH                                                                     \
    "{\"type\":\"object\",\"properties\":{\"vector\":" VECTOR                      \
    ",\"vectors\":{\"type\":\"array\",\"items\":" VECTOR ",\"maxItems\":1024},"    \
    "\"k\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":10000,\"default\":10}," \
    "\"ef\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":4096},"                \
    "\"with_metadata\":{\"type\":\"boolean\",\"default\":true},"                   \
    "\"with_vector\":{\"type\":\"boolean\",\"default\":false}}}"
#define RESULTS                                                                     \
    "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"id\":" ID \
    ",\"distance\":{\"type\":\"number\"},\"metadata\":" METADATA ",\"vector\":" NUMBERS "}}}"
#define FOUND                                                                          \
    "{\"type\":\"object\",\"properties\":{\"results\":" RESULTS                        \
    ",\"batches\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{" \
    "\"results\":" RESULTS "}}}}}"
#define ITEM                                                                 \
    "{\"type\":\"object\",\"properties\":{\"id\":" ID ",\"vector\":" NUMBERS \
    ",\"metadata\":" METADATA "}}"
#define IDS                                                                                    \
    "{\"type\":\"object\",\"required\":[\"ids\"],\"properties\":{\"ids\":{\"type\":\"array\"," \
    "\"items\":" ID "}}}"
#define DELETED "{\"type\":\"object\",\"properties\":{\"deleted\":" INTEGER "}}"
#define LISTED                                                                             \
    "{\"type\":\"object\",\"properties\":{\"indexes\":{\"type\":\"array\",\"items\":" INFO \
    "},\"count\":" INTEGER "}}"
#define PAGE                                                                             \
    "{\"type\":\"object\",\"properties\":{\"items\":{\"type\":\"array\",\"items\":" ITEM \
    "},\"next_cursor\":{\"type\":\"string\"}}}"
#define STATUS "{\"type\":\"object\",\"properties\":{\"status\":{\"type\":\"string\"}}}"

#define STORED                                                                             \
    "{\"type\":\"object\",\"properties\":{\"key\":{\"type\":\"string\"},\"size\":" INTEGER \
    ",\"etag\":{\"type\":\"string\"}}}"
#define OBJECTS                                                                              \
    "{\"type\":\"object\",\"properties\":{\"prefix\":{\"type\":\"string\"},\"objects\":{"    \
    "\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"Key\":{\"type\":"   \
    "\"string\"},\"Size\":" INTEGER ",\"ETag\":{\"type\":\"string\"},\"LastModified\":{"     \
    "\"type\":\"string\",\"format\":\"date-time\"}}}},\"truncated\":{\"type\":\"boolean\"}," \
    "\"next_cursor\":{\"type\":\"string\"}}}"
#define STORAGED (LH_HTTP_GATEWAY | LH_HTTP_STORAGED)
#define VECTORD  (LH_HTTP_GATEWAY | LH_HTTP_VECTORD)
#define QUERYD   (LH_HTTP_GATEWAY | LH_HTTP_QUERYD)
#define CATALOGD (LH_HTTP_GATEWAY | LH_HTTP_CATALOGD)
#define INGESTD  (LH_HTTP_GATEWAY | LH_HTTP_INGESTD)
#define SQL                                                                                      \
    "{\"type\":\"object\",\"required\":[\"sql\"],\"properties\":{\"sql\":{\"type\":\"string\"}," \
    "\"params\":{\"type\":\"array\"},\"max_rows\":" INTEGER ",\"max_bytes\":" INTEGER            \
    ",\"timeout_ms\":" INTEGER "}}"
#define TABLES                                                                                 \
    "{\"type\":\"object\",\"properties\":{\"tables\":{\"type\":\"array\",\"items\":{\"type\":" \
    "\"object\"}},\"next_cursor\":{\"type\":\"string\"}}}"
#define TABLE                                                                                      \
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"version\":" INTEGER     \
    ",\"row_count\":" INTEGER ",\"bytes\":" INTEGER ",\"columns\":{\"type\":\"array\",\"items\":{" \
    "\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"type\":{\"type\":"       \
    "\"string\"}}}}}}"
#define IMPORTED                                                                                \
    "{\"type\":\"object\",\"properties\":{\"query_id\":{\"type\":\"string\"},\"rows\":" INTEGER \
    ",\"added\":" INTEGER ",\"updated\":" INTEGER ",\"elapsed_ms\":{\"type\":\"number\"}}}"
#define PROGRESS                                                                                   \
    "{\"type\":\"object\",\"properties\":{\"query_id\":{\"type\":\"string\"},\"state\":{\"enum\":" \
    "["                                                                                            \
    "\"waiting\",\"running\",\"sending\"]},\"rows\":" INTEGER                                      \
    ",\"elapsed_ms\":{\"type\":\"number\"}}}"
#define NAME "{\"type\":\"string\",\"pattern\":\"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$\"}"
#define DATASET_PARTS                                                                              \
    "\"name\":" NAME ",\"fingerprint\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":128},"   \
    "\"objects\":{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"object\",\"required\":[" \
    "\"key\","                                                                                     \
    "\"size\"],\"properties\":{\"key\":{\"type\":\"string\"},\"size\":" INTEGER                    \
    ",\"fingerprint\":{"                                                                           \
    "\"type\":\"string\"}}}},\"schema\":{\"type\":\"array\",\"items\":{\"type\":\"object\","       \
    "\"properties\":{\"name\":{\"type\":\"string\"},\"type\":{\"type\":\"string\"}}}},"            \
    "\"row_count\":" INTEGER
#define REGISTER                                                                               \
    "{\"type\":\"object\",\"required\":[\"name\",\"fingerprint\",\"objects\"],\"properties\":" \
    "{" DATASET_PARTS                                                                          \
    ",\"mode\":{\"enum\":[\"create\",\"replace\",\"append\"],\"default\":\"create\"}}}"
#define MANIFEST                                                                           \
    "{\"type\":\"object\",\"properties\":{\"dataset_id\":{\"type\":\"string\",\"format\":" \
    "\"uuid\"}," DATASET_PARTS ",\"version\":" INTEGER                                     \
    ",\"created_at\":{\"type\":\"string\",\"format\":"                                     \
    "\"date-time\"}}}"
#define DATASETS                                                                                  \
    "{\"type\":\"object\",\"properties\":{\"datasets\":{\"type\":\"array\",\"items\":{\"type\":"  \
    "\"object\","                                                                                 \
    "\"properties\":{\"name\":" NAME ",\"dataset_id\":{\"type\":\"string\",\"format\":\"uuid\"}," \
    "\"state\":{\"enum\":[\"ready\",\"loading\",\"failed\",\"deleting\"]},\"reason\":{\"type\":"  \
    "\"string\"},"                                                                                \
    "\"version\":" INTEGER ",\"versions\":" INTEGER ",\"fingerprint\":{\"type\":\"string\"},"     \
    "\"objects\":" INTEGER ",\"size\":" INTEGER ",\"row_count\":" INTEGER                         \
    ",\"created_at\":{\"type\":"                                                                  \
    "\"string\",\"format\":\"date-time\"}}}},\"next_cursor\":{\"type\":\"string\"}}}"
#define COLUMNS                                                                              \
    "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":" \
    "\"string\"},\"type\":{\"type\":\"string\"}}}}"
#define INGESTED_PARTS                                                               \
    "\"name\":" NAME                                                                 \
    ",\"dataset_id\":{\"type\":\"string\",\"format\":\"uuid\"},\"version\":" INTEGER \
    ",\"rows\":" INTEGER ",\"columns\":" COLUMNS ",\"key\":{\"type\":\"string\"},"   \
    "\"bytes\":" INTEGER ",\"fingerprint\":{\"type\":\"string\"}"
#define INGESTED                                                                              \
    "{\"type\":\"object\",\"properties\":{" INGESTED_PARTS                                    \
    ",\"request_id\":{\"type\":\"string\"},\"rejected\":{\"type\":\"object\",\"properties\":" \
    "{" INGESTED_PARTS "}}}}"
#define INGEST_STATE                                                                           \
    "{\"type\":\"object\",\"properties\":{\"request_id\":{\"type\":\"string\"},\"name\":" NAME \
    ",\"state\":{\"enum\":[\"uploading\",\"converting\",\"storing\",\"registering\",\"done\"," \
    "\"failed\"]},\"bytes_received\":" INTEGER ",\"rows\":" INTEGER                            \
    ",\"error\":{\"type\":\"object\"},\"result\":" INGESTED "}}"
#define ROWS                                                                                 \
    "{\"type\":\"object\",\"properties\":{\"query_id\":{\"type\":\"string\"},\"columns\":{"  \
    "\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":"  \
    "\"string\"},\"type\":{\"type\":\"string\"}}}},\"rows\":{\"type\":\"array\",\"items\":{" \
    "\"type\":\"array\"}},\"row_count\":" INTEGER ",\"truncated\":{\"type\":\"boolean\"},"   \
    "\"elapsed_ms\":{\"type\":\"number\"},\"statistics\":{\"type\":\"object\"}}}"

const struct lh_route lh_routes[] = {
    {.method = LH_HTTP_GET,
     .pattern = "/healthz",
     .services = LH_HTTP_EVERYWHERE,
     .scope = LH_HTTP_SCOPE_OPEN,
     .reach = LH_HTTP_REACH_HANDLER,
     .handle = lh_handle_health,
     .operation = "health",
     .summary = "Is the process alive?",
     .response_json = STATUS,
     .success = 200},
    {.method = LH_HTTP_GET,
     .pattern = "/readyz",
     .services = LH_HTTP_EVERYWHERE,
     .scope = LH_HTTP_SCOPE_STATUS,
     .reach = LH_HTTP_REACH_HANDLER,
     .handle = lh_handle_ready,
     .operation = "ready",
     .summary = "Is every index loaded?",
     .response_json = STATUS,
     .success = 200},
    {.method = LH_HTTP_GET,
     .pattern = "/metrics",
     .services = LH_HTTP_EVERYWHERE,
     .scope = LH_HTTP_SCOPE_STATUS,
     .reach = LH_HTTP_REACH_HANDLER,
     .handle = lh_handle_metrics,
     .operation = "metrics",
     .summary = "Prometheus text",
     .success = 200},
    {.method = LH_HTTP_GET,
     .pattern = "/openapi.json",
     .services = LH_HTTP_EVERYWHERE,
     .scope = LH_HTTP_SCOPE_STATUS,
     .reach = LH_HTTP_REACH_HANDLER,
     .handle = lh_handle_openapi,
     .operation = "openapi",
     .summary = "This document",
     .success = 200},
    {.method = LH_HTTP_POST,
     .pattern = "/vectors/index",
     .services = VECTORD,
     .body = LH_HTTP_BODY_WHOLE,
     .scope = LH_HTTP_SCOPE_ADMIN,
     .reach = LH_HTTP_REACH_HANDLER,
     .handle = lh_handle_index_create,
     .operation = "createIndex",
     .summary = "Create an index",
     .request_json = CREATE,
     .response_json = INFO,
     .success = 201},
    {.method = LH_HTTP_GET,
     .pattern = "/vectors/index",
     .services = VECTORD,
     .scope = LH_HTTP_SCOPE_READ,
     .reach = LH_HTTP_REACH_HANDLER,
     .handle = lh_handle_index_list,
     .operation = "listIndexes",
     .summary = "List the indexes",
     .response_json = LISTED,
     .success = 200},
    {.method = LH_HTTP_GET,
     .pattern = "/vectors/index/{name}",
     .services = VECTORD,
     .scope = LH_HTTP_SCOPE_READ,
     .reach = LH_HTTP_REACH_INDEX,
     .handle = lh_handle_index_get,
     .operation = "getIndex",
     .summary = "Describe an index",
     .response_json = INFO,
     .success = 200},
    {.method = LH_HTTP_DELETE,
     .pattern = "/vectors/index/{name}",
     .services = VECTORD,
     .scope = LH_HTTP_SCOPE_ADMIN,
     .reach = LH_HTTP_REACH_INDEX,
     .handle = lh_handle_index_drop,
     .operation = "deleteIndex",
     .summary = "Delete an index",
     .success = 204},
    {.method = LH_HTTP_POST,
     .pattern = "/vectors/index/{name}/checkpoint",
     .services = VECTORD,
     .scope = LH_HTTP_SCOPE_ADMIN,
     .reach = LH_HTTP_REACH_INDEX,
     .handle = lh_handle_index_checkpoint,
     .operation = "checkpointIndex",
     .summary = "Write the index's file now; answered when it is synced",
     .response_json = INFO,
     .success = 200},
    {.method = LH_HTTP_POST,
     .pattern = "/vectors/index/{name}/reshard",
     .services = VECTORD,
     .body = LH_HTTP_BODY_WHOLE,
     .scope = LH_HTTP_SCOPE_ADMIN,
     .reach = LH_HTTP_REACH_INDEX,
     .handle = lh_handle_index_reshard,
     .operation = "reshardIndex",
     .summary = "Give the index another number of shards while it goes on serving",
     .request_json = RESHARD,
     .response_json = INFO,
     .success = 200},
    {.method = LH_HTTP_POST,
     .pattern = "/vectors/index/{name}/add",
     .services = VECTORD,
     .body = LH_HTTP_BODY_WHOLE,
     .stream_media_type = "application/x-ndjson",
     .scope = LH_HTTP_SCOPE_WRITE,
     .reach = LH_HTTP_REACH_INDEX,
     .handle = lh_handle_add,
     .operation = "addItems",
     .summary = "Add or replace items; as application/x-ndjson one a line, of any number",
     .request_json = ADD,
     .response_json = ADDED,
     .query = "durability",
     .success = 200},
    {.method = LH_HTTP_POST,
     .pattern = "/vectors/index/{name}/search",
     .services = VECTORD,
     .body = LH_HTTP_BODY_WHOLE,
     .scope = LH_HTTP_SCOPE_READ,
     .reach = LH_HTTP_REACH_INDEX,
     .handle = lh_handle_search,
     .operation = "search",
     .summary = "Find the nearest items to a vector, or to each of many",
     .request_json = SEARCH,
     .response_json = FOUND,
     .success = 200},
    {.method = LH_HTTP_POST,
     .pattern = "/vectors/index/{name}/delete",
     .services = VECTORD,
     .body = LH_HTTP_BODY_WHOLE,
     .scope = LH_HTTP_SCOPE_WRITE,
     .reach = LH_HTTP_REACH_INDEX,
     .handle = lh_handle_items_delete,
     .operation = "deleteItems",
     .summary = "Delete items by id",
     .request_json = IDS,
     .response_json = DELETED,
     .query = "durability",
     .success = 200},
    {.method = LH_HTTP_GET,
     .pattern = "/vectors/index/{name}/items",
     .services = VECTORD,
     .scope = LH_HTTP_SCOPE_READ,
     .reach = LH_HTTP_REACH_INDEX,
     .handle = lh_handle_items_page,
     .operation = "listItems",
     .summary = "List items by pages",
     .response_json = PAGE,
     .query = "cursor,limit,with_vector",
     .success = 200},
    {.method = LH_HTTP_GET,
     .pattern = "/vectors/index/{name}/items/{id}",
     .services = VECTORD,
     .scope = LH_HTTP_SCOPE_READ,
     .reach = LH_HTTP_REACH_INDEX,
     .handle = lh_handle_item_get,
     .operation = "getItem",
     .summary = "Read one item",
     .response_json = ITEM,
     .success = 200},
    {.method = LH_HTTP_DELETE,
     .pattern = "/vectors/index/{name}/items/{id}",
     .services = VECTORD,
     .scope = LH_HTTP_SCOPE_WRITE,
     .reach = LH_HTTP_REACH_INDEX,
     .handle = lh_handle_item_drop,
     .operation = "deleteItem",
     .summary = "Delete one item",
     .query = "durability",
     .success = 204},
    {.method = LH_HTTP_PUT,
     .pattern = "/storage/put/{key...}",
     .services = STORAGED,
     .body = LH_HTTP_BODY_STREAM,
     .scope = LH_HTTP_SCOPE_WRITE,
     .reach = LH_HTTP_REACH_KEY,
     .handle = lh_handle_object_put,
     .operation = "putObject",
     .summary = "Put an object, of any length; answered when it is durable",
     .response_json = STORED,
     .success = 200},
    {.method = LH_HTTP_GET,
     .pattern = "/storage/get/{key...}",
     .services = STORAGED,
     .scope = LH_HTTP_SCOPE_READ,
     .reach = LH_HTTP_REACH_KEY,
     .handle = lh_handle_object_get,
     .operation = "getObject",
     .summary = "Get an object, or a range of it",
     .success = 200},
    {.method = LH_HTTP_DELETE,
     .pattern = "/storage/delete/{key...}",
     .services = STORAGED,
     .scope = LH_HTTP_SCOPE_WRITE,
     .reach = LH_HTTP_REACH_KEY,
     .handle = lh_handle_object_delete,
     .operation = "deleteObject",
     .summary = "Delete an object; 204 also when there is none",
     .success = 204},
    {.method = LH_HTTP_GET,
     .pattern = "/storage/list",
     .services = STORAGED,
     .scope = LH_HTTP_SCOPE_READ,
     .reach = LH_HTTP_REACH_PREFIX,
     .handle = lh_handle_object_list,
     .operation = "listObjects",
     .summary = "List the objects with a prefix, in byte order of their keys, by pages",
     .response_json = OBJECTS,
     .query = "prefix,limit,cursor",
     .success = 200},
    {.method = LH_HTTP_POST,
     .pattern = "/catalog/register",
     .services = CATALOGD,
     .body = LH_HTTP_BODY_WHOLE,
     .scope = LH_HTTP_SCOPE_WRITE,
     .reach = LH_HTTP_REACH_HANDLER,
     .handle = lh_handle_dataset_register,
     .operation = "registerDataset",
     .summary = "Register objects as a dataset, or as its next version; 200 when they were before",
     .request_json = REGISTER,
     .response_json = MANIFEST,
     .success = 201},
    {.method = LH_HTTP_GET,
     .pattern = "/catalog/manifest/{name}",
     .services = CATALOGD,
     .scope = LH_HTTP_SCOPE_READ,
     .reach = LH_HTTP_REACH_DATASET,
     .handle = lh_handle_dataset_get,
     .operation = "getManifest",
     .summary = "What a dataset is, at its newest version or an older one",
     .response_json = MANIFEST,
     .query = "version",
     .success = 200},
    {.method = LH_HTTP_DELETE,
     .pattern = "/catalog/manifest/{name}",
     .services = CATALOGD,
     .scope = LH_HTTP_SCOPE_ADMIN,
     .reach = LH_HTTP_REACH_DATASET,
     .handle = lh_handle_dataset_delete,
     .operation = "deleteDataset",
     .summary = "Delete a dataset, and with purge the objects that no other one names",
     .query = "purge",
     .success = 204},
    {.method = LH_HTTP_GET,
     .pattern = "/catalog/list",
     .services = CATALOGD,
     .scope = LH_HTTP_SCOPE_READ,
     .reach = LH_HTTP_REACH_HANDLER,
     .handle = lh_handle_dataset_list,
     .operation = "listDatasets",
     .summary = "List the datasets by pages",
     .response_json = DATASETS,
     .query = "prefix,limit,cursor",
     .success = 200},
    {.method = LH_HTTP_POST,
     .pattern = "/ingest",
     .services = INGESTD,
     .body = LH_HTTP_BODY_STREAM,
     .scope = LH_HTTP_SCOPE_WRITE,
     .reach = LH_HTTP_REACH_HANDLER,
     .handle = lh_handle_ingest,
     .operation = "ingest",
     .summary = "Make a dataset of a file: CSV, NDJSON, JSON or Parquet, compressed or not, as the "
                "body or as one multipart file; 200 when it was there",
     .response_json = INGESTED,
     .query = "name,mode,format,on_error,delim,quote,escape,header,nullstr,types",
     .success = 201},
    {.method = LH_HTTP_GET,
     .pattern = "/ingest/{request_id}",
     .services = INGESTD,
     .scope = LH_HTTP_SCOPE_READ,
     .reach = LH_HTTP_REACH_HANDLER,
     .handle = lh_handle_ingest_get,
     .operation = "getIngest",
     .summary = "How far an ingest is, or what became of it",
     .response_json = INGEST_STATE,
     .success = 200},
    {.method = LH_HTTP_DELETE,
     .pattern = "/ingest/{request_id}",
     .services = INGESTD,
     .scope = LH_HTTP_SCOPE_WRITE,
     .reach = LH_HTTP_REACH_HANDLER,
     .handle = lh_handle_ingest_cancel,
     .operation = "cancelIngest",
     .summary = "End an ingest before it is registered; nothing of it stays",
     .success = 204},
    {.method = LH_HTTP_POST,
     .pattern = "/sql",
     .services = QUERYD,
     .body = LH_HTTP_BODY_WHOLE,
     .scope = LH_HTTP_SCOPE_READ,
     .reach = LH_HTTP_REACH_HANDLER,
     .handle = lh_handle_sql,
     .operation = "query",
     .summary = "Run one SELECT; the answer as JSON, NDJSON or CSV by Accept",
     .request_json = SQL,
     .response_json = ROWS,
     .success = 200},
    {.method = LH_HTTP_GET,
     .pattern = "/sql",
     .services = QUERYD,
     .scope = LH_HTTP_SCOPE_READ,
     .reach = LH_HTTP_REACH_HANDLER,
     .handle = lh_handle_sql_text,
     .operation = "queryText",
     .summary = "Run the SELECT in q",
     .response_json = ROWS,
     .query = "q",
     .success = 200},
    {.method = LH_HTTP_POST,
     .pattern = "/vectors/index/{name}/import",
     .services = QUERYD,
     .body = LH_HTTP_BODY_WHOLE,
     .scope = LH_HTTP_SCOPE_WRITE,
     .reach = LH_HTTP_REACH_INDEX,
     .handle = lh_handle_import,
     .operation = "importRows",
     .summary = "Add the rows of a SELECT of id, vector and metadata",
     .request_json = SQL,
     .response_json = IMPORTED,
     .query = "durability",
     .success = 200},
    {.method = LH_HTTP_GET,
     .pattern = "/sql/tables",
     .services = QUERYD,
     .scope = LH_HTTP_SCOPE_READ,
     .reach = LH_HTTP_REACH_HANDLER,
     .handle = lh_handle_tables,
     .operation = "listTables",
     .summary = "List the datasets that statements can name",
     .response_json = TABLES,
     .query = "prefix,cursor,limit",
     .success = 200},
    {.method = LH_HTTP_GET,
     .pattern = "/sql/tables/{name}",
     .services = QUERYD,
     .scope = LH_HTTP_SCOPE_READ,
     .reach = LH_HTTP_REACH_HANDLER,
     .handle = lh_handle_table,
     .operation = "getTable",
     .summary = "Describe one of them, or a version as name@2",
     .response_json = TABLE,
     .success = 200},
    {.method = LH_HTTP_GET,
     .pattern = "/sql/{query_id}",
     .services = QUERYD,
     .scope = LH_HTTP_SCOPE_READ,
     .reach = LH_HTTP_REACH_ALL,
     .handle = lh_handle_sql_progress,
     .operation = "queryProgress",
     .summary = "How far a query or an import is",
     .response_json = PROGRESS,
     .success = 200},
    {.method = LH_HTTP_DELETE,
     .pattern = "/sql/{query_id}",
     .services = QUERYD,
     .scope = LH_HTTP_SCOPE_READ,
     .reach = LH_HTTP_REACH_HANDLER,
     .handle = lh_handle_sql_cancel,
     .operation = "cancelQuery",
     .summary = "End a query that runs",
     .success = 204},
};

const size_t lh_route_count = sizeof lh_routes / sizeof *lh_routes;
