#!/bin/bash
# restart.sh PIDFILE: ends what keep.sh keeps, and returns when another one has been started.
old=$(cat "$1")
kill "$old"
for _ in $(seq 200); do
    [ "$(cat "$1")" != "$old" ] && exit 0
    sleep 0.05
done
exit 1
