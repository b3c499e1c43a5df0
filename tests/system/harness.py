"""Runs the real binaries as processes over loopback.

Paths come from the environment (tests/run.sh sets it): STRATA_BIN, STRATA_TEST_MODEL,
STRATA_TEST_MODEL_QWEN2, STRATA_TEST_DATA.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# services/client/exit_codes.h
SUCCESS = 0
USAGE_ERROR = 2
SERVICE_ERROR = 3
INTERRUPTED = 130

# Sanitizer builds on a busy machine are slow; a test that needs this long has hung.
START_SECONDS = 180.0
CALL_SECONDS = 300.0

# What a sanitizer build writes to a service's log.
SANITIZER_REPORTS = ("ThreadSanitizer:", "AddressSanitizer:", "LeakSanitizer:", ": runtime error:")


def environment_path(variable: str) -> Path:
    """The path in `variable`; fails, not skips, if it is unset or not there."""
    value = os.environ.get(variable)
    if not value:
        raise RuntimeError(f"{variable} is not set; run the tests with tests/run.sh")
    path = Path(value)
    if not path.exists():
        raise RuntimeError(f"{variable} is {value}, which does not exist")
    return path


def binary(name: str) -> str:
    return str(environment_path("STRATA_BIN") / name)


def thread_sanitized() -> bool:
    """Whether the binaries are built with the thread sanitizer."""
    return b"__tsan_init" in Path(binary("strata-draft")).read_bytes()


def sanitized() -> bool:
    """Whether they are built with one that keeps memory of its own, for each byte or freed block."""
    return thread_sanitized() or b"__asan_init" in Path(binary("strata-draft")).read_bytes()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:.0f} s still not: {what}")
        time.sleep(0.1)


class Service:
    """A strata-draft or strata-verify process that serves on `address`.

    `launcher` is a command that ends by executing its arguments; `environment` is added to.
    """

    def __init__(self, name: str, folder: Path, arguments: Sequence[str],
                 listen: str = "127.0.0.1:0", launcher: Sequence[str] = (),
                 environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._log_path = folder / f"{name}.{time.monotonic_ns()}.log"
        port_file = self._log_path.with_suffix(".port")
        self._stopped = False
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*launcher, binary(name), "--listen", listen, "--port-file", str(port_file),
                 *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})})
        try:
            wait_until(lambda: self._ready(port_file), f"{name} is ready", START_SECONDS)
        except BaseException:
            self.close()
            raise
        self.address = port_file.read_text(encoding="utf-8").strip()
        # A bare port is one of this machine's.
        if ":" not in self.address:
            self.address = f"127.0.0.1:{self.address}"

    def _ready(self, port_file: Path) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(
                f"{self.name} ended with {self.process.returncode} before it was ready:\n{self.log()}")
        return port_file.exists() and port_file.stat().st_size > 0

    def log(self) -> str:
        return self._log_path.read_text(encoding="utf-8", errors="replace")[-4000:]

    def whole_log(self) -> str:
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """As if the machine had gone."""
        self.process.kill()
        self.process.wait(30)

    def suspend(self) -> None:
        """Returns when it has stopped: on a busy machine the signal takes a while."""
        self.process.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.process.pid}/task")

        def stopped() -> bool:
            try:
                return all("State:\tT" in (task / "status").read_text(encoding="utf-8")
                           for task in tasks.iterdir())
            except FileNotFoundError:  # a thread has ended meanwhile
                return False

        wait_until(stopped, "the process has stopped")

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def terminate(self, seconds: float = 60.0) -> int:
        """SIGTERM; returns the exit code."""
        self.process.terminate()
        return self.process.wait(seconds)

    def close(self) -> None:
        """Whatever state it is in, it is gone afterwards. Fails if a sanitizer had found something."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(30)
        whole = self._log_path.read_text(encoding="utf-8", errors="replace")
        for report in SANITIZER_REPORTS:
            at = whole.find(report)
            assert at < 0, f"{self.name}: {whole[max(0, at - 200):at + 4000]}"

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start_draft(folder: Path, *arguments: str, listen: str = "127.0.0.1:0") -> Service:
    return Service("strata-draft", folder, arguments, listen)


def start_verify(folder: Path, *arguments: str, model: Path | None = None,
                 budget: str = "fixed") -> Service:
    """With the fixed budget every drafted node is verified, on a slow machine too."""
    model = model or environment_path("STRATA_TEST_MODEL")
    return Service("strata-verify", folder,
                   ["--model", str(model), "--draft-budget", budget, *arguments])


def run(name: str, *arguments: str, stdin: bytes = b"",
        seconds: float = CALL_SECONDS) -> subprocess.CompletedProcess[str]:
    """Runs a binary to its end. Never raises for an exit code."""
    result = subprocess.run([binary(name), *arguments], input=stdin, capture_output=True,
                            timeout=seconds, check=False)
    return subprocess.CompletedProcess(result.args, result.returncode,
                                       result.stdout.decode("utf-8", "replace"),
                                       result.stderr.decode("utf-8", "replace"))


def build_corpus(tokenizer: Path, text: Path, out: Path, *options: str) -> Path:
    result = run("strata-corpus", "build", "--tokenizer", str(tokenizer), "--out", str(out),
                 "--threads", "2", "--memory", "256", *options, str(text))
    assert result.returncode == 0, result.stderr
    return out


def strata(service: Service, command: Sequence[str], *arguments: str,
           stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    return run("strata", *command, "--address", service.address, *arguments, stdin=stdin)


def strata_json(service: Service, command: Sequence[str], *arguments: str) -> dict[str, Any]:
    result = strata(service, command, "--json", *arguments)
    assert result.returncode == SUCCESS, f"{result.stdout}\n{result.stderr}\n{service.log()}"
    answer = json.loads(result.stdout)
    assert isinstance(answer, dict)
    return answer


def generate(service: Service, prompt: str, *arguments: str) -> dict[str, Any]:
    return strata_json(service, ["generate"], *arguments, "--", prompt)


def info(service: Service) -> dict[str, Any]:
    return strata_json(service, ["info"])


def drafted_by(answer: dict[str, Any], tier: str) -> int:
    """How many nodes of the answer's trees the tier gave."""
    return sum(int(count["drafted"]) for count in answer["statistics"]["by_tier"]
               if count["tier"] == tier)


def drafted_remotely(answer: dict[str, Any]) -> int:
    """Nodes of tiers that only a draft service has: the verify service's fallback knows the
    context alone. Which of them gives a node depends on what was learned before."""
    return sum(drafted_by(answer, tier) for tier in ("model", "recycled", "corpus"))


class RunningGeneration:
    """A `strata generate` under way, whose text comes as the service sends it."""

    def __init__(self, services: Service | Sequence[Service], prompt: str,
                 *arguments: str) -> None:
        several = [services] if isinstance(services, Service) else services
        address = several[0].address if len(several) == 1 else (
            "ipv4:" + ",".join(service.address for service in several))
        self.process = subprocess.Popen(
            [binary("strata"), "generate", "--address", address, *arguments, "--", prompt],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self._text = b""

    def read_some(self, size: int = 40) -> None:
        """Returns when at least `size` bytes of the answer are here, and the call goes on."""
        assert self.process.stdout is not None
        while len(self._text) < size:
            chunk = self.process.stdout.read(size)
            assert chunk, f"the answer ended early: {self._text!r}, {self.finish()[2]}"
            self._text += chunk
        assert self.process.poll() is None, "the generation is already over: nothing to disturb"

    def finish(self) -> tuple[int, str, str]:
        """(exit code, text, standard error)."""
        out, error = self.process.communicate(timeout=CALL_SECONDS)
        return (self.process.returncode, (self._text + out).decode("utf-8", "replace"),
                error.decode("utf-8", "replace"))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def __enter__(self) -> RunningGeneration:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
