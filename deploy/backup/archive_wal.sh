#!/bin/sh
# PostgreSQL's archive_command: keep a finished piece of the log, durably, or say that it was not kept.
#
#   archive_mode = on
#   archive_timeout = 60          # at most a minute of charges is only on the server's own disk
#   archive_command = '/path/to/deploy/backup/archive_wal.sh /path/to/archive %p %f'
set -eu

archive=$1 path=$2 name=$3
kept="$archive/$name"
if [ -e "$kept" ]; then
    # PostgreSQL asks again after a crash; anything but the same piece must never be overwritten.
    cmp -s "$path" "$kept"
    exit
fi
cp "$path" "$kept.partial"
sync "$kept.partial"
mv "$kept.partial" "$kept"
sync "$archive"
