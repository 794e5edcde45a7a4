#!/bin/bash
# keep.sh PIDFILE COMMAND...: runs a command again each time it ends, as a service manager would.
file=$1
shift
while :; do
    INVOCATION_ID=$(cat /proc/sys/kernel/random/uuid) "$@" &
    echo $! > "$file.new"
    mv "$file.new" "$file"
    wait $!
done
