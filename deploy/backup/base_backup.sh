#!/bin/sh
# Copy a whole PostgreSQL server while it is written to: what a restore to a moment begins with. The
# pieces that archive_wal.sh keeps from now on lead from this copy to any later moment.
#
#   REPLICATION_URL  of a role with REPLICATION (pg_basebackup's --dbname)
#   BACKUPS          folder for the copies          KEEP_DAYS  default 14
set -eu
umask 077
. "$(dirname "$0")/lib.sh"

needed REPLICATION_URL "the server"
needed BACKUPS "where copies are kept"
stamp=$(date -u +%Y%m%dT%H%M%SZ)
work="$BACKUPS/.partial-$stamp-$$"
trap 'rm -rf "$work"' EXIT

say "Copying the server"
pg_basebackup --dbname="$REPLICATION_URL" --pgdata="$work" --wal-method=stream --checkpoint=fast
pg_verifybackup --quiet "$work"
mv "$work" "$BACKUPS/base-$stamp"
sync "$BACKUPS"
keep_newest "$BACKUPS" 'base-*'
report ledger_backup '# TYPE ledger_backup_last_success_timestamp_seconds gauge' \
    "ledger_backup_last_success_timestamp_seconds $(date +%s)"
say "Made $BACKUPS/base-$stamp"
