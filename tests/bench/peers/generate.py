#!/usr/bin/env python3
"""Generates the same answers with Strata, llama.cpp and transformers, in turns, and prints their speeds.

Example: tests/bench/peers/generate.py --model MODEL_DIR --prompts spec_bench_dev.jsonl \
             --strata build/release/bin --corpus SNAPSHOT --limit 24
The first run compiles llama.cpp out of PyPI `llama-cpp-python`'s source and converts the model, both
into ~/.cache/strata/peers (or $STRATA_PEERS). Needs deploy/local/setup.sh to have run. README.md in
the folder above says what is measured.
"""

import sys

import prepare

if __name__ == "__main__":
    sys.exit(prepare.run_prepared("generate.py", prepare.prepare_llama_cpp, "compare_generation.py"))
