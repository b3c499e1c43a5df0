#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs each for a while; stops at the first finding.
# Packages: clang-14, libclang-rt-14-dev. Not part of tests/run.sh.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$here/../.." && pwd)
seconds=600
targets=(fuzz_snapshot fuzz_model_file fuzz_draft_request)

usage() {
  cat <<USAGE
usage: tests/fuzz/run.sh [--seconds N] [TARGET...]
  --seconds N   how long each target runs (default $seconds)
  TARGET        ${targets[*]} (default: all)
What was found worth keeping stays in build/fuzz/corpus/TARGET; inputs that fail in build/fuzz/findings.
USAGE
}

chosen=()
while (($#)); do
  case $1 in
    --help | -h)
      usage
      exit 0
      ;;
    --seconds)
      [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || { echo "run.sh: --seconds needs a positive number" >&2; exit 2; }
      seconds=$2
      shift
      ;;
    fuzz_*) chosen+=("$1") ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
  shift
done
((${#chosen[@]})) || chosen=("${targets[@]}")

cd -- "$root"
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target "${chosen[@]}" >&2
mkdir -p build/fuzz/findings
# Debian's libraries are not instrumented: what they allocate in one and free in the other is fine.
export ASAN_OPTIONS=detect_container_overflow=0:alloc_dealloc_mismatch=0:${ASAN_OPTIONS:-}
for target in "${chosen[@]}"; do
  mkdir -p "build/fuzz/corpus/$target"
  log=build/fuzz/$target.log
  if ! "build/fuzz/bin/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3072 -max_len=8192 \
    -print_final_stats=1 -artifact_prefix="build/fuzz/findings/$target-" \
    "build/fuzz/corpus/$target" >"$log" 2>&1; then
    tail -40 "$log" >&2
    printf '%s: FOUND something, see %s and build/fuzz/findings\n' "$target" "$log"
    exit 1
  fi
  printf '%s: nothing found in %s s, %s inputs, %s\n' "$target" "$seconds" \
    "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
    "$(grep -o 'cov: [0-9]*' "$log" | tail -1)"
done
