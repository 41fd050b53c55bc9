/* What --help says. Constants. */
#include "lakehouse.h"

#define URL_HELP                                                   \
    "  --url URL            the server (default " LH_CLI_URL ")\n" \
    "  --token TOKEN        who you are, where tokens are asked for (or LAKEHOUSE_TOKEN)\n"
#define JSON_HELP "  --json               print the server's answer as JSON\n"

#define FILE_JSON_HELP "  --json               print it as JSON\n"

#define CREATE_HELP                                                           \
    "  --distance D         cosine (default), euclidean or dot\n"             \
    "  --shards N           parts that are searched and filled in parallel\n" \
    "  --m M                links of a vector, 2 to 64 (default 16)\n"        \
    "  --ef-construction N  effort of adding (default 200)\n"                 \
    "  --ef-search N        effort of a search that names none (default 128)\n"

static const char overview[] =
    "lakehouse: the command-line client of lakehoused, a vector search server.\n"
    "\n"
    "usage: lakehouse COMMAND [ARGUMENTS] [OPTIONS]\n"
    "\n"
    "  import FILE      load vectors from a file into an index, which is made when missing\n"
    "  search           find the nearest items to an item or a vector\n"
    "  get ID...        show items\n"
    "  delete ID...     delete items\n"
    "  index list       list the indexes\n"
    "  index create     make an index          index info      describe one\n"
    "  index delete     delete one             health          is the server up?\n"
    "  lhv1 inspect     show an index file     lhv1 verify     check one to the last byte\n"
    "  help COMMAND     explain a command, with examples\n"
    "\n"
    "An index is a named collection of items; an item is an id, a vector and, if you like,\n"
    "metadata. All vectors of an index have the same number of dimensions.\n"
    "\n"
    "A first try, with a server started by tools/run:\n"
    "\n"
    "  lakehouse import words.fbin --ids words.ids --index words\n"
    "  lakehouse search --index words --id berlin\n"
    "\n"
    "Options that every command takes, --url and --token but for lhv1:\n" URL_HELP
    "  --help               explain the command\n"
    "\n"
    "lakehouse --version prints the version.\n"
    "\n"
    "Exit status: 0 done, 1 the server said no, 2 a mistake in the command line or in a file\n"
    "that it names, 3 the server cannot be reached.\n";

static const char import_help[] =
    "usage: lakehouse import FILE --index NAME [OPTIONS]\n"
    "\n"
    "Adds every vector of FILE to an index; an item whose id is there is replaced. The file is\n"
    "streamed, so it can be larger than memory. A missing index is made with the file's\n"
    "dimension. A server at its limit, or away for a few seconds, is tried again.\n"
    "\n"
    "  --index NAME         the index to load into\n"
    "  --format F           fbin, npy or ndjson (default: by the file's name)\n"
    "                         fbin    u32 rows, u32 dimensions, then float32 rows\n"
    "                         npy     a NumPy array, float32, of shape (rows, dimensions)\n"
    "                         ndjson  {\"id\":\"a\",\"vector\":[1,2],\"metadata\":{}} on each "
    "line;\n"
    "                                 FILE may be - for standard input\n"
    "  --ids FILE           the ids, one a line in the order of the rows (default: the row's\n"
    "                       number, from 0); not for ndjson\n"
    "  --connections N      requests at once (default 4). Where an id comes twice, the last one\n"
    "                       to arrive stays: with 1, that is the last in the file\n"
    "  --batch N            vectors in a request (default 512)\n"
    "  --encoding E         vectors sent as base64 (default, fastest) or json numbers\n" URL_HELP
    "\n"
    "When the index is made here:\n" CREATE_HELP "\n"
    "examples:\n"
    "  lakehouse import words.fbin --ids words.ids --index words\n"
    "  lakehouse import embeddings.npy --index pages --distance dot --connections 8\n"
    "  zcat items.ndjson.gz | lakehouse import - --format ndjson --index items\n";

static const char search_help[] =
    "usage: lakehouse search --index NAME (--id ID | --vector NUMBERS | --vector-file FILE | -)\n"
    "\n"
    "Prints the nearest items, nearest first: rank, distance, id, metadata.\n"
    "\n"
    "  --index NAME         the index to search\n"
    "  --id ID              near this item, which itself is left out\n"
    "  --vector NUMBERS     near this vector, such as \"1,0.5,-2\"\n"
    "  --vector-file FILE   near the vector in this file, as numbers or a JSON list; - is\n"
    "                       standard input\n"
    "  --k N                how many items (default 10)\n"
    "  --ef N               effort: more finds better neighbours, slower (default: the "
    "index's)\n" URL_HELP JSON_HELP "\n"
    "examples:\n"
    "  lakehouse search --index words --id berlin --k 5\n"
    "  echo '[0.1, 0.7]' | lakehouse search --index points -\n";

static const char get_help[] = "usage: lakehouse get --index NAME ID...\n"
                               "\n"
                               "Prints items: id, metadata, vector. An id that begins with a dash "
                               "goes behind --.\n"
                               "\n"
                               "  --index NAME         the index to read\n" URL_HELP JSON_HELP "\n"
                               "example:\n"
                               "  lakehouse get --index words berlin\n";

static const char delete_help[] =
    "usage: lakehouse delete --index NAME ID...\n"
    "\n"
    "Deletes items for good. Exit status 1 when some of them were not there. An id that begins\n"
    "with a dash goes behind --.\n"
    "\n"
    "  --index NAME         the index to delete from\n" URL_HELP JSON_HELP "\n"
    "example:\n"
    "  lakehouse delete --index words berlin paris\n";

static const char index_create_help[] =
    "usage: lakehouse index create NAME --dimension N [OPTIONS]\n"
    "\n"
    "Makes an empty index. (lakehouse import makes a missing one by itself.)\n"
    "\n"
    "  --dimension N        how many numbers a vector has\n" CREATE_HELP URL_HELP JSON_HELP "\n"
    "example:\n"
    "  lakehouse index create pages --dimension 768 --distance cosine\n";

static const char index_list_help[] =
    "usage: lakehouse index list\n"
    "\n"
    "Lists the indexes with their settings, item counts and memory.\n"
    "\n" URL_HELP JSON_HELP;

static const char index_info_help[] = "usage: lakehouse index info NAME\n"
                                      "\n"
                                      "Describes one index: settings, item count, state, memory.\n"
                                      "\n" URL_HELP JSON_HELP;

static const char index_delete_help[] = "usage: lakehouse index delete NAME\n"
                                        "\n"
                                        "Deletes an index with all its items, for good.\n"
                                        "\n" URL_HELP JSON_HELP;

static const char health_help[] =
    "usage: lakehouse health\n"
    "\n"
    "Says whether the server is up and has loaded its indexes; exit status 0 only then.\n"
    "\n" URL_HELP JSON_HELP;

static const char lhv1_inspect_help[] =
    "usage: lakehouse lhv1 inspect FILE\n"
    "\n"
    "Shows what an index file says of itself: settings, counts, and where each shard's section\n"
    "is, with its checksum. No server is needed. The sections are not read: lakehouse lhv1 verify\n"
    "does that.\n"
    "\n" FILE_JSON_HELP "\n"
    "example:\n"
    "  lakehouse lhv1 inspect data/_vectors/words.lhv1\n";

static const char lhv1_verify_help[] =
    "usage: lakehouse lhv1 verify FILE\n"
    "\n"
    "Reads an index file to its end and checks every checksum, id, link and vector, as a server\n"
    "does that loads it, and more; needs memory for its largest shard. Exit status 0: it is good.\n"
    "No server is needed, and one that runs is not disturbed.\n"
    "\n" FILE_JSON_HELP "\n"
    "example:\n"
    "  lakehouse lhv1 verify data/_vectors/words.lhv1\n";

static const struct {
    const char *name;
    const char *help;
} commands[] = {
    [LH_CLI_IMPORT] = {"import", import_help},
    [LH_CLI_SEARCH] = {"search", search_help},
    [LH_CLI_GET] = {"get", get_help},
    [LH_CLI_DELETE] = {"delete", delete_help},
    [LH_CLI_INDEX_LIST] = {"index list", index_list_help},
    [LH_CLI_INDEX_CREATE] = {"index create", index_create_help},
    [LH_CLI_INDEX_DELETE] = {"index delete", index_delete_help},
    [LH_CLI_INDEX_INFO] = {"index info", index_info_help},
    [LH_CLI_HEALTH] = {"health", health_help},
    [LH_CLI_LHV1_INSPECT] = {"lhv1 inspect", lhv1_inspect_help},
    [LH_CLI_LHV1_VERIFY] = {"lhv1 verify", lhv1_verify_help},
    [LH_CLI_COMMANDS] = {"", overview},
};

const char *lh_cli_help(enum lh_cli_command command)
{
    return commands[command].help;
}

const char *lh_cli_name(enum lh_cli_command command)
{
    return commands[command].name;
}
