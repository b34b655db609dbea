#!/usr/bin/env bash
# Builds Kubernetes' programs for the tests into target/cluster; says so and ends at once when they are of this go.sum.
set -euo pipefail
cd "$(dirname "$0")"
to=${1:-../../target/cluster}
programs=(kube-apiserver kube-controller-manager kube-scheduler kubelet)

mkdir -p "$to"
to=$(cd "$to" && pwd)
stamp=$to/go.sum.sha256
sum=$(sha256sum <go.sum)
wanted=()
for program in "${programs[@]}"; do
  if [[ ! -x $to/$program || $(cat "$stamp" 2>/dev/null) != "$sum" ]]; then
    wanted+=("$program")
  fi
done
if [[ ${#wanted[@]} -eq 0 ]]; then
  echo "cluster: all ${#programs[@]} programs are in $to"
  exit 0
fi

command -v go >/dev/null || { echo "cluster: go is not on this machine, and ${wanted[*]} must be built" >&2; exit 1; }
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
echo "cluster: building ${#wanted[@]} programs of Kubernetes $version, about 7 minutes on 2 cores when nothing is cached"
# The kubelet and the API server tell and compare their version, which is only in them when the linker puts it there.
minor=${version#v1.}
at=k8s.io/component-base/version
flags="-s -w -X $at.gitVersion=$version -X $at.gitMajor=1 -X $at.gitMinor=${minor%%.*}"
# A half-built set must not pass for one of the old go.sum.
rm -f "$stamp"
for program in "${wanted[@]}"; do
  began=$SECONDS
  go build -ldflags "$flags" -o "$to/$program" "k8s.io/kubernetes/cmd/$program"
  echo "cluster: $program in $((SECONDS - began)) s"
done
echo "$sum" >"$stamp"
