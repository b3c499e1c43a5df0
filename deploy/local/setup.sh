#!/usr/bin/env bash
# Makes everything that Strata needs on Debian 12 or a near relative: system packages, the
# project-local Python environment .venv (LibTorch comes from its torch wheel), and a build.
# Works from any folder; a second call does only what has changed.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$here/../.." && pwd)

usage() {
  cat <<'USAGE'
usage: deploy/local/setup.sh [options]
  --preset NAME       build preset: release (default), asan, tsan
  --no-build          set up, but do not build
  --torch SPEC        pip requirement for LibTorch (default torch==2.13.0+cpu;
                      also the variable STRATA_TORCH)
  --torch-index URL   further package index to find SPEC in: PyTorch's own CPU index, which
                      holds the "+cpu" builds (also the variable STRATA_TORCH_INDEX)
  --jobs N            compile jobs (default: one a core, but at most one for each 2 GiB)
  --help
USAGE
}

fail() {
  printf 'setup.sh: %s\n' "$*" >&2
  exit 1
}

say() { printf 'setup.sh: %s\n' "$*" >&2; }

preset=release
build=yes
jobs=
torch=${STRATA_TORCH:-torch==2.13.0+cpu}
torch_index=${STRATA_TORCH_INDEX:-}
while (($#)); do
  case $1 in
    --preset | --torch | --torch-index | --jobs)
      (($# >= 2)) || fail "$1 needs a value"
      case $1 in
        --preset) preset=$2 ;;
        --torch) torch=$2 ;;
        --torch-index) torch_index=$2 ;;
        --jobs) jobs=$2 ;;
      esac
      shift
      ;;
    --no-build) build=no ;;
    --help | -h)
      usage
      exit 0
      ;;
    *) fail "unknown option '$1' (see --help)" ;;
  esac
  shift
done
case $preset in
  release | asan | tsan) ;;
  *) fail "unknown preset '$preset' (release, asan or tsan)" ;;
esac
[[ -z $jobs || $jobs =~ ^[1-9][0-9]*$ ]] || fail "--jobs must be a positive number, not '$jobs'"

# One set-up at a time: two would install into the same environment.
mkdir -p "$root/build"
exec 9>"$root/build/.setup.lock"
flock 9

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# run SENTENCE COMMAND…: quiet if it works; if not, the end of its output, then the sentence.
run() {
  local sentence=$1
  shift
  if ! "$@" >"$log" 2>&1 9>&-; then
    tail -n 25 "$log" >&2
    fail "$sentence"
  fi
}

apt_packages=(
  cmake ninja-build ccache pkg-config g++ git patch
  protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libgrpc++-dev libgrpc-dev libabsl-dev
  libssl-dev openssl
  librocksdb-dev libgtest-dev libgmock-dev libcli11-dev libspdlog-dev nlohmann-json3-dev
  libpcre2-dev libicu-dev libxxhash-dev libzstd-dev libbenchmark-dev libyaml-cpp-dev
  prometheus-cpp-dev libmicrohttpd-dev
  liblzma-dev zlib1g-dev libsnappy-dev liblz4-dev libbz2-dev xz-utils
  python3-venv python3-dev openssl)
# Formatting and static checks; nothing is built with them.
optional_packages=(clang-format clang-tidy)

# missing PACKAGE…: those that are not installed.
missing() {
  local package
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      printf '%s\n' "$package"
  done
}

install_system_packages() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    fail "this script installs packages with apt-get, which this system lacks; install the equivalents of: ${apt_packages[*]}"
  fi
  local needed wanted
  mapfile -t needed < <(missing "${apt_packages[@]}")
  mapfile -t wanted < <(missing "${optional_packages[@]}")
  ((${#needed[@]})) || return 0
  local as_root=(env DEBIAN_FRONTEND=noninteractive)
  if ((EUID != 0)); then
    command -v sudo >/dev/null ||
      fail "these packages are missing, and there is neither root nor sudo to install them: ${needed[*]}"
    as_root=(sudo "${as_root[@]}")
  fi
  say "installing ${#needed[@]} system packages"
  run "apt-get update failed; is the network there?" "${as_root[@]}" apt-get update -q
  run "apt-get could not install: ${needed[*]}" \
    "${as_root[@]}" apt-get install -q -y --no-install-recommends "${needed[@]}"
  local package
  for package in "${wanted[@]}"; do
    "${as_root[@]}" apt-get install -q -y --no-install-recommends "$package" >"$log" 2>&1 9>&- ||
      say "note: $package could not be installed; it is optional"
  done
}

install_python_packages() {
  local stamp=$root/.venv/strata-setup.sha256 inputs
  inputs=$({ printf '%s\n' "$torch"; cat "$here/requirements.txt"; } | sha256sum)
  if [[ -f $stamp && $(<"$stamp") == "$inputs" ]] && "$root/.venv/bin/python" -c '' 2>/dev/null; then
    return 0
  fi
  if ! "$root/.venv/bin/python" -m pip --version >/dev/null 2>&1; then
    # Also for an environment whose interpreter was removed, or that was interrupted.
    run "python3 could not make the environment .venv; is python3-venv installed?" \
      python3 -m venv --clear "$root/.venv"
  fi
  local pip=("$root/.venv/bin/python" -m pip install --disable-pip-version-check)
  say "installing Python packages ($torch and others)"
  run "pip could not install $torch; '+cpu' builds are in PyTorch's own CPU index: give its address with --torch-index, or name another build with --torch" \
    "${pip[@]}" ${torch_index:+--extra-index-url "$torch_index"} "$torch"
  run "pip could not install deploy/local/requirements.txt" \
    "${pip[@]}" "$torch" ${torch_index:+--extra-index-url "$torch_index"} -r "$here/requirements.txt"
  printf '%s\n' "$inputs" >"$stamp"
}

default_jobs() {
  local cores memory
  cores=$(nproc)
  memory=$(awk '/^MemAvailable:/ {print int($2 / 2097152)}' /proc/meminfo)
  ((memory >= 1)) || memory=1
  echo $((cores < memory ? cores : memory))
}

build_preset() {
  cd -- "$root"
  local tree=build/$preset
  # Ninja configures anew by itself when a CMakeLists.txt changes, but does not know of
  # the environment that LibTorch comes from.
  if [[ ! -f $tree/build.ninja || .venv/strata-setup.sha256 -nt $tree/build.ninja ]]; then
    say "configuring $tree"
    run "cmake could not configure $tree (if the folder was moved here, remove it)" \
      cmake --preset "$preset"
  fi
  [[ -n $jobs ]] || jobs=$(default_jobs)
  say "building $tree with $jobs jobs"
  run "the build of $tree failed" cmake --build --preset "$preset" --parallel "$jobs"
}

install_system_packages
install_python_packages
run "the chat template library could not be fetched (deploy/local/fetch_minja.sh)" \
  "$here/fetch_minja.sh"
[[ $build == no ]] || build_preset
say "done"
