"""`strata bench load`: the counts add up, every figure is there, failures are counted."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness
import pytest

MODES = ["on", "off", "fixed"]
DISTRIBUTION = {"count", "mean", "p50", "p95", "p99", "max"}
LEVEL_FIGURES = {
    "mode", "requests", "succeeded", "failed", "failures", "seconds", "loaded_seconds", "tokens",
    "tokens_per_second", "loaded_tokens_per_second", "first_token_s", "per_token_s", "latency_s",
    "send_lag_s", "steps", "tokens_per_step", "drafted", "accepted", "draft_misses",
    "service_seconds", "step_seconds", "rounds"}
RATIOS = {"tokens_per_second", "loaded_tokens_per_second", "per_token_p95"}


def prompts() -> str:
    return str(harness.environment_path("STRATA_TEST_DATA") / "spec_bench_dev.jsonl")


def load_arguments(*arguments: str) -> list[str]:
    return ["--prompts", prompts(), "--limit", "3", *arguments]


def check_mode(mode: dict[str, Any], rounds: int, requests: int, tokens_each: int) -> None:
    """A mode at a level, all of whose requests succeeded."""
    assert set(mode) == LEVEL_FIGURES
    assert mode["requests"] == mode["succeeded"] == requests
    assert mode["failed"] == 0
    assert mode["failures"] == {}
    assert mode["tokens"] == requests * tokens_each
    assert mode["tokens_per_second"] == pytest.approx(mode["tokens"] / mode["seconds"])
    assert 0 < mode["loaded_seconds"] <= mode["seconds"]
    for name in ("first_token_s", "per_token_s", "latency_s", "send_lag_s"):
        figures = mode[name]
        assert set(figures) == DISTRIBUTION
        assert figures["count"] == requests
        assert 0 <= figures["p50"] <= figures["p95"] <= figures["p99"] <= figures["max"]
    assert mode["first_token_s"]["p50"] < mode["latency_s"]["p50"]
    assert mode["tokens_per_step"] == pytest.approx(mode["tokens"] / mode["steps"])
    assert mode["accepted"] <= mode["drafted"]
    assert mode["draft_misses"] == 0
    seconds = mode["service_seconds"]
    assert set(seconds) == {"prefill", "draft", "verify", "other", "total"}
    parts = sum(seconds[part] for part in ("prefill", "draft", "verify", "other"))
    assert parts == pytest.approx(seconds["total"], rel=0.01)
    assert mode["step_seconds"]["verify"] == pytest.approx(seconds["verify"] / mode["steps"])
    assert mode["step_seconds"]["draft"] == pytest.approx(seconds["draft"] / mode["steps"])
    assert len(mode["rounds"]) == rounds
    assert sum(part["requests"] for part in mode["rounds"]) == requests


def test_closed_loop(embedded: harness.Service, tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    result = harness.strata_json(
        embedded, ["bench", "load"],
        *load_arguments("--concurrency", "1,3", "--requests", "4", "--rounds", "2",
                        "--max-tokens", "10", "--ignore-eos", "--fixed-nodes", "4",
                        "--out", str(out)))
    assert json.loads(out.read_text(encoding="utf-8")) == result
    assert result["loop"] == "closed"
    assert result["modes"] == MODES
    assert result["fixed_nodes"] == 4
    assert result["rounds"] == 2
    assert result["prompts"] == 3
    assert result["max_tokens"] == 10
    assert result["service"]["draft_mode"] == "embedded"
    assert result["failed"] == 0
    assert result["requests"] == 2 * 3 * 2 * 4
    assert [level["concurrency"] for level in result["levels"]] == [1, 3]
    for level in result["levels"]:
        assert [mode["mode"] for mode in level["modes"]] == MODES
        for mode in level["modes"]:
            check_mode(mode, rounds=2, requests=8, tokens_each=10)
            assert mode["send_lag_s"]["max"] == 0
        on, off, fixed = level["modes"]
        assert off["drafted"] == 0
        assert 0 < fixed["drafted"] <= 4 * fixed["steps"]
        assert on["drafted"] > fixed["drafted"]
        assert [(ratio["mode"], ratio["over"]) for ratio in level["ratios"]] == [
            ("on", "off"), ("fixed", "off")]
        for ratio, mode in zip(level["ratios"], (on, fixed)):
            assert set(ratio) == RATIOS | {"mode", "over", "rounds"}
            assert ratio["tokens_per_second"] == pytest.approx(
                mode["tokens_per_second"] / off["tokens_per_second"])
            assert ratio["per_token_p95"] == pytest.approx(
                mode["per_token_s"]["p95"] / off["per_token_s"]["p95"])
            assert len(ratio["rounds"]) == 2
            assert all(set(each) == RATIOS for each in ratio["rounds"])


def test_open_loop(embedded: harness.Service) -> None:
    result = harness.strata_json(
        embedded, ["bench", "load"],
        *load_arguments("--rate", "4", "--requests", "6", "--modes", "off,on",
                        "--max-tokens", "8", "--ignore-eos"))
    assert result["loop"] == "open"
    assert result["arrival_seed"] == 1
    (level,) = result["levels"]
    assert level["rate"] == 4
    off, on = level["modes"]
    for mode in (off, on):
        check_mode(mode, rounds=1, requests=6, tokens_each=8)
    # The last arrival: both modes had the same ones.
    assert off["loaded_seconds"] == on["loaded_seconds"]


def test_a_table_for_people(embedded: harness.Service) -> None:
    result = harness.strata(embedded, ["bench", "load"], *load_arguments(
        "--concurrency", "2", "--seconds", "0.5", "--modes", "on,off", "--max-tokens", "4"))
    assert result.returncode == harness.SUCCESS, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "concurrency 2"
    assert [line.split()[0] for line in lines[2:5]] == ["on", "off", "on/off"]
    assert result.stderr == ""


def start_load(service: harness.Service, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [harness.binary("strata"), "bench", "load", "--address", service.address,
         *load_arguments(*arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_load(service: harness.Service) -> None:
    """Until requests hold KV pages."""
    total = harness.info(service)["kv_pages_total"]
    harness.wait_until(lambda: harness.info(service)["kv_pages_free"] < total,
                       "requests are under way")


LONG = ["--concurrency", "4", "--max-tokens", "1000", "--ignore-eos", "--modes", "off",
        "--warmup", "0"]


@pytest.mark.parametrize("extent", [["--requests", "12"], ["--seconds", "3"]],
                         ids=["requests", "seconds"])
def test_a_service_that_is_killed_yields_counted_failures(tmp_path: Path,
                                                          extent: Sequence[str]) -> None:
    out = tmp_path / "load.json"
    with harness.start_verify(tmp_path, "--draft", "off") as service:
        load = start_load(service, *LONG, *extent, "--json", "--out", str(out))
        wait_for_load(service)
        service.kill()
        stdout, stderr = load.communicate(timeout=harness.CALL_SECONDS)
    assert load.returncode == harness.SERVICE_ERROR, stderr
    result = json.loads(stdout)
    assert json.loads(out.read_text(encoding="utf-8")) == result
    (level,) = result["levels"]
    (mode,) = level["modes"]
    assert set(mode) == LEVEL_FIGURES
    assert mode["requests"] == mode["succeeded"] + mode["failed"] == result["requests"]
    assert mode["failed"] == sum(mode["failures"].values()) == result["failed"]
    assert mode["failures"]["UNAVAILABLE"] >= 4
    assert mode["latency_s"]["count"] == mode["succeeded"]
    if "--requests" in extent:
        assert mode["requests"] == 12
    else:
        # Those who are refused do not ask again in the same instant.
        assert mode["requests"] < 4 * (3 / 0.1 + 2)
    assert f"off: {mode['failed']} of {mode['requests']} requests failed" in stderr
    assert "UNAVAILABLE" in stderr


def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    result = harness.run("strata", "bench", "load", "--address", f"unix:{tmp_path}/nobody",
                         *load_arguments())
    assert result.returncode == harness.SERVICE_ERROR
    assert "UNAVAILABLE" in result.stderr


def test_ctrl_c_cancels_all_calls(tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    with harness.start_verify(tmp_path, "--draft", "off") as service:
        total = harness.info(service)["kv_pages_total"]
        load = start_load(service, *LONG, "--requests", "12", "--out", str(out))
        wait_for_load(service)
        load.send_signal(signal.SIGINT)
        stdout, stderr = load.communicate(timeout=harness.CALL_SECONDS)
        assert load.returncode == harness.INTERRUPTED
        assert (stdout, stderr) == ("", "strata: interrupted\n")
        assert not out.exists()
        harness.wait_until(lambda: harness.info(service)["kv_pages_free"] == total,
                           "the cancelled calls' KV pages are free")
        assert service.terminate() == 0, service.log()


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--concurrency", "0"], "--concurrency: '0' is not a whole number from 1 to 1024"),
    (["--concurrency", "2,x"], "--concurrency: 'x' is not"),
    (["--rate", "-1"], "--rate: '-1' is not a number greater than 0"),
    (["--modes", "on,fast"], "--modes: 'fast' is not on, off or fixed"),
    (["--concurrency", "8", "--requests", "4"], "4 requests never are 8 at a time"),
    (["--rate", "1", "--concurrency", "1"], "excludes"),
    (["--requests", "8", "--seconds", "1"], "excludes"),
    (["--arrival-seed", "1"], "requires --rate"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_bad_flags(arguments: list[str], sentence: str) -> None:
    result = harness.run("strata", "bench", "load", *load_arguments(*arguments))
    assert result.returncode == harness.USAGE_ERROR
    assert sentence in result.stderr
    assert result.stdout == ""
