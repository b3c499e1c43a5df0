#!/usr/bin/env bash
# From a fresh clone to an answer: sets up, builds, gets SmolLM2-135M-Instruct, builds a corpus
# snapshot, starts both services, generates drafted and plain, compares, stops the services.
# The exit status is 0 only if both answers are the same, token for token.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$here/../.." && pwd)

usage() {
  cat <<'USAGE'
usage: deploy/local/demo.sh [PROMPT] [FILE…]
  PROMPT   a question for the model (default: one about Python)
  FILE…    text, .jsonl (also .gz, .xz, .zst) or folders to draft from (default: the sources
           of the Python library on this machine)
variables:
  STRATA_CACHE        where the model and snapshots are kept (default ~/.cache/strata)
  STRATA_DEMO_TOKENS  most tokens to generate (default 200)
  STRATA_TORCH, STRATA_TORCH_INDEX   see deploy/local/setup.sh --help
USAGE
}

fail() {
  printf 'demo.sh: %s\n' "$*" >&2
  exit 1
}

say() { printf 'demo.sh: %s\n' "$*" >&2; }

if [[ ${1:-} == --help || ${1:-} == -h ]]; then
  usage
  exit 0
fi
prompt=${1:-Write a Python function that reads a CSV file and returns its rows as dictionaries, with an example.}
shift || true
inputs=()
for input; do
  [[ -r $input ]] || fail "cannot read '$input'"
  inputs+=("$(realpath -- "$input")")
done
max_tokens=${STRATA_DEMO_TOKENS:-200}
[[ $max_tokens =~ ^[1-9][0-9]{0,4}$ ]] ||
  fail "STRATA_DEMO_TOKENS must be a number from 1 to 99999, not '$max_tokens'"
cache=${STRATA_CACHE:-$HOME/.cache/strata}
mkdir -p "$cache"
cache=$(cd -- "$cache" && pwd)
export STRATA_CACHE=$cache

"$here/setup.sh"
bin=$root/build/release/bin
python=$root/.venv/bin/python
model=$("$python" "$here/get_model.py" SmolLM2-135M-Instruct) || exit 1

# --- the corpus snapshot, kept under a name that changes with its inputs -----------------------

if ((${#inputs[@]} == 0)); then
  library=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
  mapfile -d '' -t inputs < <(find "$library" -name '*.py' -size -512k \
    -not -path '*/site-packages/*' -not -path '*/dist-packages/*' \
    -not -path '*/test/*' -not -path '*/tests/*' -print0 | sort -z)
  ((${#inputs[@]} > 0)) || fail "no Python sources in $library; give files to draft from"
fi
key=$({
  find "${inputs[@]}" -type f -printf '%p %s %T@\n' | sort
  sha256sum <"$model/tokenizer.json"
} | sha256sum | cut -c 1-16)
corpus=$cache/demo/corpus-$key

work=$(mktemp -d)
pids=()
stop() {
  trap - EXIT INT TERM HUP
  local pid
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do
    # Ten seconds to end in order, then for certain.
    for ((i = 0; i < 100; i++)); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$work"
  [[ -z ${partial:-} ]] || rm -rf "$partial"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# One that this build cannot read (another format, half removed) is made anew.
if ! "$bin/strata-corpus" inspect "$corpus" >/dev/null 2>&1; then
  rm -rf "$corpus"
  say "building a corpus snapshot of ${#inputs[@]} files or folders"
  mkdir -p "$cache/demo"
  partial=$(mktemp -d "$cache/demo/.corpus.XXXXXX")
  "$bin/strata-corpus" build --tokenizer "$model" --out "$partial/snapshot" "${inputs[@]}" >&2 ||
    fail "the corpus snapshot could not be built"
  # mv -T: never into a folder that another run has put there in the meantime.
  mv -T "$partial/snapshot" "$corpus" 2>/dev/null || [[ -d $corpus ]] ||
    fail "cannot write $corpus"
fi

# --- the services --------------------------------------------------------------------------------

# start NAME COMMAND…: starts a service on a free port; its address is then in $address.
start() {
  local name=$1 log=$work/$1.log port_file=$work/$1.port
  shift
  "$@" --listen 127.0.0.1:0 --port-file "$port_file" >"$log" 2>&1 &
  local pid=$!
  pids+=("$pid")
  for ((i = 0; i < 1200; i++)); do
    if [[ -s $port_file ]]; then
      address=$(<"$port_file")
      [[ $address == *:* ]] || address=127.0.0.1:$address
      return 0
    fi
    if ! kill -0 "$pid" 2>/dev/null; then
      tail -n 20 "$log" >&2
      fail "$name ended before it was ready; its last words are above"
    fi
    sleep 0.1
  done
  tail -n 20 "$log" >&2
  fail "$name was not ready within 120 seconds"
}

say "starting strata-draft and strata-verify"
start strata-draft "$bin/strata-draft" --corpus "$corpus"
draft_address=$address
start strata-verify "$bin/strata-verify" --model "$model" --draft-address "$draft_address"

# generate FILE PROMPT OPTION…
generate() {
  local out=$1 question=$work/question
  # By file: a question may begin with a dash.
  printf '%s' "$2" >"$question"
  shift 2
  # In the background, so that a signal is not left waiting for the answer.
  "$bin/strata" generate --prompt-file "$question" --address "$address" --chat --json "$@" >"$out" &
  pids+=("$!")
  wait "$!" || fail "strata generate failed"
  unset 'pids[-1]'
}

# The first forward passes touch every page of the weights; keep that out of both timings.
generate "$work/warm.json" "Say hello." --no-speculation --max-tokens 16
say "generating, drafted and then plain"
# Drafted first: the model tier learns from every answer, and would know this one.
generate "$work/drafted.json" "$prompt" --max-tokens "$max_tokens"
generate "$work/plain.json" "$prompt" --max-tokens "$max_tokens" --no-speculation

"$python" "$here/demo_report.py" "$work/drafted.json" "$work/plain.json"
