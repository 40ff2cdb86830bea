#!/bin/sh
# Check the ledger in use and tell Prometheus what came of it: for a timer, once a day.
#
#   DATABASE_URL  of the ledger; empty: the SQLite file in DATA_DIR
set -eu
. "$(dirname "$0")/lib.sh"

[ -n "${DATABASE_URL:-}${DATA_DIR:-}" ] || fail "neither DATABASE_URL nor DATA_DIR is set"
code=0
(cd / && DATABASE_URL="${DATABASE_URL:-}" DATA_DIR="${DATA_DIR:-data}" "$CREDITS" verify) || code=$?
case $code in
    0) sound=1 ;;
    1) sound=0 ;;
    # Not known: the last outcome stands, and grows old.
    *) fail "the ledger could not be checked" ;;
esac
report ledger_verify \
    '# TYPE ledger_verify_sound gauge' "ledger_verify_sound $sound" \
    '# TYPE ledger_verify_timestamp_seconds gauge' "ledger_verify_timestamp_seconds $(date +%s)"
exit $code
