#!/usr/bin/env bash
# Sets up, builds, gets the test models, and runs every test: the C++ tests by ctest, then those
# of the tools and of the running system by pytest. The last line on stdout is "N passed, N failed".
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$here/.." && pwd)

usage() {
  cat <<'USAGE'
usage: tests/run.sh [options]
  --preset NAME   release (default), asan or tsan
  --jobs N        tests at a time (default 1: several use all cores)
  --filter REGEX  only the C++ tests whose names match, and no Python tests
variables:
  STRATA_TEST_DATA   folder with spec_bench_dev.jsonl, replay_smollm2_dev.jsonl and
                     corpus.jsonl.xz (default ../shared/data beside the repository)
  STRATA_CACHE       where models and reference values are kept (default ~/.cache/strata)
  STRATA_TEST_DEVICE where the engine's own tests run: cpu (default), or cuda with a build for it
  STRATA_TORCH, STRATA_TORCH_INDEX   see deploy/local/setup.sh --help
USAGE
}

# Whatever stops the tests from running is a failure, and the last line says so.
give_up() {
  printf 'run.sh: %s\n' "$*" >&2
  printf '0 passed, 1 failed\n'
  exit 1
}

preset=release
jobs=1
filter=
while (($#)); do
  case $1 in
    --preset | --jobs | --filter)
      (($# >= 2)) || give_up "$1 needs a value"
      case $1 in
        --preset) preset=$2 ;;
        --jobs) jobs=$2 ;;
        --filter) filter=$2 ;;
      esac
      shift
      ;;
    --help | -h)
      usage
      exit 0
      ;;
    *) give_up "unknown option '$1' (see --help)" ;;
  esac
  shift
done
case $preset in
  release | asan | tsan) ;;
  *) give_up "unknown preset '$preset' (release, asan or tsan)" ;;
esac
[[ $jobs =~ ^[1-9][0-9]*$ ]] || give_up "--jobs must be a positive number, not '$jobs'"

data=${STRATA_TEST_DATA:-$root/../shared/data}
for file in spec_bench_dev.jsonl replay_smollm2_dev.jsonl corpus.jsonl.xz; do
  [[ -r $data/$file ]] ||
    give_up "there is no test data at $data/$file; set STRATA_TEST_DATA to the folder that holds spec_bench_dev.jsonl, replay_smollm2_dev.jsonl and corpus.jsonl.xz"
done
STRATA_TEST_DATA=$(cd -- "$data" && pwd)
mkdir -p "${STRATA_CACHE:=$HOME/.cache/strata}"
STRATA_CACHE=$(cd -- "$STRATA_CACHE" && pwd)
export STRATA_TEST_DATA STRATA_CACHE

"$root/deploy/local/setup.sh" --preset "$preset" </dev/null >&2 || give_up "the set-up or the build failed"

export STRATA_PYTHON=$root/.venv/bin/python
export STRATA_BIN=$root/build/$preset/bin
export STRATA_TEST_REFERENCE=$STRATA_CACHE/reference
get_model() { "$STRATA_PYTHON" "$root/deploy/local/get_model.py" "$1"; }
STRATA_TEST_MODEL=$(get_model SmolLM2-135M-Instruct) ||
  give_up "the test model SmolLM2-135M-Instruct could not be had"
STRATA_TEST_MODEL_QWEN2=$(get_model Qwen2.5-Coder-0.5B-Instruct) ||
  give_up "the test model Qwen2.5-Coder-0.5B-Instruct could not be had"
export STRATA_TEST_MODEL STRATA_TEST_MODEL_QWEN2
for model in "$STRATA_TEST_MODEL" "$STRATA_TEST_MODEL_QWEN2"; do
  "$STRATA_PYTHON" "$here/tools/engine_reference.py" "$model" \
    "$STRATA_TEST_DATA/spec_bench_dev.jsonl" "$STRATA_TEST_REFERENCE/${model##*/}" >&2 ||
    give_up "the reference values of ${model##*/} could not be computed"
done
"$STRATA_PYTHON" "$here/tools/variant_reference.py" "$STRATA_TEST_REFERENCE/variants" >&2 ||
  give_up "the reference values of small models could not be computed"

# LibTorch, its OpenMP and Debian's gRPC are not instrumented: what the sanitizers say of their
# insides is noise. The suppressions name those libraries, and one destructor of ours that drops
# a reference which gRPC counts.
export ASAN_OPTIONS=detect_leaks=1:${ASAN_OPTIONS:-}
export UBSAN_OPTIONS=print_stacktrace=1:${UBSAN_OPTIONS:-}
export LSAN_OPTIONS=suppressions=$here/tools/lsan.supp:print_suppressions=0:${LSAN_OPTIONS:-}
# A test forks readers of its own, which start threads.
export TSAN_OPTIONS=suppressions=$here/tools/tsan.supp:die_after_fork=0:${TSAN_OPTIONS:-}

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
ctest_status=0
(cd -- "$root" && ctest --preset "$preset" --output-on-failure --no-tests=error --parallel "$jobs" \
  --output-junit "$results/ctest.xml" ${filter:+--tests-regex "$filter"} </dev/null) ||
  ctest_status=$?

counted=("$results/ctest.xml:$ctest_status")
if [[ -z $filter ]]; then
  pytest_status=0
  (cd -- "$root" && "$STRATA_PYTHON" -m pytest tests/deploy tests/system tests/bench/peers \
    -p no:cacheprovider --junitxml="$results/pytest.xml" </dev/null) || pytest_status=$?
  counted+=("$results/pytest.xml:$pytest_status")
fi
"$STRATA_PYTHON" "$here/tools/count_results.py" "${counted[@]}"
