#!/bin/sh
# Copies the records of the runs that this build began or carried on to bgdeploy-runs/ in its workspace, to be archived there.
#
# A run's journal names the build's URL, so that a build gets its own runs and nobody else's, also where many share a
# state folder. hosts/ stays where it is: Chef's full output may hold what not everybody who reads Jenkins shall see.
set -eu
steps=$(cd "$(dirname "$0")" && pwd)
state=${BGDEPLOY_STATE:-.bgdeploy}
case $state in          # as bgdeploy reads it
    /*) ;;
    "~/"*) state=$HOME/${state#"~/"} ;;
    *) state=$steps/../../$state ;;
esac
kept=${WORKSPACE:-$PWD}/bgdeploy-runs
rm -rf "$kept"
mkdir -p "$kept"
[ -n "${BUILD_URL:-}" ] || exit 0
grep -lsF "\"$BUILD_URL\"" "$state"/runs/*/journal.jsonl | while read -r journal; do
    run=$(dirname "$journal")
    mkdir "$kept/$(basename "$run")"
    for file in journal.jsonl result.json junit.xml report.html; do
        [ ! -e "$run/$file" ] || cp "$run/$file" "$kept/$(basename "$run")/"
    done
done
