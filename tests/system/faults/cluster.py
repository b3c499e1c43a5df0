"""Two verify and three draft services on one corpus, each of which can be started again."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import harness
import metrics
from faults import proxy

VERIFIERS = 2
DRAFTERS = 3
# The processes of each kind that see a clock of their own.
CLOCK_VERIFIER, CLOCK_DRAFTER = 1, 2
# Of the file system where a draft service saves what it learns.
DISK = "1m"
# Long for a network on one machine: a busy machine is no fault.
DRAFT_DEADLINE_MS = 100

Result = TypeVar("Result")


def together(work: Iterable[Callable[[], Result]]) -> list[Result]:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return [future.result() for future in [pool.submit(one) for one in work]]


class Clock:
    """What strata_clock_jump.so (clock_jump.cc) adds to the clock of a process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(struct.pack("q", 0))
        library = harness.environment_path("STRATA_BIN") / "strata_clock_jump.so"
        self.environment = {"LD_PRELOAD": str(library), "STRATA_CLOCK_FILE": str(path),
                            # The library stands before the sanitizer's, and needs none of it.
                            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")
                            + ":verify_asan_link_order=0"}

    def jump(self, seconds: float) -> None:
        """To `seconds` from the machine's time."""
        with self._path.open("r+b") as file:
            file.write(struct.pack("q", int(seconds * 1e9)))


class Member:
    """A service of the cluster. Whatever becomes of the process, the next is at the same address."""

    def __init__(self, name: str, binary: str, folder: Path, arguments: Sequence[str],
                 launcher: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._binary = binary
        self._folder = folder
        self._arguments = list(arguments)
        self._launcher = launcher
        self._environment = environment
        self._endpoint = metrics.Endpoint(folder, name)
        self._listen = "127.0.0.1:0"
        self.service = self._start(self._arguments)
        self._listen = self.service.address

    def _start(self, arguments: Sequence[str]) -> harness.Service:
        return harness.Service(self._binary, self._folder,
                               [*arguments, *self._endpoint.arguments], self._listen,
                               self._launcher, self._environment)

    @property
    def address(self) -> str:
        return self._listen

    @property
    def pid(self) -> int:
        return self.service.process.pid

    def restart(self, replaced: Mapping[str, str] | None = None) -> None:
        """Ends the process if it still runs; `replaced`: options that have other values now."""
        arguments = list(self._arguments)
        for option, value in (replaced or {}).items():
            arguments[arguments.index(option) + 1] = value
        self.service.close()
        self.service = self._start(arguments)

    def scrape(self, seconds: float = 60) -> metrics.Scrape | None:
        """None if it does not answer, as Prometheus would see it."""
        try:
            return self._endpoint.scrape(seconds)
        except OSError:
            return None

    def now(self, metric: str) -> float:
        """Over all labels; 0 from a service that does not answer."""
        found = self.scrape()
        return 0.0 if found is None else found.total(metric)


@dataclasses.dataclass(frozen=True)
class BuiltCorpora:
    good: Path
    # Of the same text and tokenizer, with other rows.
    pruned: Path
    # Of another model's tokenizer.
    foreign: Path


def build_corpora(model: Path, foreign_model: Path, text: Path, folder: Path) -> BuiltCorpora:
    return BuiltCorpora(
        harness.build_corpus(model, text, folder / "good"),
        harness.build_corpus(model, text, folder / "pruned", "--prune-count", "3"),
        harness.build_corpus(foreign_model, text, folder / "foreign"))


def damage(snapshot: Path) -> None:
    """Flips bytes of many of a snapshot's rows. It can be opened still."""
    for table in (snapshot / "rocksdb").glob("*.sst"):
        table.chmod(0o644)
        # Behind the rows is what RocksDB reads when it opens the file.
        end = table.stat().st_size // 2
        with table.open("r+b") as file:
            for at in range(512, end, 1024):
                file.seek(at)
                byte = file.read(1)
                file.seek(at)
                file.write(bytes([byte[0] ^ 0x5A]))


class Corpora:
    """The folder that all drafters open, with snapshots to move to."""

    def __init__(self, root: Path, built: BuiltCorpora) -> None:
        self.root = root
        self._good = self._snapshot(built.good)
        self._pruned = self._snapshot(built.pruned)
        self._foreign = self._snapshot(built.foreign)
        self._count = 0
        root.mkdir(parents=True)
        self.publish_new()

    @staticmethod
    def _snapshot(folder: Path) -> Path:
        return folder / (folder / "CURRENT").read_text(encoding="utf-8").strip()

    def publish_new(self) -> str:
        """A snapshot that no service has opened yet, of the same contents; returns its name."""
        return self._publish(self._good)

    def publish_damaged(self) -> str:
        """One with other rows, many of them damaged. Of those of publish_new a service
        may have all in memory: its block cache knows a table by its contents, whatever the
        snapshot."""
        return self._publish(self._pruned, damage)

    def publish_foreign(self) -> str:
        """Of another model's tokenizer."""
        return self._publish(self._foreign)

    def foreign_folder(self) -> Path:
        return self._foreign

    def _publish(self, source: Path, change: Callable[[Path], None] = lambda _: None) -> str:
        self._count += 1
        name = f"snapshot-{self._count}"
        shutil.copytree(source, self.root / name)
        change(self.root / name)
        written = self.root / "CURRENT.new"
        written.write_text(name + "\n", encoding="utf-8")
        written.rename(self.root / "CURRENT")
        return name


def small_disk(folder: Path) -> list[str]:
    """Launches a process that alone sees a small file system at `folder`."""
    folder.mkdir(parents=True)
    return ["unshare", "--mount", "sh", "-c",
            f'mount -t tmpfs -o size={DISK} tmpfs "$0" && exec "$@"', str(folder)]


def can_mount() -> bool:
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class Cluster:
    """Every connection between a verifier and a drafter goes through a proxy of the drafter's."""

    def __init__(self, folder: Path, model: Path, built: BuiltCorpora) -> None:
        self._closing = contextlib.ExitStack()
        try:
            self._start(folder, model, built)
        except BaseException:
            self.close()
            raise

    def _start(self, folder: Path, model: Path, built: BuiltCorpora) -> None:
        self.corpora = Corpora(folder / "corpora", built)
        self.clocks = [Clock(folder / name) for name in ("verify.clock", "draft.clock")]
        self.has_small_disk = can_mount()
        self.tier_folders = [folder / f"draft-{i}" / "tiers" for i in range(DRAFTERS)]
        self.drafters = together([lambda i=i: self._drafter(folder, i) for i in range(DRAFTERS)])
        self.proxies = [proxy.Proxy(member.address, seed)
                        for seed, member in enumerate(self.drafters)]
        for one in self.proxies:
            self._closing.callback(one.close)
        drafts = "ipv4:" + ",".join(one.address for one in self.proxies)
        self.verifiers = together([lambda i=i: self._verifier(folder, i, model, drafts)
                                   for i in range(VERIFIERS)])

    def _add(self, member: Member) -> Member:
        self._closing.callback(lambda: member.service.close())
        return member

    def _drafter(self, folder: Path, number: int) -> Member:
        name = f"draft-{number}"
        tiers = self.tier_folders[number]
        return self._add(Member(
            name, "strata-draft", folder / name,
            ["--corpus", str(self.corpora.root), "--corpus-poll", "0.2", "--block-cache-mb", "1",
             "--model-tier-dir", str(tiers), "--save-interval", "0.5", "--log-format", "json"],
            small_disk(tiers) if self.has_small_disk else (),
            self.clocks[1].environment if number == CLOCK_DRAFTER else None))

    def _verifier(self, folder: Path, number: int, model: Path, drafts: str) -> Member:
        name = f"verify-{number}"
        return self._add(Member(
            name, "strata-verify", folder / name,
            ["--model", str(model), "--draft-address", drafts, "--draft-deadline-ms",
             str(DRAFT_DEADLINE_MS), "--draft-budget", "fixed", "--threads", "1", "--kv-tokens",
             "4096", "--max-batch", "8", "--log-format", "json"],
            environment=self.clocks[0].environment if number == CLOCK_VERIFIER else None))

    @property
    def members(self) -> list[Member]:
        return [*self.verifiers, *self.drafters]

    def addresses(self, first: int) -> str:
        """All verify services for a client, beginning with one."""
        order = [self.verifiers[(first + i) % VERIFIERS].address for i in range(VERIFIERS)]
        return "ipv4:" + ",".join(order)

    def drafter_in_use(self) -> int:
        """One that a verifier has a stream to."""
        found = -1

        def look() -> bool:
            nonlocal found
            for number, member in enumerate(self.drafters):
                if member.now("strata_draft_streams_open") > 0:
                    found = number
                    return True
            return False

        harness.wait_until(look, "a verifier has a stream to a drafter")
        return found

    def close(self) -> None:
        self._closing.close()
