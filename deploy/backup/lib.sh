# shellcheck shell=sh
# What the scripts of this folder have in common; they read it with `.`.
#
#   CREDITS       the command `credits`; it must be of the version that the ledger was made by
#   TEXTFILE_DIR  folder of node_exporter's textfile collector; unset: nothing is reported
#   PG_BIN        folder of PostgreSQL's programs, where they are not on the path (Debian has pg_ctl in
#                 /usr/lib/postgresql/15/bin)
#   PG_USER       PostgreSQL's user, where a script that is run as root starts a server

CREDITS="${CREDITS:-credits}"
PG_USER="${PG_USER:-postgres}"
PATH="${PG_BIN:+$PG_BIN:}$PATH"

say() { printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*"; }
fail() { say "FAILED: $*" >&2; exit 1; }

# needed NAME MEANING: end unless a variable is set.
needed() {
    eval "value=\${$1:-}"
    [ -n "$value" ] || fail "$1 is not set: $2"
}

# report FILE LINE…: tell Prometheus, whole or not at all.
report() {
    [ -n "${TEXTFILE_DIR:-}" ] || return 0
    file="$TEXTFILE_DIR/$1.prom"
    shift
    printf '%s\n' "$@" > "$file.partial"
    mv "$file.partial" "$file"
}

# verify URL FOLDER: check every invariant of the ledger at a URL, or in a folder's SQLite file.
verify() {
    say "Verifying the ledger"
    # In a folder without a .env, which could name another ledger.
    (cd / && DATABASE_URL="$1" DATA_DIR="$2" "$CREDITS" verify)
}

# as_postgres COMMAND…: PostgreSQL's programs refuse to run as root.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then runuser -u "$PG_USER" -- "$@"; else "$@"; fi
}

# keep_newest FOLDER PATTERN: remove what is older than KEEP_DAYS (default 14), never the newest one.
keep_newest() {
    newest=$(find "$1" -maxdepth 1 -name "$2" | sort | tail -n 1)
    find "$1" -maxdepth 1 -name "$2" ! -path "$newest" -mtime "+${KEEP_DAYS:-14}" -exec rm -rf {} +
}
