#!/bin/sh
# copy-snapshot.sh FROM TO: copies the snapshot that FROM/CURRENT names to TO, and CURRENT last.
# Run again, it copies what a run before it left undone. strata-draft checks what it opens.
set -eu
from=$1
to=$2
# Read once: it may be moved while this runs.
name=$(cat "$from/CURRENT")
case $name in
  '' | .* | */*) echo "copy-snapshot.sh: $from/CURRENT holds no snapshot's name" >&2; exit 1 ;;
esac
mkdir -p "$to"
if [ ! -d "$to/$name" ]; then
  rm -rf "$to/.copying"
  cp -R "$from/$name" "$to/.copying"
  mv "$to/.copying" "$to/$name"
fi
printf '%s\n' "$name" >"$to/.CURRENT"
mv "$to/.CURRENT" "$to/CURRENT"
