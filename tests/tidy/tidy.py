#!/usr/bin/env python3
"""Keeps of the house style what a machine can keep.

    tidy.py ROOT          checks the tree, after checking itself
    tidy.py --self-test   checks only that each rule finds what it is for

Prints file:line: text for each finding; exit status 1 when there is any.
"""
import os
import re
import shutil
import subprocess
import sys

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
LINE_COLUMNS_MAX = 100

# A folder may include only from floors below its own, and from itself.
FLOORS = {
    "base": 0, "runtime": 1, "ext": 1, "net": 2, "hnsw": 2, "store": 2, "sql": 2,
    "shards": 3, "actors": 4, "main": 5,
}
ATOMICS_IN = {
    "src/runtime/mailbox.c", "src/runtime/mailbox.h", "src/base/metrics.c", "src/base/metrics.h",
}
CODE = (".c", ".h", ".cc", ".inc")
CHECKED_FOLDERS = ("src", "tests", "tools", "bench")


def blank_out(text):
    """The same text with comments and the insides of literals as spaces."""
    out = []
    i = 0
    while i < len(text):
        two = text[i:i + 2]
        if two == "//":
            end = text.find("\n", i)
            end = len(text) if end < 0 else end
        elif two == "/*":
            end = text.find("*/", i + 2)
            end = len(text) if end < 0 else end + 2
        elif text[i] in "\"'":
            end = i + 1
            while end < len(text) and text[end] != text[i] and text[end] != "\n":
                end += 2 if text[end] == "\\" else 1
            end += 1
        else:
            out.append(text[i])
            i += 1
            continue
        out.append("".join("\n" if c == "\n" else " " for c in text[i:end]))
        i = end
    return "".join(out)


def check_size(path, text):
    lines = text.split("\n")
    if path.startswith("src/") and len(lines) - 1 > FILE_LINES_MAX:
        yield len(lines) - 1, f"the file has more than {FILE_LINES_MAX} lines"
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_COLUMNS_MAX and "://" not in line:
            yield number, f"the line has more than {LINE_COLUMNS_MAX} columns"
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{" and start is None:
            start = number
        elif line.startswith("}") and start is not None:
            if number - start - 1 > FUNCTION_LINES_MAX:
                yield start, f"the function has more than {FUNCTION_LINES_MAX} lines"
            start = None


def file_scope_statements(text):
    """(line, statement) for all that ends in ; outside of any brace."""
    text = re.sub(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", lambda m: "\n" * m.group().count("\n"),
                  blank_out(text), flags=re.M)
    text = re.sub(r'extern\s+\{', lambda m: " " * len(m.group()), text)
    depth = 0
    start = 0
    kept = []
    for i, c in enumerate(text):
        if c == "{":
            depth += 1
        elif c == "}":
            depth -= 1
            before = "".join(kept)
            if depth == 0 and "=" not in before and re.search(r"\)\s*$", before):
                kept, start = [], i + 1  # a function's body
        elif depth == 0:
            if c == ";":
                statement = "".join(kept)
                lead = len(statement) - len(statement.lstrip())
                yield text.count("\n", 0, start + lead) + 1, " ".join(statement.split())
                kept, start = [], i + 1
            else:
                kept.append(c)


def check_globals(path, text):
    if not path.startswith("src/") or not path.endswith((".c", ".cc", ".inc")):
        return
    for line, statement in file_scope_statements(text):
        declared = statement.split("=")[0]
        if not declared or re.match(r"(typedef|extern|_Static_assert|static_assert|using|template)\b",
                                    declared):
            continue
        if re.match(r"(struct|enum|union|class|namespace)\s*\w*\s*$", declared):
            continue  # a type alone
        if re.search(r"\w\s*\(", re.sub(r"__attribute__\s*\(\(.*?\)\)|_Alignas\s*\([^)]*\)|"
                                        r"alignas\s*\([^)]*\)", "", declared)):
            continue  # a function
        after_star = declared.rsplit("*", 1)[-1]
        if "constexpr" not in declared and not re.search(r"\bconst\b", after_star):
            yield line, f"mutable at file scope: {statement[:60]}"


def check_atomics(path, text):
    if not path.startswith("src/") or path in ATOMICS_IN:
        return
    for number, line in enumerate(blank_out(text).split("\n"), 1):
        if re.search(r"\b_Atomic\b|\batomic_\w+|__atomic_|__sync_|std::atomic|<stdatomic\.h>", line):
            yield number, "atomics live in the mailbox and the metrics alone"


def floor_of(path):
    parts = path.split("/")
    return FLOORS["main"] if len(parts) == 2 else FLOORS.get(parts[1])


def check_includes(path, text):
    if not path.startswith("src/"):
        return
    own = floor_of(path)
    folder = path.split("/")[1]
    for number, line in enumerate(text.split("\n"), 1):
        match = re.match(r'\s*#\s*include\s+"([^"/]+)/', line)
        if not match or match.group(1) == folder:
            continue
        floor = FLOORS.get(match.group(1))
        if floor is None or floor >= own:
            yield number, f"floor {own} ({folder}) includes from {match.group(1)}"


def check_comments(path, text):
    if path.startswith("src/") and path.endswith((".c", ".cc", ".h")) and not text.startswith("/*"):
        yield 1, "the file does not begin with what it is for"
    for number, line in enumerate(text.split("\n"), 1):
        if re.search(r"\b(TODO|FIXME|XXX)\b", line) and path.startswith("src/"):
            yield number, "left open"


CHECKS = (check_size, check_globals, check_atomics, check_includes, check_comments)


def findings(path, text):
    for check in CHECKS:
        for line, what in check(path, text):
            yield f"{path}:{line}: {what}"


def code_files(root):
    for folder in CHECKED_FOLDERS:
        for at, _, names in os.walk(os.path.join(root, folder)):
            for name in sorted(names):
                if name.endswith(CODE):
                    yield os.path.relpath(os.path.join(at, name), root)


def check_format(root, paths):
    tool = shutil.which("clang-format")
    if tool is None:
        print("tidy: clang-format is missing: THE FORMAT WAS NOT CHECKED", file=sys.stderr)
        return []
    run = subprocess.run([tool, "--dry-run", "-Werror", *paths], cwd=root, capture_output=True,
                         text=True)
    return [line for line in run.stderr.split("\n") if "error:" in line]


BAD = {
    "the line has more than": ("src/base/a.c", "/* . */\n" + "x" * 101 + "\n"),
    "the file has more than": ("src/base/a.c", "/* . */\n" + "\n" * 600),
    "the function has more than": ("src/base/a.c",
                                   "/* . */\nint f(void)\n{\n" + "    g();\n" * 71 + "}\n"),
    "mutable at file scope: static int": ("src/base/a.c", "/* . */\nstatic int n = 3;\n"),
    "mutable at file scope: static const char *": ("src/base/a.c",
                                                   "/* . */\nstatic const char *p[2];\n"),
    "mutable at file scope: struct x": ("src/base/a.c",
                                        "/* . */\nint f(void)\n{\n}\nstruct x y = {.a = 1};\n"),
    "mutable at file scope: static _Thread_local": ("src/base/a.c",
                                                    "/* . */\nstatic _Thread_local int t;\n"),
    "atomics": ("src/net/a.c", "/* . */\nvoid f(void)\n{\n    atomic_load(&x);\n}\n"),
    "floor 2": ("src/net/a.c", '/* . */\n#include "actors/gateway.h"\n'),
    "floor 1": ("src/ext/a.cc", '/* . */\n#include "runtime/actor.h"\n'),
    "does not begin": ("src/net/a.c", "int f(void);\n"),
    "left open": ("src/net/a.c", "/* . */\n/* TODO: more */\n"),
}
GOOD = ("src/actors/a.c",
        "/* . */\n#include \"net/http.h\"\nstatic const int n = 3;\n"
        "static const char *const names[] = {\"a;b\", \"c\"};\n"
        "const struct x table[] = {{.a = 1}, {.b = 2}};\nstruct y {\n    int a;\n};\n"
        "static int f(void);\nint f(void)\n{\n    static const int k = 1;\n    int n = k;\n"
        "    return n;\n}\n")


def self_test():
    failed = [f"tidy: the rule \"{want}\" did not find its example"
              for want, (path, text) in BAD.items()
              if not any(want in line for line in findings(path, text))]
    failed += [f"tidy: found in good code: {line}" for line in findings(*GOOD)]
    for line in failed:
        print(line)
    return not failed


def main():
    if not self_test():
        return 1
    if sys.argv[1:] == ["--self-test"]:
        return 0
    root = sys.argv[1]
    paths = list(code_files(root))
    found = []
    for path in paths:
        with open(os.path.join(root, path), encoding="utf-8") as file:
            found += findings(path, file.read())
    found += check_format(root, paths)
    for line in found:
        print(line)
    print(f"tidy: {len(paths)} files, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
