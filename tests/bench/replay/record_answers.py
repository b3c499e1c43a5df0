#!/usr/bin/env python3
"""Records what a running verify service answers, greedily, as rows for strata-replay.

    record_answers.py --strata build/release/bin/strata --address HOST:PORT \\
        --questions spec_bench_dev.jsonl --every 2 --out replay.jsonl

Rows have question_id, category, turn (0: the first question of each conversation), prompt_tokens
and output_tokens.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def call(arguments: list[str], text: str) -> dict[str, Any]:
    result = subprocess.run([*arguments, "-"], input=text, text=True, capture_output=True,
                            check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)}: {result.stderr.strip()}")
    answer = json.loads(result.stdout)
    assert isinstance(answer, dict)
    return answer


def record(question: dict[str, Any], flags: argparse.Namespace) -> dict[str, Any]:
    text = question["turns"][0]
    client = [flags.strata, "--address", flags.address]
    tokenize = [client[0], "tokenize", *client[1:], "--chat", "--json"]
    generate = [client[0], "generate", *client[1:], "--chat", "--json", "--max-tokens",
                str(flags.max_tokens)]
    return {"question_id": question["question_id"], "category": question["category"], "turn": 0,
            "prompt_tokens": call(tokenize, text)["ids"],
            "output_tokens": call(generate, text)["token_ids"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strata", required=True, help="the client's binary")
    parser.add_argument("--address", required=True, help="the verify service, HOST:PORT")
    parser.add_argument("--questions", required=True, type=Path, help="Spec-Bench questions, jsonl")
    parser.add_argument("--every", type=int, default=1, help="take each Nth question")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--at-once", type=int, default=4, help="requests at a time")
    parser.add_argument("--out", required=True, type=Path)
    flags = parser.parse_args()
    with flags.questions.open(encoding="utf-8") as file:
        questions = [json.loads(line) for line in file][::flags.every]
    with concurrent.futures.ThreadPoolExecutor(flags.at_once) as pool:
        rows = list(pool.map(lambda question: record(question, flags), questions))
    with flags.out.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, separators=(",", ":")) + "\n")
    tokens = sum(len(row["output_tokens"]) for row in rows)
    print(f"{len(rows)} answers, {tokens} tokens, in {flags.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
