#!/usr/bin/env bash
# Installs what a build and a scan need, where this user may; says what is missing where not.
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

# command, Debian package
needed="cc:gcc c++:g++ make:make node:nodejs npm:npm curl:curl perl:perl-base python3:python3 clang:clang wasm-ld:lld"
missing=()
for pair in $needed; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
# A part of Python that Debian packs apart.
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
[ ${#missing[@]} -eq 0 ] && exit 0

echo "missing system packages: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=(sudo -n)
  else echo "install them with: sudo apt-get install ${missing[*]}"; exit 1; fi
fi
command -v apt-get >/dev/null || { echo "this is no Debian or Ubuntu: install them by hand"; exit 1; }
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
