#!/usr/bin/env bash
# Installs what a build and a scan need (and with the word `tests`, what the tests need; with `image`, what the static program
# of the image needs), where this user may; says what is missing where not.
set -euo pipefail

command -v rustup >/dev/null || { echo "rustup is missing: see https://rustup.rs"; exit 1; }
# rust-toolchain.toml names the toolchain, its components and its targets. A toolchain that is there already may still
# lack them, so they are asked for by name; what is there is left alone.
toolchain() { sed -nE "s/^$1 = (.*)/\1/p" rust-toolchain.toml | tr -d '[]",'; }
rustup show active-toolchain >/dev/null 2>&1 || rustup toolchain install "$(toolchain channel)" --profile minimal
# shellcheck disable=SC2046 # one word each
rustup -q component add $(toolchain components)
# shellcheck disable=SC2046
rustup -q target add $(toolchain targets)

[ "${1:-}" != image ] || rustup -q target add x86_64-unknown-linux-musl

# command, Debian package
needed="cc:gcc c++:g++ make:make node:nodejs npm:npm curl:curl perl:perl-base python3:python3 clang:clang wasm-ld:lld"
# What the tests alone need is not put on the machine of one who only builds.
for_tests=${1:-}
PATH=$PATH:/usr/sbin:/sbin
[ "$for_tests" = tests ] &&
  needed+=" docker-registry:docker-registry etcd:etcd-server containerd:containerd runc:runc ip:iproute2 openssl:openssl iptables:iptables ipset:ipset nft:nftables"
[ "$for_tests" != image ] || needed+=" musl-gcc:musl-tools"
missing=()
for pair in $needed; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[ "$for_tests" != tests ] || [ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
# A part of Python that Debian packs apart.
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)

install() {
  echo "missing system packages: ${missing[*]}"
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=(sudo -n)
    else echo "install them with: sudo apt-get install ${missing[*]}"; exit 1; fi
  fi
  command -v apt-get >/dev/null || { echo "this is no Debian or Ubuntu: install them by hand"; exit 1; }
  "${as_root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
  # The tests start their own; the packages would have these run at each boot, the registry open to all.
  [ -d /run/systemd/system ] || return 0
  for pair in docker-registry:docker-registry etcd-server:etcd containerd:containerd; do
    [[ " ${missing[*]} " == *" ${pair%%:*} "* ]] || continue
    "${as_root[@]}" systemctl disable --now "${pair##*:}" ||
      echo "the service ${pair##*:} could not be disabled: it runs on this machine now"
  done
}
[ ${#missing[@]} -eq 0 ] || install

# Tools that no distribution packs. A test that has none of them says so and is skipped.
tool() { # NAME MODULE@VERSION
  if [ "$for_tests" != tests ] || command -v "$1" >/dev/null || [ -x "target/tools/$1" ]; then return; fi
  if ! command -v go >/dev/null; then
    echo "go is missing: the test of what $1 does at a registry will be skipped"
    return
  fi
  mkdir -p target/tools
  GOBIN="$PWD/target/tools" timeout 900 go install "$2" >/dev/null 2>&1 ||
    echo "$1 cannot be installed: the test of what it does at a registry will be skipped"
}
tool oras oras.land/oras/cmd/oras@v1.2.3
tool cosign github.com/sigstore/cosign/v2/cmd/cosign@v2.6.5

# A server of S3, in a folder of its own.
bucket() {
  if [ "$for_tests" != tests ] || [ -x target/tools/moto/bin/moto_server ]; then return; fi
  mkdir -p target/tools
  { python3 -m venv target/tools/moto && timeout 900 target/tools/moto/bin/pip install -q 'moto[server]==5.2.5'; } >/dev/null 2>&1 ||
    echo "moto_server cannot be installed: the test of projects from a bucket will be skipped"
}
bucket
