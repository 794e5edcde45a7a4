#!/bin/sh
# reserved FILE SECONDS COMMAND...: run COMMAND once FILE says that Chef's lock is kept for us. Until then somebody else
# converges; the sentence is Chef's own for a lock that it did not get.
file=$1
seconds=$2
shift 2
left=$((seconds * 5))
while [ ! -e "$file" ]; do
    if [ "$left" -le 0 ]; then
        echo "FATAL: Unable to acquire lock. Waited $seconds seconds for somebody else's run to release."
        exit 1
    fi
    left=$((left - 1))
    sleep 0.2
done
exec "$@"
