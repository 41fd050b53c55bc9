# What the smoke scripts share; each begins with `. "$(dirname "$0")/lib.sh"`.
#
#   SCRIPT [URL]      URL of a gateway, http://127.0.0.1:3110 when it is left out
#
# LAKEHOUSE_TOKEN is sent as a bearer token when it is set. SMOKE_RESTART is a command that stops the
# server, by the signal in SMOKE_SIGNAL if that is set, and starts it again; without it a script leaves
# out what it would look at behind a restart. SMOKE_VECTORS is the server's vectord.data_dir, if known.
# All that a script makes is named smoke-..., and is deleted at the end. Needs curl and python3.
set -euo pipefail

URL=${1:-http://127.0.0.1:3110}
URL=${URL%/}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# ask METHOD PATH [curl's arguments]: the answer's status in $status, its body in $work/body.
ask() {
    local method=$1 path=$2
    shift 2
    [ "$method" != HEAD ] || set -- --head "$@"
    [ -z "${LAKEHOUSE_TOKEN:-}" ] || set -- -H "Authorization: Bearer $LAKEHOUSE_TOKEN" "$@"
    status=$(curl -sS -X "$method" -o "$work/body" -w '%{http_code}' "$@" "$URL$path") ||
        fail "$method $path: no answer"
}

# expect STATUS METHOD PATH [curl's arguments]
expect() {
    local wanted=$1
    shift
    ask "$@"
    [ "$status" = "$wanted" ] || fail "$1 $2: $status, not $wanted: $(head -c 500 "$work/body")"
}

# The value of a Python expression over the last answer as `it`: value 'it["count"]'
value() {
    python3 -c 'import json, sys; it = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' \
        "$work/body" "$1"
}

# is 'EXPRESSION' WANTED
is() {
    local found
    found=$(value "$1") || fail "$1: $(head -c 500 "$work/body")"
    [ "$found" = "$2" ] || fail "$1: $found, not $2"
}

# Until the server answers that it is ready, and has read its catalog.
wait_ready() {
    for _ in $(seq 600); do
        if curl -sS -o "$work/body" "$URL/readyz" 2>/dev/null &&
            [ "$(value 'it["status"] + it.get("catalog", {}).get("state", "read")')" = readyread ]; then
            ask GET '/v1/catalog/list?limit=1' # another process may still read it
            [ "$status" = 503 ] || return 0
        fi
        sleep 0.1
    done
    fail "the server is not ready: $(head -c 500 "$work/body")"
}

can_restart() { [ -n "${SMOKE_RESTART:-}" ]; }

restart() {
    $SMOKE_RESTART
    wait_ready
}

kill_and_restart() {
    SMOKE_SIGNAL=KILL $SMOKE_RESTART
    wait_ready
}

passed() { echo "$(basename "$0"): passed"; }
