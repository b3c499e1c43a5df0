#!/usr/bin/env python3
"""Drafts a second from one draft service and from several on one snapshot folder.

Example: tests/bench/draft_replicas.py --binaries build/release/bin --model MODEL_DIR --corpus SNAPSHOT \\
             --replay ROWS.jsonl --limit 60
`strata-replay --remote` plays the rows on each stream at once; streams go round the services. Client and
services share the machine. Prints a table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
import harness  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="draft_replicas.py",
                                     description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--corpus", type=pathlib.Path, required=True)
    parser.add_argument("--replay", type=pathlib.Path, required=True, help="rows of answers, .jsonl")
    parser.add_argument("--limit", type=int, default=60, help="rows that each stream plays")
    parser.add_argument("--budget", type=int, default=32, help="nodes of a tree")
    parser.add_argument("--layouts", nargs="*", default=["1x1", "1x2", "2x2", "1x4", "2x4"],
                        metavar="SERVICESxSTREAMS")
    return parser.parse_args()


def measure(arguments: argparse.Namespace, services: int, streams: int) -> tuple[int, int, float]:
    """(messages answered with trees, draft nodes, seconds until the last stream has ended)."""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        drafts = [stack.enter_context(harness.start_draft(folder / str(i), "--corpus",
                                                          str(arguments.corpus)))
                  for i in range(services)]
        start = time.monotonic()
        players = [subprocess.Popen(
            [harness.binary("strata-replay"), "--model", str(arguments.model), "--corpus",
             str(arguments.corpus), "--replay", str(arguments.replay), "--limit",
             str(arguments.limit), "--budget", str(arguments.budget), "--json", "--remote",
             drafts[i % services].address], stdout=subprocess.PIPE) for i in range(streams)]
        reports = [json.loads(player.communicate()[0]) for player in players]
        seconds = time.monotonic() - start
    return (sum(report["draft_us"]["count"] for report in reports),
            round(sum(report["drafted_per_step"] * report["steps"] for report in reports)), seconds)


def main() -> int:
    arguments = parse_arguments()
    os.environ["STRATA_BIN"] = str(arguments.binaries.resolve())
    print("| services | streams | messages | seconds | messages/s | nodes/s |")
    print("|---|---|---|---|---|---|")
    for layout in arguments.layouts:
        services, _, streams = layout.partition("x")
        messages, nodes, seconds = measure(arguments, int(services), int(streams))
        print(f"| {services} | {streams} | {messages} | {seconds:.1f} | {messages / seconds:.0f} "
              f"| {nodes / seconds:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
