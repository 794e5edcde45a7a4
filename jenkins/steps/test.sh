#!/bin/sh
# What can be known before anything is built: the application's own tests, and whether the inventory is right.
#
#   TESTS   the command that tests the application; empty: none
set -eu
[ -z "${TESTS:-}" ] || sh -xec "$TESTS"
exec "$(dirname "$0")/run.sh" inventory.check
