"""Clients that ask without a pause while faults come and go, and what became of their requests."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import threading

import harness
import mixed_load
from faults.cluster import Cluster

# For each request, with all its retries. Who waits longer has been forgotten.
REQUEST_SECONDS = 240


@dataclasses.dataclass
class Tally:
    requests: int = 0
    # How often requests were asked again.
    retries: int = 0
    # Nodes of trees that a draft service made.
    drafted: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    changes: list[str] = dataclasses.field(default_factory=list)


class Load:
    """`clients` threads, each with one request at a time, while in the `with` block.

    Clients know both verify services; half of them name the one first, half the other.
    """

    def __init__(self, cluster: Cluster, expected: dict[mixed_load.Request, list[int]],
                 clients: int, seed: int) -> None:
        self._cluster = cluster
        self._expected = expected
        self._seed = seed
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work, args=(number,))
                         for number in range(clients)]
        self.tally = Tally()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Requests under way are answered first."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_requests(self, count: int) -> None:
        """Until so many more were answered."""
        aim = self.tally.requests + count
        harness.wait_until(lambda: self.tally.requests >= aim, f"{count} more answers",
                           REQUEST_SECONDS)

    def _work(self, number: int) -> None:
        rng = random.Random(self._seed * 1000 + number)
        while not self._stop.is_set():
            request = rng.choice(list(self._expected))
            try:
                self._send(number, request)
            except Exception as error:  # noqa: BLE001 - a thread must not end in silence
                with self._lock:
                    self.tally.failures.append(repr(error))
                    self.tally.requests += 1

    def _send(self, number: int, request: mixed_load.Request) -> None:
        answer = subprocess.run(
            [harness.binary("strata"), "generate", "--json", "--retries", "10", "--address",
             self._cluster.addresses(number), *request.arguments, "--", request.prompt],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=REQUEST_SECONDS, check=False)
        with self._lock:
            self.tally.requests += 1
            if answer.returncode != harness.SUCCESS:
                self.tally.failures.append(answer.stderr.decode("utf-8", "replace")[-500:])
                return
            fields = json.loads(answer.stdout)
            self.tally.retries += fields["retries"]
            self.tally.drafted += harness.drafted_remotely(fields)
            if fields["token_ids"] != self._expected[request]:
                self.tally.changes.append(f"{request.prompt[-60:]!r} {request.arguments}")
