#!/usr/bin/env bash
# Builds Kubernetes' programs, Helm, kube-router and kube-score for the tests into target/cluster; says so and ends at once when they are of these go.sums.
set -euo pipefail
cd "$(dirname "$0")"
to=${1:-../../target/cluster}
mkdir -p "$to"
to=$(cd "$to" && pwd)

# wanted STAMP PROGRAM...: those that are missing, all where the stamp is of another go.sum in this folder.
wanted() {
  local stamp=$1 sum
  shift
  sum=$(sha256sum <go.sum)
  for program in "$@"; do
    if [[ ! -x $to/$program || $(cat "$stamp" 2>/dev/null) != "$sum" ]]; then
      echo "$program"
    fi
  done
}

need_go() {
  command -v go >/dev/null || { echo "cluster: go is not on this machine, and $* must be built" >&2; exit 1; }
}

kubernetes() {
  local all=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy) stamp=$to/go.sum.sha256 programs
  mapfile -t programs < <(wanted "$stamp" "${all[@]}")
  if [[ ${#programs[@]} -eq 0 ]]; then
    echo "cluster: all ${#all[@]} programs are in $to"
    return
  fi
  need_go "${programs[*]}"
  local version minor at flags began
  version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
  echo "cluster: building ${#programs[@]} programs of Kubernetes $version, about 7 minutes on 2 cores when nothing is cached"
  # The kubelet and the API server tell and compare their version, which is only in them when the linker puts it there.
  minor=${version#v1.}
  at=k8s.io/component-base/version
  flags="-s -w -X $at.gitVersion=$version -X $at.gitMajor=1 -X $at.gitMinor=${minor%%.*}"
  # A half-built set must not pass for one of the old go.sum.
  rm -f "$stamp"
  for program in "${programs[@]}"; do
    began=$SECONDS
    go build -ldflags "$flags" -o "$to/$program" "k8s.io/kubernetes/cmd/$program"
    echo "cluster: $program in $((SECONDS - began)) s"
  done
  sha256sum <go.sum >"$stamp"
}

# apart NAME PACKAGE: from a module of its own, whose versions of Kubernetes' libraries are others.
apart() (
  cd "$1"
  stamp=$to/$1.go.sum.sha256 began=$SECONDS
  if [[ -z $(wanted "$stamp" "$1") ]]; then
    echo "cluster: $1 is in $to"
    return
  fi
  need_go "$1"
  rm -f "$stamp"
  go build -ldflags "-s -w" -o "$to/$1" "$2"
  echo "cluster: $1 in $((SECONDS - began)) s"
  sha256sum <go.sum >"$stamp"
)

kubernetes
apart helm helm.sh/helm/v4/cmd/helm
apart kube-router github.com/cloudnativelabs/kube-router/v2/cmd/kube-router
apart kube-score github.com/zegl/kube-score/cmd/kube-score
