#!/usr/bin/env python3
"""Runs Strata's drafter and its peers on the same recorded answers and prints one table.

Example: tests/bench/peers/run.py --model MODEL_DIR --corpus-text corpus.jsonl.xz \
             --replay replay_smollm2_dev.jsonl --strata build/release/bin --snapshot SNAPSHOT
The peers are installed and compiled into ~/.cache/strata/peers (or $STRATA_PEERS) on the first run;
nothing of theirs is kept in this repository. Needs deploy/local/setup.sh to have run. README.md in
the folder above says what is run, and how far each is the peers' own code.
"""

import sys

import prepare

if __name__ == "__main__":
    sys.exit(prepare.run_prepared("run.py", prepare.prepare, "compare.py"))
