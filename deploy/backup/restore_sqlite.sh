#!/bin/sh
# Put a copy in the place of an embedded ledger, and check it. Stop the credits service first.
#
#   restore_sqlite.sh COPY DATA_DIR
set -eu
umask 077
. "$(dirname "$0")/lib.sh"

[ $# = 2 ] || fail "usage: restore_sqlite.sh COPY DATA_DIR"
copy=$1 data=$2
[ -f "$copy" ] || fail "there is no $copy"
mkdir -p "$data"
work=$(mktemp -d "$data/.restoring-XXXXXX")
trap 'rm -rf "$work"' EXIT

cp "$copy" "$work/ledger.sqlite3"
verify "" "$work" || fail "the copy does not agree with itself; nothing was changed"
sync "$work/ledger.sqlite3"
# What was there is kept: it has bookings that the copy does not have.
stamp=$(date -u +%Y%m%dT%H%M%SZ)
for part in '' -wal -shm; do
    if [ -e "$data/ledger.sqlite3$part" ]; then
        mkdir -p "$data/replaced-$stamp"
        mv "$data/ledger.sqlite3$part" "$data/replaced-$stamp/"
    fi
done
if [ "$(id -u)" = 0 ]; then chown "$(stat -c %u:%g "$data")" "$work/ledger.sqlite3"; fi
mv "$work/ledger.sqlite3" "$data/ledger.sqlite3"
say "Restored $copy to $data/ledger.sqlite3; start the credits service"
