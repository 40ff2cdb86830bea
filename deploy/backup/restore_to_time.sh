#!/bin/sh
# Make a second server that stands at a chosen moment, beside the one that runs, and check its ledger.
#
#   restore_to_time.sh BASE ARCHIVE MOMENT DATA PORT DATABASE
#
#   BASE      a copy of base_backup.sh from before the moment      ARCHIVE  archive_wal.sh's folder
#   MOMENT    2026-11-24 14:05:00+00                               DATA     a new folder
#   PORT      a free one on 127.0.0.1                              DATABASE name of the ledger's
#
#   VERIFY_URL  of the ledger there, with the role's password, where the server asks for one
#
# The server goes on running: look at it, dump what you need, or point DATABASE_URL at it. Only then stop
# the old one. Run it as root or as PostgreSQL's user.
set -eu
umask 077
. "$(dirname "$0")/lib.sh"

[ $# = 6 ] || fail "usage: restore_to_time.sh BASE ARCHIVE MOMENT DATA PORT DATABASE"
base=$1 archive=$2 moment=$3 data=$4 port=$5 database=$6
[ -d "$base" ] || fail "there is no $base"
[ -d "$archive" ] || fail "there is no $archive"
[ ! -e "$data" ] || fail "$data exists; a restore never writes over anything"

say "Laying out $data"
cp -R "$base" "$data"
# Debian keeps these beside /etc/postgresql, not in the data.
[ -e "$data/postgresql.conf" ] || : > "$data/postgresql.conf"
[ -e "$data/pg_hba.conf" ] || printf 'local all all peer\nhost all all 127.0.0.1/32 scram-sha-256\n' > "$data/pg_hba.conf"
[ -e "$data/pg_ident.conf" ] || : > "$data/pg_ident.conf"
# Later lines win. A copy must not archive into the folder that it is restored from, and nobody is let in
# before it stands at the moment.
cat >> "$data/postgresql.auto.conf" <<SETTINGS
archive_mode = 'off'
synchronous_standby_names = ''
hot_standby = 'off'
listen_addresses = '127.0.0.1'
unix_socket_directories = '$data'
port = $port
restore_command = 'cp "$archive/%f" "%p"'
recovery_target_time = '$moment'
recovery_target_action = 'promote'
SETTINGS
: > "$data/recovery.signal"
if [ "$(id -u)" = 0 ]; then chown -R "$PG_USER:" "$data"; fi

say "Replaying the log up to $moment"
as_postgres pg_ctl start --wait --timeout="${START_SECONDS:-3600}" --silent --pgdata="$data" --log="$data/restore.log" \
    || { tail -n 20 "$data/restore.log" >&2; fail "the server did not reach that moment"; }
url="${VERIFY_URL:-postgresql://$PG_USER@127.0.0.1:$port/$database}"
verify "$url" "" || fail "the ledger at $moment does not agree with itself"
say "Restored and verified; the server runs on 127.0.0.1:$port (pg_ctl stop --pgdata=$data ends it)"
