#!/usr/bin/env bash
# lint.sh [REV] checks style (clang-format) and looks for mistakes (clang-tidy) in the C++ of the tree.
#
# clang-format sees every file, clang-tidy each source that the release build compiles; with REV only
# those that changed since REV. Needs clang-format, clang-tidy and a configured build/release. Takes
# some 20 seconds a source, one after the other (JOBS=N: N at a time). Ends with 1 at a finding.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=build/release
[ -f "$build/compile_commands.json" ] ||
  { echo "lint.sh: $build is not configured: cmake --preset release" >&2; exit 2; }

failed=0
git ls-files '*.h' '*.cc' '*.cu' | xargs clang-format --dry-run -Werror || failed=1

sources=$(git ls-files '*.cc')
[ $# -eq 0 ] || sources=$(git diff --name-only --diff-filter=d "$1" -- '*.cc')
for source in $sources; do
  # Files of other builds (CUDA, fuzzing) are in no list of commands here.
  if grep -q "/$source\"" "$build/compile_commands.json"; then echo "$source"; fi
done | xargs -r -P "${JOBS:-1}" -n 1 clang-tidy -p "$build" --quiet --warnings-as-errors='*' 2>/dev/null || failed=1
exit $failed
