"""Load of every kind at once on a running service, each answer compared with the plain one.

Requests come at random times: greedy and sampled, with speculation and without, that begin alike
(shared KV pages), and some that are cancelled in mid-answer.
"""

from __future__ import annotations

import dataclasses
import json
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import harness

SYSTEM = ("You are a careful assistant. Answer in full sentences, name your sources, and say so "
          "when you do not know. ")


@dataclasses.dataclass(frozen=True)
class Request:
    prompt: str
    arguments: tuple[str, ...]


@dataclasses.dataclass
class Tally:
    """What became of the requests."""

    answered: int = 0
    cancelled: int = 0
    cached_prompt_tokens: int = 0
    preemptions: int = 0
    drafted: int = 0
    accepted: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    differences: list[str] = dataclasses.field(default_factory=list)
    statuses: Counter[int] = dataclasses.field(default_factory=Counter)


def make_requests(questions: Path, count: int, max_tokens: int, seed: int) -> list[Request]:
    """Different requests; two in three share one of two beginnings."""
    rng = random.Random(seed)
    with questions.open(encoding="utf-8") as lines:
        turns = [json.loads(line)["turns"][0] for line in lines if line.strip()]
    # Long ones would only make the machine, not the service, the limit.
    turns = [turn for turn in turns if len(turn) < 500]
    requests = []
    for number, turn in enumerate(rng.sample(turns, count)):
        beginning = ["", SYSTEM * 3, SYSTEM * 5][number % 3]
        arguments = ["--max-tokens", str(rng.randint(max_tokens // 4, max_tokens)), "--ignore-eos"]
        if rng.random() < 0.5:
            arguments += ["--temperature", "0.9", "--top-p", "0.95", "--seed", str(number)]
        requests.append(Request(beginning + turn, tuple(arguments)))
    return requests


def plain_answers(service: harness.Service, requests: list[Request]) -> dict[Request, list[int]]:
    """Each request's tokens, one at a time and without drafts."""
    return {request: harness.generate(service, request.prompt, "--no-speculation",
                                      *request.arguments)["token_ids"]
            for request in requests}


class MixedLoad:
    """`workers` clients, each with one request at a time, until `stop` or `count` requests."""

    def __init__(self, service: harness.Service, expected: dict[Request, list[int]], workers: int,
                 seed: int, pause: float = 0.2) -> None:
        self._service = service
        self._expected = expected
        self._requests = list(expected)
        self._workers = workers
        self._seed = seed
        self._pause = pause
        self._lock = threading.Lock()
        self._left = 0
        self._end = 0.0
        self.tally = Tally()

    def run(self, count: int, seconds: float = float("inf")) -> Tally:
        """Returns when all are answered; the tally grows meanwhile."""
        self._left = count
        self._end = time.monotonic() + seconds
        threads = [threading.Thread(target=self._work, args=(number,))
                   for number in range(self._workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.tally

    def _take(self) -> bool:
        with self._lock:
            if self._left <= 0 or time.monotonic() >= self._end:
                return False
            self._left -= 1
            return True

    def _work(self, number: int) -> None:
        rng = random.Random(self._seed * 1000 + number)
        while self._take():
            time.sleep(rng.expovariate(1 / self._pause))
            request = rng.choice(self._requests)
            arguments = list(request.arguments)
            if rng.random() < 0.3:
                arguments.append("--no-speculation")
            elif rng.random() < 0.3:
                arguments += ["--draft-nodes", str(rng.choice([2, 8, 32]))]
            arguments += ["--tenant", rng.choice(["", "", "red", "blue"])]
            try:
                self._send(request, arguments, rng.random() < 0.15, rng)
            except Exception as error:  # noqa: BLE001 - a thread must not end in silence
                with self._lock:
                    self.tally.failures.append(repr(error))

    def _send(self, request: Request, arguments: list[str], cancel: bool,
              rng: random.Random) -> None:
        with subprocess.Popen(
                [harness.binary("strata"), "generate", "--json", "--address",
                 self._service.address, *arguments, "--", request.prompt],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                if cancel:
                    time.sleep(rng.uniform(0.05, 1.5))
                    process.send_signal(signal.SIGINT)
                out, error = process.communicate(timeout=harness.CALL_SECONDS)
            finally:
                process.kill()
        with self._lock:
            self.tally.statuses[process.returncode] += 1
            # The second: before it listened to signals.
            if cancel and process.returncode in (harness.INTERRUPTED, -signal.SIGINT):
                self.tally.cancelled += 1
            elif process.returncode != harness.SUCCESS:
                self.tally.failures.append(error.decode("utf-8", "replace")[-500:])
            else:
                self._compare(request, arguments, json.loads(out))

    def _compare(self, request: Request, arguments: list[str], answer: dict) -> None:
        tally = self.tally
        statistics = answer["statistics"]
        tally.answered += 1
        tally.cached_prompt_tokens += statistics["cached_prompt_tokens"]
        tally.preemptions += statistics["preemptions"]
        tally.drafted += statistics["drafted"]
        tally.accepted += statistics["accepted"]
        expected = self._expected[request]
        if answer["token_ids"] != expected:
            at = next((i for i, (a, b) in enumerate(zip(answer["token_ids"], expected)) if a != b),
                      min(len(answer["token_ids"]), len(expected)))
            tally.differences.append(
                f"{request.prompt[-60:]!r} {arguments}: differs from token {at} of {len(expected)}")
