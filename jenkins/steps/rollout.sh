#!/bin/sh
# Every stack, one after the other, as one run, with an explicit version; at a gate of the inventory it ends with 7 (answer.sh).
#
#   VERSION in the environment: 2.0.0, or web=2.0.0,api=1.4.1
#   WAIT=yes    where somebody else deploys: wait, instead of being refused with 3
#   REASON      why; default: the build's name
set -eu
: "${VERSION:?say which version: 2.0.0, or web=2.0.0,api=1.4.1}"
case ${WAIT:-} in yes | true) wait=--wait ;; *) wait= ;; esac
exec "$(dirname "$0")/run.sh" rollout --version "$VERSION" --reason "${REASON:-${BUILD_TAG:-by hand}}" --no-input $wait
