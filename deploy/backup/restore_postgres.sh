#!/bin/sh
# Restore a dump into an empty database and check the ledger there.
#
#   restore_postgres.sh DUMP URL        the database at URL exists and is empty
#   restore_postgres.sh DUMP --check    into a database beside CHECK_URL's, which is dropped afterwards
set -eu
. "$(dirname "$0")/lib.sh"

[ $# = 2 ] || fail "usage: restore_postgres.sh DUMP URL, or DUMP --check"
dump=$1 url=$2
[ -f "$dump" ] || fail "there is no $dump"
if [ "$url" = --check ]; then
    needed CHECK_URL "where the dump is tried"
    name="ledger_check_$(date -u +%Y%m%d%H%M%S)_$$"
    psql --no-psqlrc --quiet --dbname="$CHECK_URL" --command="CREATE DATABASE $name"
    trap 'psql --no-psqlrc --quiet --dbname="$CHECK_URL" --command="DROP DATABASE $name WITH (FORCE)"' EXIT
    # The same server and role, another database.
    url=$(printf '%s' "$CHECK_URL" | sed -E "s#^([a-z]+://[^/]+)(/[^?]*)?#\1/$name#")
fi
tables=$(psql --no-psqlrc --tuples-only --no-align --dbname="$url" \
    --command="SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'")
[ "$tables" = 0 ] || fail "the database is not empty"
say "Restoring $dump"
pg_restore --exit-on-error --single-transaction --no-owner --no-privileges --dbname="$url" "$dump"
psql --no-psqlrc --quiet --dbname="$url" --command=ANALYZE
verify "$url" "" || fail "the restored ledger does not agree with itself"
say "Restored and verified"
