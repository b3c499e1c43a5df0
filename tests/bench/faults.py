#!/usr/bin/env python3
"""Injects one fault after the other into two verify and three draft services under load.

Example: tests/bench/faults.py --binaries build/release/bin --model MODEL_DIR --foreign-model OTHER_DIR \\
             --questions spec_bench_dev.jsonl --corpus-text TEXT.jsonl --seconds 30 --out faults.json
The faults are in tests/system/faults/kinds.py. Prints a table; exit status 1 if a request failed or a
token differed from the plain answer's, or if a fault did not show or drafting did not recover.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
import mixed_load  # noqa: E402
from faults import kinds, trial  # noqa: E402
from faults.cluster import Cluster, build_corpora  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faults.py", description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--foreign-model", type=pathlib.Path, required=True,
                        help="a folder with another tokenizer.json")
    parser.add_argument("--questions", type=pathlib.Path, required=True, help="Spec-Bench .jsonl")
    parser.add_argument("--corpus-text", type=pathlib.Path, required=True,
                        help="what snapshots are built from")
    parser.add_argument("--kinds", nargs="*", metavar="WORD",
                        help="only faults whose names have one of these in them")
    parser.add_argument("--seconds", type=float, default=30, help="that a fault lasts at least")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--requests", type=int, default=24, help="different ones")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, help="also write JSON to this file")
    return parser.parse_args()


def chosen(words: list[str] | None) -> list[type[kinds.Fault]]:
    return [kind for kind in kinds.KINDS
            if words is None or any(word in kind.name for word in words)]


def print_row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def main() -> int:
    arguments = parse_arguments()
    os.environ["STRATA_BIN"] = str(arguments.binaries.resolve())
    results: list[trial.Result] = []
    unrecovered = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        cluster = Cluster(folder / "cluster", arguments.model,
                          build_corpora(arguments.model, arguments.foreign_model,
                                        arguments.corpus_text, folder / "built"))
        try:
            expected = mixed_load.plain_answers(
                cluster.verifiers[0].service,
                mixed_load.make_requests(arguments.questions, arguments.requests,
                                         arguments.max_tokens, arguments.seed))
            print_row("fault", "requests", "asked again", "failed", "changed", "fault s",
                      "recovery s", "what the operator sees")
            print_row(*["---"] * 8)
            for kind in chosen(arguments.kinds):
                fault = kind(cluster)
                if fault.impossible:
                    print_row(kind.name, f"not run: {fault.impossible}", *[""] * 6)
                    continue
                try:
                    result = trial.run(fault, expected, arguments.clients, arguments.seconds,
                                       arguments.seed)
                except AssertionError as error:
                    # The next may tell more.
                    unrecovered += 1
                    print_row(kind.name, *[""] * 6, str(error).splitlines()[0])
                    continue
                results.append(result)
                print_row(result.kind, result.requests, result.retries, result.failed,
                          result.changed, result.fault_seconds, result.recovery_seconds,
                          result.seen)
        finally:
            cluster.close()
    if arguments.out:
        arguments.out.write_text(
            json.dumps([dataclasses.asdict(result) for result in results], indent=1) + "\n",
            encoding="utf-8")
    well = all(result.failed == result.changed == 0 for result in results)
    return 0 if well and unrecovered == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
