#!/bin/sh
# Steps 1 to 4 on one stack, with an explicit version.
#
#   deploy.sh STACK                 VERSION in the environment: 2.0.0, or web=2.0.0,api=1.4.1
#   WAIT=yes    where somebody else deploys: wait, instead of being refused with 3
#   REASON      why; default: the build's name
set -eu
: "${VERSION:?say which version: 2.0.0, or web=2.0.0,api=1.4.1}"
case ${WAIT:-} in yes | true) wait=--wait ;; *) wait= ;; esac
exec "$(dirname "$0")/run.sh" deploy --stack "$1" --version "$VERSION" \
    --reason "${REASON:-${BUILD_TAG:-by hand}}" --no-input $wait
