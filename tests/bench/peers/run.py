#!/usr/bin/env python3
"""Runs Strata's drafter and its peers on the same recorded answers and prints one table.

Example: tests/bench/peers/run.py --model MODEL_DIR --corpus-text corpus.jsonl.xz \
             --replay replay_smollm2_dev.jsonl --strata build/release/bin --snapshot SNAPSHOT
The peers are installed and compiled into ~/.cache/strata/peers (or $STRATA_PEERS) on the first run;
nothing of theirs is kept in this repository. Needs deploy/local/setup.sh to have run. README.md in
the folder above says what is run, and how far each is the peers' own code.
"""

import os
import pathlib
import sys

import prepare


def main() -> int:
    try:
        python = prepare.prepare()
    except prepare.PrepareError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    compare = pathlib.Path(__file__).with_name("compare.py")
    os.execv(python, [str(python), str(compare), *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
