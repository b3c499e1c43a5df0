#!/usr/bin/env python3
"""Compares drafted with plain answers for every number format, way of sampling, way of drafting and budget.

Example: tests/bench/exact_matrix.py --binaries build/release/bin --model MODEL_DIR \\
             --questions spec_bench_dev.jsonl --corpus SNAPSHOT --out matrix.json
Each cell of the table is runs of `strata bench exact` on one verify service: all ways of sampling at once, and of
each --parts parts of the questions, so that streams share steps whose batch changes all the time. Every draft node
is verified (--draft-budget fixed). Prints tokens and differences of each cell; exit status 1 if there is a
difference, a cell without accepted drafts (where drafting is on), or a service that does not call itself exact.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import pathlib
import sys
import tempfile
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
import harness  # noqa: E402

SAMPLING = {
    "greedy": [],
    "T=0.8": ["--temperature", "0.8", "--seed", "11"],
    "T=1.0 top-p penalties": ["--temperature", "1.0", "--top-p", "0.9", "--repetition-penalty", "1.1",
                              "--presence-penalty", "0.5", "--seed", "12"],
}
DTYPES = ("bf16", "fp32")
DRAFTING = ("remote", "embedded", "off")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="exact_matrix.py", description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--questions", type=pathlib.Path, required=True, help="Spec-Bench .jsonl")
    parser.add_argument("--corpus", type=pathlib.Path, required=True, help="a snapshot")
    parser.add_argument("--limit", type=int, default=60, help="questions, from the first")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--draft-nodes", default="4,16,28")
    parser.add_argument("--parts", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--drafting", nargs="+", choices=DRAFTING, default=DRAFTING)
    parser.add_argument("--out", type=pathlib.Path, help="also write JSON to this file")
    return parser.parse_args()


def write_parts(arguments: argparse.Namespace, folder: pathlib.Path) -> list[pathlib.Path]:
    lines = arguments.questions.read_text(encoding="utf-8").splitlines()[:arguments.limit]
    parts = []
    for part in range(arguments.parts):
        parts.append(folder / f"part{part}.jsonl")
        parts[-1].write_text("\n".join(lines[part::arguments.parts]) + "\n", encoding="utf-8")
    return parts


def run_cell(arguments: argparse.Namespace, parts: list[pathlib.Path], dtype: str, drafting: str,
             folder: pathlib.Path) -> list[dict[str, Any]]:
    """A row for each way of sampling."""
    with contextlib.ExitStack() as services:
        how = ["--draft", drafting]
        if drafting == "remote":
            draft = services.enter_context(
                harness.start_draft(folder, "--corpus", str(arguments.corpus)))
            how = ["--draft-address", draft.address, "--draft-deadline-ms", "200"]
        elif drafting == "embedded":
            how += ["--corpus", str(arguments.corpus)]
        verify = services.enter_context(
            harness.start_verify(folder, *how, "--dtype", dtype, "--threads",
                                 str(arguments.threads), "--device", arguments.device,
                                 "--max-batch", "16", model=arguments.model))
        exact = harness.info(verify)["exact"]

        def report(sampling: list[str], part: pathlib.Path) -> dict[str, Any]:
            result = harness.run(
                "strata", "bench", "exact", "--json", "--address", verify.address, "--prompts",
                str(part), "--chat", "--max-tokens", str(arguments.max_tokens), "--draft-nodes",
                arguments.draft_nodes, *sampling, seconds=24 * 3600)
            if not result.stdout:
                raise RuntimeError(f"{dtype} {drafting}: {result.stderr}\n{verify.log()}")
            return dict(json.loads(result.stdout))

        with concurrent.futures.ThreadPoolExecutor(len(SAMPLING) * len(parts)) as pool:
            reports = {name: [pool.submit(report, sampling, part) for part in parts]
                       for name, sampling in SAMPLING.items()}
            rows = []
            for name, futures in reports.items():
                of_parts = [future.result() for future in futures]
                runs = [[part["runs"][i] for part in of_parts]
                        for i in range(len(of_parts[0]["runs"]))]
                rows.append({
                    "dtype": dtype, "drafting": drafting, "sampling": name, "exact": exact,
                    "prompts": sum(part["prompts"] for part in of_parts),
                    "tokens": [sum(run["tokens"] for run in same) for same in runs],
                    "drafted": [sum(run["drafted"] for run in same) for same in runs],
                    "accepted": [sum(run["accepted"] for run in same) for same in runs],
                    "differences": [each for part in of_parts for each in part["differences"]],
                })
    return rows


def faults(row: dict[str, Any]) -> list[str]:
    found = []
    if row["differences"]:
        found.append(f"{len(row['differences'])} differences")
    if not row["exact"]:
        found.append("the service does not call itself exact")
    if len(set(row["tokens"])) != 1:
        found.append("runs of different length")
    if row["drafting"] != "off" and not all(row["accepted"][1:]):
        found.append("no draft was accepted")
    return found


def main() -> int:
    arguments = parse_arguments()
    os.environ["STRATA_BIN"] = str(arguments.binaries.resolve())
    print("| numbers | drafting | sampling | prompts | tokens a run | runs | drafted | accepted | differences |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = []
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        parts = write_parts(arguments, folder)
        for dtype in arguments.dtypes:
            for drafting in arguments.drafting:
                for row in run_cell(arguments, parts, dtype, drafting, folder):
                    rows.append(row)
                    print(f"| {dtype} | {drafting} | {row['sampling']} | {row['prompts']} | "
                          f"{row['tokens'][0]} | {len(row['tokens'])} | {sum(row['drafted'])} | "
                          f"{sum(row['accepted'])} | {len(row['differences'])} |", flush=True)
                    for fault in faults(row):
                        bad += 1
                        print(f"  {fault}", flush=True)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print("identical" if bad == 0 else f"{bad} faults")
    return 0 if bad == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
