#!/bin/sh
# Dump a ledger in PostgreSQL while it is written to, restore the dump, check it, and keep it.
#
#   DATABASE_URL  of the ledger; a role that may read it all is enough
#   CHECK_URL     of a database on a server (not necessarily the ledger's) whose role may create others:
#                 the dump is restored there for the check, into a database that is dropped afterwards
#   BACKUPS       folder for the dumps          KEEP_DAYS  default 14
set -eu
umask 077
here=$(dirname "$0")
. "$here/lib.sh"

needed DATABASE_URL "the ledger"
needed CHECK_URL "where the dump is tried"
needed BACKUPS "where dumps are kept"
stamp=$(date -u +%Y%m%dT%H%M%SZ)
work=$(mktemp -d "$BACKUPS/.partial-XXXXXX")
trap 'rm -rf "$work"' EXIT

say "Dumping the ledger"
# One snapshot: what was acknowledged before this moment is in it, whole.
pg_dump --format=custom --no-owner --no-privileges --file="$work/ledger.dump" "$DATABASE_URL"
CHECK_URL=$CHECK_URL "$here/restore_postgres.sh" "$work/ledger.dump" --check
sync "$work/ledger.dump"
mv "$work/ledger.dump" "$BACKUPS/ledger-$stamp.dump"
keep_newest "$BACKUPS" 'ledger-*.dump'
report ledger_backup '# TYPE ledger_backup_last_success_timestamp_seconds gauge' \
    "ledger_backup_last_success_timestamp_seconds $(date +%s)"
say "Made $BACKUPS/ledger-$stamp.dump"
