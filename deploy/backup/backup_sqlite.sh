#!/bin/sh
# Copy an embedded ledger while its service runs, check the copy, and put it into a folder.
#
#   DATA_DIR  folder of ledger.sqlite3      BACKUPS  folder for the copies      KEEP_DAYS  default 14
set -eu
umask 077
. "$(dirname "$0")/lib.sh"

needed DATA_DIR "the folder of ledger.sqlite3"
needed BACKUPS "where copies are kept"
ledger="$DATA_DIR/ledger.sqlite3"
[ -f "$ledger" ] || fail "there is no $ledger"
stamp=$(date -u +%Y%m%dT%H%M%SZ)
work=$(mktemp -d "$BACKUPS/.partial-XXXXXX")
trap 'rm -rf "$work"' EXIT

say "Copying $ledger"
# SQLite's own online backup: of one moment, whatever is written meanwhile. Without steps, as a writer
# between two of them would make it begin anew.
python3 - "$ledger" "$work/ledger.sqlite3" <<'PYTHON'
import pathlib
import sqlite3
import sys

source = sqlite3.connect(f"{pathlib.Path(sys.argv[1]).resolve().as_uri()}?mode=ro", uri=True)
copy = sqlite3.connect(sys.argv[2])
source.backup(copy)
copy.execute("PRAGMA journal_mode=DELETE")
((found,),) = copy.execute("PRAGMA integrity_check").fetchall()
copy.close()
sys.exit(None if found == "ok" else f"the copy is damaged: {found}")
PYTHON
verify "" "$work" || fail "the copy does not agree with itself; nothing was kept"
sync "$work/ledger.sqlite3"
mv "$work/ledger.sqlite3" "$BACKUPS/ledger-$stamp.sqlite3"
keep_newest "$BACKUPS" 'ledger-*.sqlite3'
report ledger_backup '# TYPE ledger_backup_last_success_timestamp_seconds gauge' \
    "ledger_backup_last_success_timestamp_seconds $(date +%s)"
say "Made $BACKUPS/ledger-$stamp.sqlite3"
