#!/usr/bin/env python3
"""Records what a running verify service answers, greedily, as rows for strata-replay.

    record_answers.py --strata build/release/bin/strata --address HOST:PORT \\
        --questions spec_bench_dev.jsonl --every 2 --out replay.jsonl
    record_answers.py --strata build/release/bin/strata --address HOST:PORT \\
        --instructions corpus.jsonl.xz --count 300 --out warm.jsonl

Prints what drafts gave: tokens/step without each answer's first token, which prefill gives, as
strata-replay counts. With --draft-budget fixed and one request at a time the two are comparable.

Rows have question_id, category, turn (0: the first question of each conversation), prompt_tokens
and output_tokens. Instructions are the first lines of documents of the corpus file whose source has
some: other prompts than the questions, to warm a model tier with. Their category is the source.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import lzma
import subprocess
import sys
from pathlib import Path
from typing import Any

# Sources of the corpus file whose documents begin with an instruction or a question, in a line.
INSTRUCTION_SOURCES = ("gpteacher-codegen", "gpteacher-roleplay", "gsm8k-train")


def call(arguments: list[str], text: str) -> dict[str, Any]:
    result = subprocess.run([*arguments, "-"], input=text, text=True, capture_output=True,
                            check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)}: {result.stderr.strip()}")
    answer = json.loads(result.stdout)
    assert isinstance(answer, dict)
    return answer


def record(question: dict[str, Any],
           flags: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row, and the request's statistics."""
    text = question["turns"][0]
    client = [flags.strata, "--address", flags.address]
    tokenize = [client[0], "tokenize", *client[1:], "--chat", "--json"]
    generate = [client[0], "generate", *client[1:], "--chat", "--json", "--max-tokens",
                str(flags.max_tokens)]
    answer = call(generate, text)
    return {"question_id": question["question_id"], "category": question["category"], "turn": 0,
            "prompt_tokens": call(tokenize, text)["ids"],
            "output_tokens": answer["token_ids"]}, answer["statistics"]


def instructions(path: Path, count: int) -> list[dict[str, Any]]:
    """`count` of them as questions, as many of each source, evenly over its documents."""
    found: dict[str, list[dict[str, Any]]] = {source: [] for source in INSTRUCTION_SOURCES}
    opened = lzma.open if path.suffix == ".xz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file):
            document = json.loads(line)
            first = document["text"].split("\n", 1)[0].strip()
            if document["source"] in found and first:
                found[document["source"]].append({
                    "question_id": number, "category": document["source"], "turns": [first]})
    chosen = []
    for place, of_source in enumerate(found.values()):
        wanted = count // len(found) + (1 if place < count % len(found) else 0)
        if len(of_source) < wanted:
            sys.exit(f"{path} has {len(of_source)} instructions of {INSTRUCTION_SOURCES[place]}; "
                     f"{wanted} are wanted")
        chosen += [of_source[i * len(of_source) // wanted] for i in range(wanted)]
    return chosen


def questions_of(flags: argparse.Namespace) -> list[dict[str, Any]]:
    if flags.instructions is not None:
        return instructions(flags.instructions, flags.count)
    with flags.questions.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strata", required=True, help="the client's binary")
    parser.add_argument("--address", required=True, help="the verify service, HOST:PORT")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--questions", type=Path, help="Spec-Bench questions, jsonl")
    what.add_argument("--instructions", type=Path,
                      help="a corpus file, .jsonl or .jsonl.xz with `source` and `text`")
    parser.add_argument("--count", type=int, default=300, help="instructions in all")
    parser.add_argument("--every", type=int, default=1, help="take each Nth question")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--at-once", type=int, default=4, help="requests at a time")
    parser.add_argument("--out", required=True, type=Path)
    flags = parser.parse_args()
    questions = questions_of(flags)[::flags.every]
    with concurrent.futures.ThreadPoolExecutor(flags.at_once) as pool:
        answers = list(pool.map(lambda question: record(question, flags), questions))
    rows = [row for row, _ in answers]
    with flags.out.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, separators=(",", ":")) + "\n")
    tokens = sum(len(row["output_tokens"]) for row in rows)
    steps, drafted, accepted = (sum(int(statistics[field]) for _, statistics in answers)
                                for field in ("steps", "drafted", "accepted"))
    print(f"{len(rows)} answers, {tokens} tokens, in {flags.out}; {steps} steps, "
          f"{(tokens - len(rows)) / max(steps, 1):.3f} tokens/step, "
          f"{drafted / max(steps, 1):.2f} drafted/step, {accepted} accepted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
