#!/usr/bin/env bash
# Scans one benign package and one inert malicious sample, and shows both results.
set -uo pipefail
lanner=${1:?the binary}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$lanner" doctor
isolation=()
if "$lanner" doctor | grep -q "^namespaces: MISSING"; then isolation=(--isolation container); fi

echo
echo "\$ lanner scan npm:left-pad@1.3.0"
"$lanner" scan "${isolation[@]}" npm:left-pad@1.3.0
benign=$?
echo "exit code $benign"

# The sample as npm would get it: a project that depends on a packed package.
sample=tests/packages/npmrc-token
cp -r "$sample/project" "$work/project"
for package in "$sample"/packages/*/; do
  name=$(basename "$package")
  tar -czf "$work/project/$name.tgz" -C "$(dirname "$package")" --transform "s,^$name,package," "$name"
done
echo
echo "\$ lanner scan project    # depends on an inert copy of a token thief"
"$lanner" scan "${isolation[@]}" "$work/project"
malicious=$?
echo "exit code $malicious"

[ "$benign" -eq 0 ] && [ "$malicious" -eq 1 ] && exit 0
echo "expected exit code 0 for the benign package and 1 for the sample"
exit 1
