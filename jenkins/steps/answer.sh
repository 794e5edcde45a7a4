#!/bin/sh
# A person's answer to a run that ended with 7, and what follows from it. "stop" ends the run, and this step with 4.
#
#   CHOICE      approve, retry, exclude, proceed, repeat, done or stop: what the run's last line offers
#   RUN         which run; empty: the open one
set -eu
: "${CHOICE:?say what was decided: approve, retry, exclude, proceed, repeat, done or stop}"
steps=$(dirname "$0")
"$steps/run.sh" answer ${RUN:+--run "$RUN"} --choice "$CHOICE" --reason "${REASON:-${BUILD_TAG:-by hand}}"
[ "$CHOICE" != stop ] || exit 4
exec "$steps/run.sh" resume --no-input
