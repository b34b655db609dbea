#!/usr/bin/env bash
# beside.sh COMMAND...: builds the programs of a cluster while COMMAND runs, with what it leaves of the machine, and ends with its
# status. Without the programs the tests of a cluster are skipped, and say so.
set -euo pipefail
log=$(mktemp)
# A group of its own, so that compilers end with it when COMMAND fails.
setsid nice -n 10 bash "$(dirname "$0")/build.sh" >"$log" 2>&1 &
build=$!
# It may have ended by itself, and then there is nobody to kill: the status is that of COMMAND all the same.
trap 'kill -- -$build 2>/dev/null || true; rm -f "$log"' EXIT
"$@"
began=$SECONDS
wait "$build" || echo "the programs of a cluster cannot be built: its tests will be skipped"
cat "$log"
echo "cluster: waited $((SECONDS - began)) s for its programs"
