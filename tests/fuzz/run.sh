#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs each for a while; stops at the first finding.
# Packages: clang-14, libclang-rt-14-dev. Run by hand; not part of tests/run.sh.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$here/../.." && pwd)
seconds=600
targets=(fuzz_corpus_rows fuzz_snapshot fuzz_model_file fuzz_draft_request fuzz_draft_rpc fuzz_generate_rpc fuzz_generate_request)

usage() {
  cat <<USAGE
usage: tests/fuzz/run.sh [--seconds N] [TARGET...]
  --seconds N   how long each target runs (default $seconds)
  TARGET        ${targets[*]} (default: all)
fuzz_generate_request needs STRATA_TEST_MODEL, a model folder (deploy/local/get_model.py); all leaves it out without.
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
if ((${#chosen[@]} == 0)); then
  chosen=("${targets[@]}")
  if [[ -z ${STRATA_TEST_MODEL:-} ]]; then
    unset 'chosen[-1]'
    echo "fuzz_generate_request: left out, STRATA_TEST_MODEL is not set" >&2
  fi
fi

cd -- "$root"
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target "${chosen[@]}" >&2
mkdir -p build/fuzz/findings
# A target that fails leaves its folders behind.
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf -- "$TMPDIR"' EXIT
# Debian's libraries are not instrumented: what they allocate in one and free in the other is fine.
export ASAN_OPTIONS=detect_container_overflow=0:alloc_dealloc_mismatch=0:${ASAN_OPTIONS:-}
export LSAN_OPTIONS=suppressions=$root/tests/tools/lsan.supp:print_suppressions=0:${LSAN_OPTIONS:-}
for target in "${chosen[@]}"; do
  mkdir -p "build/fuzz/corpus/$target"
  log=build/fuzz/$target.log
  # The target writes its first inputs itself.
  if ! "build/fuzz/bin/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=8192 \
    -print_final_stats=1 -artifact_prefix="build/fuzz/findings/$target-" \
    "build/fuzz/corpus/$target" >"$log" 2>&1; then
    tail -40 "$log" >&2
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)
    printf '%s: FOUND %s (log: %s)\n' "$target" "${input:-nothing that has an input}" "$log"
    exit 1
  fi
  printf '%s: nothing found in %s s, %s inputs, %s\n' "$target" "$seconds" \
    "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
    "$(grep -o 'cov: [0-9]*' "$log" | tail -1)"
done
