#!/usr/bin/env bash
# Gets minja (Jinja2 for C++, two headers, MIT licence), which renders chat templates.
# It is in no Debian package; the source distribution of llama-cpp-python ships it.
# Puts the headers into ${STRATA_CACHE:-$HOME/.cache/strata}/third_party/minja, where CMake
# looks, and mends in them what keeps templates of known models from being rendered as by Jinja2
# (minja.patch). Does nothing if they are there. STRATA_PYTHON: a Python with pip (default: .venv's).
set -euo pipefail

readonly package=llama-cpp-python
readonly version=0.3.16
readonly sdist=llama_cpp_python-${version}.tar.gz
readonly sdist_sha256=34ed0f9bd9431af045bb63d9324ae620ad0536653740e9bb163a2e1fcb973be6
readonly inside=llama_cpp_python-${version}/vendor/llama.cpp/vendor/minja

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${STRATA_CACHE:-$HOME/.cache/strata}/third_party/minja
patch=$root/deploy/local/minja.patch
from="$sdist_sha256 $(sha256sum <"$patch" | cut -d ' ' -f 1)"
stamp=$target/.from

if [[ -f $target/minja.hpp && -f $stamp && $(<"$stamp") == "$from" ]]; then
  exit 0
fi

python=${STRATA_PYTHON:-$root/.venv/bin/python3}
if ! "$python" -m pip --version >/dev/null 2>&1; then
  echo "fetch_minja.sh: $python has no pip; run deploy/local/setup.sh or set STRATA_PYTHON" >&2
  exit 1
fi

mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$(dirname "$target")/minja.XXXXXX")
trap 'rm -rf "$work"' EXIT

# pip builds the metadata of a source distribution that it downloads, with
# scikit-build-core: the one at hand, or else one that pip gets for it.
isolation=()
if "$python" -c 'import scikit_build_core' 2>/dev/null; then
  isolation=(--no-build-isolation)
fi
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
  "${isolation[@]}" --dest "$work" "$package==$version"

if ! echo "$sdist_sha256  $work/$sdist" | sha256sum --check --status; then
  echo "fetch_minja.sh: $sdist does not have the sha256 $sdist_sha256; not used" >&2
  exit 1
fi
tar -xzf "$work/$sdist" -C "$work" "$inside"
patch --quiet --directory="$work/$inside" --input="$patch" --strip=1
echo "$from" >"$work/$inside/.from"
rm -rf "$target"
mv "$work/$inside" "$target"
echo "minja is in $target"
