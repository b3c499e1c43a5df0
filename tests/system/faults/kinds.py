"""The kinds of faults: how each begins and ends, and the sign of it that an operator sees."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import resource
from pathlib import Path

import harness
from faults.cluster import CLOCK_VERIFIER, Cluster, Member
from faults.proxy import GOOD, Network

# Prometheus' own limit for a scrape is 10 s; a stopped process need not be waited for that long.
SCRAPE_SECONDS = 2.0


class Fault:
    """One fault in a cluster. Made while all is well; `end` leaves the cluster as it was."""

    # Of the table and the test.
    name = ""
    what = ""
    # Why this machine cannot have it; empty if it can.
    impossible = ""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def begin(self) -> None:
        raise NotImplementedError

    def sign(self) -> str:
        """Asked again and again while the fault lasts, until it is not empty."""
        raise NotImplementedError

    def end(self) -> None:
        pass


class _Rise:
    """A counter of some members, from the moment that this is made."""

    def __init__(self, members: list[Member], metric: str) -> None:
        self._metric = metric
        self._before = [(member, member.now(metric)) for member in members]

    def sign(self) -> str:
        risen = sum(max(0.0, member.now(self._metric) - was) for member, was in self._before)
        return f"{self._metric} rose by {risen:.0f}" if risen > 0 else ""


def _breakers(cluster: Cluster) -> str:
    """All of them open."""
    metric = "strata_verify_draft_breaker_open"
    if all(member.now(metric) == 1 for member in cluster.verifiers):
        return f"{metric} is 1 everywhere"
    return ""


def _down(member: Member) -> str:
    return "" if member.scrape(SCRAPE_SECONDS) else f"no metrics from {member.name} (up is 0)"


class DraftKilled(Fault):
    name = "draft killed"
    what = "SIGKILL to a draft service in use; started again at the end"

    def begin(self) -> None:
        self._broken = _Rise(self.cluster.verifiers, "strata_verify_draft_streams_broken_total")
        self._member = self.cluster.drafters[self.cluster.drafter_in_use()]
        self._member.service.kill()

    def sign(self) -> str:
        return self._broken.sign()

    def end(self) -> None:
        self._member.restart()


class DraftStopped(Fault):
    name = "draft stopped"
    what = "SIGSTOP to a draft service in use; SIGCONT at the end"

    def begin(self) -> None:
        self._misses = _Rise(self.cluster.verifiers, "strata_verify_draft_deadline_misses_total")
        self._member = self.cluster.drafters[self.cluster.drafter_in_use()]
        self._member.service.suspend()

    def sign(self) -> str:
        return self._misses.sign()

    def end(self) -> None:
        self._member.service.resume()


class AllDraftsGone(Fault):
    name = "all drafts gone"
    what = "SIGKILL to all draft services at once; started again at the end"

    def begin(self) -> None:
        for member in self.cluster.drafters:
            member.service.kill()

    def sign(self) -> str:
        return _breakers(self.cluster)

    def end(self) -> None:
        for member in self.cluster.drafters:
            member.restart()


class DraftsReplaced(Fault):
    name = "drafts replaced"
    what = "SIGTERM to each draft service and another in its place, one after the other"

    def begin(self) -> None:
        self._streams = _Rise(self.cluster.verifiers, "strata_verify_draft_streams_total")
        for member in self.cluster.drafters:
            code = member.service.terminate()
            assert code == 0, f"{member.name} ended with {code}: {member.service.log()}"
            member.restart()

    def sign(self) -> str:
        return self._streams.sign()


class VerifyKilled(Fault):
    name = "verify killed"
    what = "SIGKILL to a verify service with requests; started again at the end"

    def begin(self) -> None:
        self._member = self.cluster.verifiers[0]
        harness.wait_until(lambda: self._member.now("strata_verify_requests_in_flight") > 0,
                           "a request is under way")
        self._member.service.kill()

    def sign(self) -> str:
        return _down(self._member)

    def end(self) -> None:
        self._member.restart()


class VerifyStopped(Fault):
    name = "verify stopped"
    what = "SIGSTOP to a verify service with requests; SIGCONT at the end"

    def begin(self) -> None:
        self._member = self.cluster.verifiers[0]
        self._member.service.suspend()

    def sign(self) -> str:
        return _down(self._member)

    def end(self) -> None:
        self._member.service.resume()


class VerifiersRestarted(Fault):
    name = "verify rolling restart"
    what = "SIGTERM to each verify service and another in its place, one after the other"

    def begin(self) -> None:
        self._drained = 0
        for member in self.cluster.verifiers:
            code = member.service.terminate(seconds=120)
            assert code == 0, f"{member.name} ended with {code}: {member.service.log()}"
            self._drained += "draining" in member.service.whole_log()
            member.restart()

    def sign(self) -> str:
        return f"'draining' in the logs of {self._drained}" if self._drained else ""


class _NetworkFault(Fault):
    network = GOOD

    def begin(self) -> None:
        self._misses = _Rise(self.cluster.verifiers, "strata_verify_draft_deadline_misses_total")
        for one in self.cluster.proxies:
            one.set_network(self.network)

    def sign(self) -> str:
        return self._misses.sign()

    def end(self) -> None:
        for one in self.cluster.proxies:
            one.set_network(GOOD)


class SlowNetwork(_NetworkFault):
    name = "slow network"
    what = "150 ms each way between verify and draft services (deadline 100 ms)"
    network = Network(delay=0.15)


class LossyNetwork(_NetworkFault):
    name = "lossy network"
    what = "10 ms each way, and one piece in five comes 300 ms late, as after a lost packet"
    network = Network(delay=0.01, loss=0.2, pause=0.3)


class SilentNetwork(_NetworkFault):
    name = "partition"
    what = "nothing arrives between verify and draft services, and no connection breaks"
    network = Network(silent=True)


class NetworkCut(Fault):
    name = "connections cut"
    what = "all connections between verify and draft services reset"

    def begin(self) -> None:
        self._broken = _Rise(self.cluster.verifiers, "strata_verify_draft_streams_broken_total")
        for one in self.cluster.proxies:
            one.cut()

    def sign(self) -> str:
        return self._broken.sign()


class FullDisk(Fault):
    name = "disk full"
    what = "no room where the draft services save their model tiers"

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        if not cluster.has_small_disk:
            self.impossible = "this machine lets nobody mount a file system"

    def begin(self) -> None:
        self._failures = _Rise(self.cluster.drafters, "strata_draft_save_failures_total")
        # Each process has its own view of the file systems.
        self._fillers = [Path(f"/proc/{member.pid}/root{folder}/filler") for member, folder
                         in zip(self.cluster.drafters, self.cluster.tier_folders)]
        for filler in self._fillers:
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))

    def sign(self) -> str:
        return self._failures.sign()

    def end(self) -> None:
        for filler in self._fillers:
            filler.unlink()


class DamagedCorpus(Fault):
    name = "corrupt corpus blocks"
    what = "a snapshot published with bytes flipped in its tables; a whole one at the end"

    def begin(self) -> None:
        _wait_for_snapshot(self.cluster, self.cluster.corpora.publish_damaged())
        self._numbers = itertools.count()

    def sign(self) -> str:
        metric = "strata_draft_corpus_damaged_rows"
        rows = sum(member.now(metric) for member in self.cluster.drafters)
        if rows > 0:
            return f"{metric} is {rows:.0f}"
        # Other words than those of the load, whose rows may be in memory by now.
        for member in self.cluster.verifiers:
            harness.generate(member.service, f"{next(self._numbers)} birds of the desert, and",
                             "--max-tokens", "16", "--temperature", "1")
        return ""

    def end(self) -> None:
        _publish_and_wait(self.cluster)


def _serves(member: Member, snapshot: str) -> bool:
    scrape = member.scrape()
    return (scrape is not None
            and snapshot in scrape.by("strata_draft_corpus_snapshot_info", "snapshot"))


def _wait_for_snapshot(cluster: Cluster, name: str) -> None:
    harness.wait_until(lambda: all(_serves(member, name) for member in cluster.drafters),
                       f"all draft services have moved to {name}")


def _publish_and_wait(cluster: Cluster) -> None:
    _wait_for_snapshot(cluster, cluster.corpora.publish_new())


class ForeignSnapshot(Fault):
    name = "snapshot of a foreign tokenizer"
    what = "CURRENT names a snapshot of another model's tokenizer; a right one at the end"

    def begin(self) -> None:
        self._refusals = _Rise(self.cluster.drafters, "strata_draft_corpus_refusals_total")
        self.cluster.corpora.publish_foreign()

    def sign(self) -> str:
        return self._refusals.sign()

    def end(self) -> None:
        _publish_and_wait(self.cluster)


class ForeignDraft(Fault):
    name = "draft service of a foreign tokenizer"
    what = "one draft service of three started with another model's corpus; put right at the end"

    def begin(self) -> None:
        self._member = self.cluster.drafters[1]
        self._member.restart({"--corpus": str(self.cluster.corpora.foreign_folder())})
        self._cut()

    def _cut(self) -> None:
        # Verifiers stay where they are; new streams go round.
        for one in self.cluster.proxies:
            one.cut()

    def sign(self) -> str:
        refused = self._member.now("strata_draft_streams_refused_total")
        if refused > 0:
            return f"strata_draft_streams_refused_total is {refused:.0f}"
        self._cut()
        return ""

    def end(self) -> None:
        self._member.restart()


class SnapshotSwapped(Fault):
    name = "snapshot swapped"
    what = "three snapshots published one after the other"

    def begin(self) -> None:
        self._swaps = _Rise(self.cluster.drafters, "strata_draft_corpus_swaps_total")
        for _ in range(3):
            _publish_and_wait(self.cluster)

    def sign(self) -> str:
        return self._swaps.sign()


class _ClockJump(Fault):
    seconds = 0.0

    def begin(self) -> None:
        for clock in self.cluster.clocks:
            clock.jump(self.seconds)

    def sign(self) -> str:
        service = self.cluster.verifiers[CLOCK_VERIFIER].service
        lines = service.whole_log().splitlines()
        written = datetime.datetime.fromisoformat(json.loads(lines[-1])["time"])
        off = (written - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
        return f"times in the log are {off:.0f} s off" if abs(off) > abs(self.seconds) / 2 else ""

    def end(self) -> None:
        for clock in self.cluster.clocks:
            clock.jump(0)
        # What is done at intervals must not wait until the old time comes again.
        _publish_and_wait(self.cluster)


class ClockAhead(_ClockJump):
    name = "clock jumps ahead"
    what = "the clock of a verify and a draft service jumps an hour ahead, and back at the end"
    seconds = 3600.0


class ClockBehind(_ClockJump):
    name = "clock jumps back"
    what = "the clock of a verify and a draft service jumps an hour back, and ahead at the end"
    seconds = -3600.0


class _Limit(Fault):
    """Lowers a limit of processes; the hard limit stays, so that it can be raised again."""

    limit = resource.RLIMIT_NOFILE

    def lower(self, member: Member, value: int) -> None:
        soft, hard = resource.prlimit(member.pid, self.limit)
        self._lowered.append((member.pid, soft, hard))
        resource.prlimit(member.pid, self.limit, (value, hard))

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._lowered: list[tuple[int, int, int]] = []

    def end(self) -> None:
        for pid, soft, hard in self._lowered:
            try:
                resource.prlimit(pid, self.limit, (soft, hard))
            except ProcessLookupError:
                pass
        for member in self.cluster.members:
            if member.service.process.poll() is not None:
                member.restart()


class FewDescriptors(_Limit):
    """Processes that met this limit are replaced: gRPC 1.51 gives up a listening port for good when
    accept fails for want of a descriptor, and a probe that cannot connect gets them restarted."""

    name = "no file descriptors left"
    what = ("RLIMIT_NOFILE of a verify and a draft service below what they have open; at the end "
            "raised, and both restarted with SIGTERM")

    def begin(self) -> None:
        self._members = [self.cluster.verifiers[0],
                         self.cluster.drafters[self.cluster.drafter_in_use()]]
        for member in self._members:
            self.lower(member, 8)

    def sign(self) -> str:
        return " and ".join(filter(None, map(_down, self._members)))

    def end(self) -> None:
        super().end()
        for member in self._members:
            code = member.service.terminate(seconds=120)
            assert code == 0, f"{member.name} ended with {code}: {member.service.log()}"
            member.restart()


class LittleMemory(_Limit):
    name = "memory limit"
    what = "RLIMIT_AS of a draft service at what it has; a new snapshot wants more"
    limit = resource.RLIMIT_AS

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        if harness.thread_sanitized():
            self.impossible = "the thread sanitizer ends a process whose address space is limited"

    def begin(self) -> None:
        self._member = self.cluster.drafters[self.cluster.drafter_in_use()]
        pages = int(Path(f"/proc/{self._member.pid}/statm").read_text(encoding="ascii").split()[0])
        self.lower(self._member, pages * resource.getpagesize())
        self._refusals = _Rise([self._member], "strata_draft_corpus_refusals_total")
        self._snapshot = self.cluster.corpora.publish_new()

    def sign(self) -> str:
        seen = self._refusals.sign() or _down(self._member)
        # What was freed before may be enough for one more.
        if not seen and _serves(self._member, self._snapshot):
            self._snapshot = self.cluster.corpora.publish_new()
        return seen

    def end(self) -> None:
        super().end()
        _publish_and_wait(self.cluster)


KINDS: list[type[Fault]] = [
    DraftKilled, DraftStopped, AllDraftsGone, DraftsReplaced, VerifyKilled, VerifyStopped,
    VerifiersRestarted, SlowNetwork, LossyNetwork, SilentNetwork, NetworkCut, FullDisk,
    DamagedCorpus, ForeignSnapshot, ForeignDraft, SnapshotSwapped, ClockAhead, ClockBehind,
    FewDescriptors, LittleMemory]
