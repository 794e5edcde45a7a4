#!/bin/sh
# Builds the RPMs of components and publishes them, signed. Once published a version never changes: the same content is published
# again without harm, another content under the same version is refused (3).
#
#   publish.sh COMPONENT...         VERSION in the environment, such as 2.0.0 or 2.0.0-2
set -eu
: "${VERSION:?say which version: 2.0.0}"
steps=$(dirname "$0")
for component in "$@"; do
    "$steps/run.sh" publish --component "$component" --version "$VERSION"
done
