#!/bin/sh
# Types one command for a build and ends with its exit code; what it recorded is left where the build archives it.
#
#   run.sh TASK OPTIONS...          as in: invoke TASK OPTIONS...
#
# An abort sends SIGTERM to this shell and to invoke. invoke ends with 5 within five seconds and says what serves; so this shell
# waits for it, and collects. Secrets come by the environment (BGDEPLOY_HEARTBEAT_TOKEN_FILE): never as a word of a command,
# which `sh -xe` writes into the console.
set -eu
steps=$(cd "$(dirname "$0")" && pwd)
workspace=${WORKSPACE:-$PWD}
cd "$steps/../.."
code=0
trap : TERM INT HUP
# Jenkins does not wait for an aborted step: what the build before this one left must not lie there to be archived as this one's.
WORKSPACE=$workspace "$steps/collect.sh" || :
invoke "$@" || code=$?
WORKSPACE=$workspace "$steps/collect.sh" || echo "the records could not be copied to $workspace: they are in the state folder"
[ "$code" = 0 ] || echo "invoke $1 ended with exit code $code"
exit "$code"
