/* The TOML reader, on toml11 (3.7 or 4). Any thread; no state.
 *
 * No exception leaves this file: each function that is called from C catches what toml11 and the
 * standard library throw. */
#include "ext/toml.h"

#include "base/limits.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <new>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <toml.hpp>
#include <vector>

namespace
{

struct Value {
    std::string key;
    std::string text;
    enum lh_config_type type;
    unsigned line;
};

struct File {
    const char *path;
    struct lh_error *error;
    bool has_lists; /* arrays are taken, of tables and of plain values */
    std::vector<Value> values;
};

#if TOML11_VERSION_MAJOR >= 4
unsigned line_of(const toml::source_location &location)
{
    return static_cast<unsigned>(location.first_line_number());
}

unsigned line_of(const toml::syntax_error &e)
{
    for (const auto &info : e.errors())
        for (const auto &location : info.locations())
            return line_of(location.first);
    return 1;
}
#else
unsigned line_of(const toml::source_location &location)
{
    return static_cast<unsigned>(location.line());
}

unsigned line_of(const toml::syntax_error &e)
{
    return line_of(e.location());
}
#endif

/* toml11 draws the place over many lines, below "[error] toml::function: reason". */
std::string reason_of(const std::exception &e)
{
    std::string text = e.what();
    text = text.substr(0, text.find('\n'));
    if (text.rfind("[error] ", 0) == 0)
        text.erase(0, 8);
    size_t colon = text.find(": ");
    if (colon != std::string::npos && text.find(' ') > colon)
        text.erase(0, colon + 2);
    return text;
}

enum lh_status read_bytes(const char *path, std::string &bytes, struct lh_error *error)
{
    enum lh_status status = LH_OK;
    char piece[4096];
    struct stat about;
    size_t got;
    FILE *file = fopen(path, "re");
    if (file == nullptr)
        return lh_error_sys(error, LH_CONFIG, errno, "%s", path);
    if (fstat(fileno(file), &about) == 0 && S_ISDIR(about.st_mode))
        status = lh_error_set(error, LH_CONFIG, "%s: is a directory, not a file", path);
    while (status == LH_OK && (got = fread(piece, 1, sizeof piece, file)) > 0) {
        bytes.append(piece, got);
        if (bytes.size() > LH_CONFIG_FILE_BYTES_MAX)
            status = lh_error_set(error, LH_CONFIG, "%s: is larger than %u bytes", path,
                                  LH_CONFIG_FILE_BYTES_MAX);
    }
    if (status == LH_OK && ferror(file))
        status = lh_error_sys(error, LH_CONFIG, errno, "%s", path);
    fclose(file);
    return status;
}

enum lh_status refuse(const File &file, const std::string &key, unsigned line, const char *reason)
{
    return lh_error_set(file.error, LH_CONFIG, "%s:%u: %s: %s", file.path, line, key.c_str(),
                        reason);
}

enum lh_status collect_value(File &file, const std::string &key, const toml::value &value);

enum lh_status collect_list(File &file, const std::string &key, const toml::value &list)
{
    size_t i = 0;
    if (list.as_array().empty())
        return refuse(file, key, line_of(list.location()), "is empty");
    for (const auto &value : list.as_array()) {
        enum lh_status status =
            value.is_array()
                ? refuse(file, key, line_of(value.location()), "an array inside an array")
                : collect_value(file, key + "[" + std::to_string(i++) + "]", value);
        if (status != LH_OK)
            return status;
    }
    return LH_OK;
}

enum lh_status collect_value(File &file, const std::string &key, const toml::value &value)
{
    unsigned line = line_of(value.location());
    if (value.is_string())
        file.values.push_back({key, toml::get<std::string>(value), LH_CONFIG_STRING, line});
    else if (value.is_integer())
        file.values.push_back({key, std::to_string(value.as_integer()), LH_CONFIG_INTEGER, line});
    else if (value.is_boolean())
        file.values.push_back({key, value.as_boolean() ? "true" : "false", LH_CONFIG_BOOL, line});
    else if (value.is_table())
        return refuse(file, key, line, "a table where a plain value belongs");
    else if (value.is_array() && file.has_lists)
        return collect_list(file, key, value);
    else if (value.is_array())
        return refuse(file, key, line, "an array where a plain value belongs");
    else if (value.is_floating())
        return refuse(file, key, line, "a number with a fraction where a plain value belongs");
    else
        return refuse(file, key, line, "a date or time where a plain value belongs");
    return LH_OK;
}

enum lh_status collect_section(File &file, const std::string &section, const toml::value &table)
{
    if (!table.is_table())
        return refuse(file, section, line_of(table.location()),
                      table.is_array() ? "an array of tables where a [section] belongs"
                                       : "stands outside any [section]");
    for (const auto &[name, value] : table.as_table()) {
        enum lh_status status = collect_value(file, section + "." + name, value);
        if (status != LH_OK)
            return status;
    }
    return LH_OK;
}

bool is_list_of_tables(const toml::value &value)
{
    return value.is_array() && !value.as_array().empty() && value.as_array().front().is_table();
}

enum lh_status collect(File &file, const toml::value &root)
{
    for (const auto &[section, table] : root.as_table()) {
        enum lh_status status = LH_OK;
        size_t i = 0;
        if (!file.has_lists || !is_list_of_tables(table))
            status = collect_section(file, section, table);
        else
            for (const auto &one : table.as_array()) {
                status = collect_section(file, section + "[" + std::to_string(i++) + "]", one);
                if (status != LH_OK)
                    break;
            }
        if (status != LH_OK)
            return status;
    }
    /* toml11 keeps tables unordered. */
    std::stable_sort(file.values.begin(), file.values.end(),
                     [](const Value &a, const Value &b) { return a.line < b.line; });
    return LH_OK;
}

enum lh_status parse(File &file, const std::string &bytes)
{
    std::istringstream in(bytes);
    try {
        return collect(file, toml::parse(in, file.path));
    } catch (const toml::syntax_error &e) {
        return lh_error_set(file.error, LH_CONFIG, "%s:%u: %s", file.path, line_of(e),
                            file.has_lists ? "the syntax is not TOML's" : reason_of(e).c_str());
    }
}

using Each = enum lh_status (*)(const char *key, struct lh_str value, enum lh_config_type type,
                                unsigned line, void *arg, struct lh_error *error);

enum lh_status hand_over(const File &file, Each each, void *arg)
{
    enum lh_status status = LH_OK;
    for (size_t i = 0; status == LH_OK && i < file.values.size(); i++) {
        const Value &value = file.values[i];
        status = each(value.key.c_str(), {value.text.data(), value.text.size()}, value.type,
                      value.line, arg, file.error);
    }
    return status;
}

} // namespace

enum lh_status lh_toml_read(const char *path, Each each, void *arg, struct lh_error *error)
try {
    File file{path, error, false, {}};
    std::string bytes;
    enum lh_status status = read_bytes(path, bytes, error);
    if (status == LH_OK)
        status = parse(file, bytes);
    return status == LH_OK ? hand_over(file, each, arg) : status;
} catch (const std::bad_alloc &) {
    return lh_error_set(error, LH_OUT_OF_MEMORY, "%s: not enough memory", path);
} catch (const std::exception &e) {
    return lh_error_set(error, LH_CONFIG, "%s: %s", path, reason_of(e).c_str());
}

enum lh_status lh_toml_read_lists(struct lh_str text, const char *path, Each each, void *arg,
                                  struct lh_error *error)
try {
    File file{path, error, true, {}};
    enum lh_status status = parse(file, std::string(text.ptr, text.len));
    return status == LH_OK ? hand_over(file, each, arg) : status;
} catch (const std::bad_alloc &) {
    return lh_error_set(error, LH_OUT_OF_MEMORY, "%s: not enough memory", path);
} catch (const std::exception &) {
    return lh_error_set(error, LH_CONFIG, "%s: the syntax is not TOML's", path);
}
