"""One fault, under load, from the time before it until all is well again."""

from __future__ import annotations

import dataclasses
import time

import harness
import mixed_load
from faults.cluster import Cluster, Member
from faults.kinds import Fault
from faults.load import Load

# Generous: a test on a busy machine must not fail for being slow.
RECOVERY_SECONDS = 120.0


@dataclasses.dataclass
class Result:
    kind: str
    requests: int
    retries: int
    failed: int
    changed: int
    # How long the fault lasted, and from its end until every verify service had drafts of a draft
    # service again.
    fault_seconds: float
    recovery_seconds: float
    seen: str
    first_failures: list[str]
    first_changes: list[str]


class _Drafting:
    """Tells when a verify service has drafts again."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._before = member.now("strata_verify_draft_answers_total")

    def resumed(self) -> bool:
        scrape = self._member.scrape()
        return (scrape is not None
                and scrape("strata_verify_draft_answers_total") > self._before
                and scrape("strata_verify_draft_breaker_open") == 0
                and scrape("strata_verify_draft_available") == 1)


def wait_for_drafts(cluster: Cluster) -> float:
    """Until every verify service had drafts of a draft service from now on; returns how long."""
    begin = time.monotonic()
    waiting = [_Drafting(member) for member in cluster.verifiers]

    def all_resumed() -> bool:
        waiting[:] = [one for one in waiting if not one.resumed()]
        return not waiting

    harness.wait_until(all_resumed, "every verify service has drafts", RECOVERY_SECONDS)
    return time.monotonic() - begin


def run(fault: Fault, expected: dict[mixed_load.Request, list[int]], clients: int,
        seconds: float, seed: int) -> Result:
    """The fault lasts `seconds`, and at least until an operator sees it."""
    cluster = fault.cluster
    with Load(cluster, expected, clients, seed) as load:
        wait_for_drafts(cluster)
        begin = time.monotonic()
        try:
            fault.begin()
            seen = ""

            def look() -> bool:
                nonlocal seen
                seen = fault.sign()
                return seen != ""

            harness.wait_until(look, f"a sign of '{fault.name}'", RECOVERY_SECONDS)
            time.sleep(max(0.0, begin + seconds - time.monotonic()))
        finally:
            fault.end()
        lasted = time.monotonic() - begin
        recovery = wait_for_drafts(cluster)
        # Those that the fault met are among them.
        load.wait_for_requests(2 * clients)
    tally = load.tally
    return Result(fault.name, tally.requests, tally.retries, len(tally.failures),
                  len(tally.changes), round(lasted, 1), round(recovery, 2), seen,
                  tally.failures[:3], tally.changes[:3])
