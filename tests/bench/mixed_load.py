#!/usr/bin/env python3
"""Minutes of mixed load on both services, the draft service killed at random and started again.

Example: tests/bench/mixed_load.py --binaries build/release/bin --model MODEL_DIR \
             --questions spec_bench_dev.jsonl --corpus SNAPSHOT --minutes 30 --kill-every 20
What is sent is in tests/system/mixed_load.py. Prints one JSON object; exit status 1 if a request
failed or a token differed from the plain answer's.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
import harness  # noqa: E402
import mixed_load  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mixed_load.py", description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--questions", type=pathlib.Path, required=True, help="Spec-Bench .jsonl")
    parser.add_argument("--corpus", type=pathlib.Path, help="snapshot for the draft service")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--kill-every", type=float, default=20, help="seconds, on average")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--requests", type=int, default=40, help="different ones")
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--kv-tokens", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def resident_mib(service: harness.Service) -> float:
    with open(f"/proc/{service.process.pid}/status", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("VmRSS:"):
                return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def main() -> int:
    arguments = parse_arguments()
    os.environ["STRATA_BIN"] = str(arguments.binaries.resolve())
    rng = random.Random(arguments.seed)
    requests = mixed_load.make_requests(arguments.questions, arguments.requests,
                                        arguments.max_tokens, arguments.seed)
    corpus = ["--corpus", str(arguments.corpus)] if arguments.corpus else []
    memory, kills = [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with harness.start_verify(folder, "--draft", "off", "--prefix-cache", "0",
                                  model=arguments.model) as plain:
            expected = mixed_load.plain_answers(plain, requests)
        draft = harness.start_draft(folder, *corpus)
        try:
            with harness.start_verify(folder, "--draft-address", draft.address, "--kv-tokens",
                                      str(arguments.kv_tokens), "--max-batch", "16",
                                      model=arguments.model, budget="measured") as verify:
                load = mixed_load.MixedLoad(verify, expected, arguments.workers, arguments.seed)
                seconds = arguments.minutes * 60
                running = threading.Thread(target=load.run, args=(1 << 40, seconds))
                start = time.monotonic()
                running.start()
                sample = start
                while running.is_alive():
                    running.join(timeout=rng.uniform(0.5, 1.5) * arguments.kill_every)
                    if not running.is_alive():
                        break
                    if time.monotonic() >= sample:
                        memory.append(resident_mib(verify))
                        sample += seconds / 12
                    draft.kill()
                    kills += 1
                    draft = harness.start_draft(folder, *corpus, listen=draft.address)
                memory.append(resident_mib(verify))
                about = harness.info(verify)
        finally:
            draft.close()
    tally = load.tally
    print(json.dumps({
        "minutes": round((time.monotonic() - start) / 60, 1), "kills": kills,
        "answered": tally.answered, "cancelled": tally.cancelled, "failed": len(tally.failures),
        "different": len(tally.differences), "preemptions": tally.preemptions,
        "cached_prompt_tokens": tally.cached_prompt_tokens, "drafted": tally.drafted,
        "accepted": tally.accepted, "verify_resident_mib": memory,
        "kv_pages_leaked": about["kv_pages_total"] - about["kv_pages_free"],
        "first_failures": tally.failures[:3], "first_differences": tally.differences[:3]}))
    return 0 if not tally.failures and not tally.differences else 1


if __name__ == "__main__":
    sys.exit(main())
