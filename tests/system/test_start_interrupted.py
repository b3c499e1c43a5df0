"""SIGTERM and SIGINT while a service still starts: it ends at once, with 0, and leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import harness
import pytest

# Of a busy machine; loading the larger model takes longer than that alone.
PROMPT_SECONDS = 5.0


class Starting:
    """A service that is being started, until it is ready or gone."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self.log_path = folder / f"{name}.log"
        self.port_file = folder / f"{name}.port"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [harness.binary(name), "--listen", "127.0.0.1:0", "--port-file",
                 str(self.port_file), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def expect_prompt_end(self, number: signal.Signals) -> None:
        """Sends the signal; the service ends with 0 and was not ready before."""
        began = time.monotonic()
        self.process.send_signal(number)
        try:
            code = self.process.wait(harness.START_SECONDS)
        finally:
            self.close()
        assert code == 0, self.log()
        assert time.monotonic() - began < PROMPT_SECONDS, self.log()
        assert f"signal {int(number)}: stopped while starting" in self.log()
        assert "listening on" not in self.log()
        assert not self.port_file.exists()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)


def wait_for(service: Starting, condition: Callable[[], bool], what: str) -> None:
    try:
        harness.wait_until(lambda: condition() or service.process.poll() is not None, what)
        assert service.process.poll() is None, service.log()
    except BaseException:
        service.close()
        raise


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("delay", [0.0, 0.3, 1.0])
def test_verify_while_it_loads_the_model(tmp_path: Path, number: signal.Signals,
                                         delay: float) -> None:
    """At several moments: reading weights, in the self-check, measuring steps."""
    model = harness.environment_path("STRATA_TEST_MODEL_QWEN2")
    service = Starting(tmp_path, "strata-verify", "--model", str(model), "--draft", "embedded",
                       "--model-tier-dir", str(tmp_path / "tiers"))
    wait_for(service, lambda: f"loading {model}" in service.log(), "the model is being loaded")
    time.sleep(delay)
    service.expect_prompt_end(number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_draft_while_its_snapshot_does_not_come(tmp_path: Path, number: signal.Signals) -> None:
    """A disk that hangs: reading CURRENT never returns."""
    root = tmp_path / "corpus"
    root.mkdir()
    os.mkfifo(root / "CURRENT")
    service = Starting(tmp_path, "strata-draft", "--corpus", str(root))
    time.sleep(1.0)
    assert service.process.poll() is None, service.log()
    service.expect_prompt_end(number)


def test_draft_while_it_loads_model_tiers(tmp_path: Path) -> None:
    """Whoever opens a file that another has a lease on waits until it is given back."""
    tiers = tmp_path / "tiers"
    tiers.mkdir()
    (tiers / "model-hangs.tier").write_bytes(b"x")
    asked: list[int] = []
    before = signal.signal(signal.SIGIO, lambda number, frame: asked.append(number))
    lease = os.open(tiers / "model-hangs.tier", os.O_RDWR)
    try:
        fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        service = Starting(tmp_path, "strata-draft", "--model-tier-dir", str(tiers))
        wait_for(service, lambda: bool(asked), "the service opens the tier")
        service.expect_prompt_end(signal.SIGTERM)
    finally:
        os.close(lease)
        signal.signal(signal.SIGIO, before)
    # Not renamed, nor replaced.
    assert (tiers / "model-hangs.tier").read_bytes() == b"x"


def test_a_start_that_was_interrupted_can_be_repeated(tmp_path: Path) -> None:
    service = Starting(tmp_path, "strata-verify", "--model",
                       str(harness.environment_path("STRATA_TEST_MODEL")))
    wait_for(service, lambda: "loading" in service.log(), "the model is being loaded")
    service.expect_prompt_end(signal.SIGTERM)
    with harness.start_verify(tmp_path) as verify:
        assert harness.generate(verify, "Once upon a time", "--max-tokens", "4")["token_ids"]
        assert verify.terminate() == 0, verify.log()
