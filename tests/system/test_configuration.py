"""Flags, environment and file make one configuration: which wins, what is refused, what is printed.

Nothing here loads a model: what is wrong in a configuration, and what it is, shows before.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import harness
import pytest

DRAFT, VERIFY = "strata-draft", "strata-verify"
PREFIX = {DRAFT: "STRATA_DRAFT_", VERIFY: "STRATA_VERIFY_"}
# What each needs; the folder is not looked at.
REQUIRED = {DRAFT: [], VERIFY: ["--model", "/nowhere/model"]}


def call(name: str, *arguments: str | bytes, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a service with these variables and none else of Strata's."""
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(tuple(PREFIX.values()))}
    return subprocess.run([harness.binary(name), *arguments], env={**environment, **variables},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=harness.CALL_SECONDS, check=False)


def printed(name: str, *arguments: str, **variables: str) -> dict[str, str]:
    """The configuration, as --print-config tells it."""
    result = call(name, *REQUIRED[name], *arguments, "--print-config", **variables)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return dict(line.split(": ", 1) for line in result.stdout.splitlines()
                if not line.startswith("#"))


def refused(name: str, *arguments: str | bytes, **variables: str) -> str:
    """The first line of what is said about it."""
    result = call(name, *arguments, **variables)
    assert result.returncode == harness.USAGE_ERROR, (result.stdout, result.stderr)
    assert result.stdout == ""
    return result.stderr.splitlines()[0]


def write(folder: Path, text: str | bytes) -> str:
    path = folder / "strata.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


@pytest.mark.parametrize("name", [DRAFT, VERIFY])
def test_flags_then_environment_then_file_then_defaults(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, "drain-seconds: 11\nlog_level: error\nmodel-tier-bytes: 512MB\n"
                           "save-interval: 77\n")
    variables = {PREFIX[name] + "DRAIN_SECONDS": "12", PREFIX[name] + "LOG_LEVEL": "warn"}
    assert printed(name)["log-level"] == "info"
    config = printed(name, "--config", path, "--drain-seconds", "13", **variables)
    assert config["drain-seconds"] == "13"
    assert config["log-level"] == "warn"
    assert config["save-interval"] == "77"
    assert config["model-tier-bytes"] == str(512 << 20)
    assert config["max-message-mb"] == "16"
    # The environment can name the file, the command line another.
    assert printed(name, **{PREFIX[name] + "CONFIG": path})["drain-seconds"] == "11"
    assert refused(name, "--config", str(tmp_path / "other"), **{PREFIX[name] + "CONFIG": path})


def test_a_flag_that_says_no_says_it_from_everywhere(tmp_path: Path) -> None:
    path = write(tmp_path, "no-self-check: true\n")
    variable = {"STRATA_VERIFY_NO_SELF_CHECK": "false"}
    assert printed(VERIFY)["no-self-check"] == "false"
    assert printed(VERIFY, "--no-self-check")["no-self-check"] == "true"
    assert printed(VERIFY, "--config", path)["no-self-check"] == "true"
    assert printed(VERIFY, "--config", path, **variable)["no-self-check"] == "false"


@pytest.mark.parametrize("name", [DRAFT, VERIFY])
def test_what_is_printed_is_read_back_as_the_same(name: str, tmp_path: Path) -> None:
    plain = call(name, *REQUIRED[name], "--print-config")
    path = write(tmp_path, plain.stdout)
    # Nothing but the file: it holds the required options too.
    assert call(name, "--config", path, "--print-config").stdout == plain.stdout
    changed = call(name, "--config", path, "--policy", "locality", "--listen", "unix:/run/a #b",
                   "--model-tier-bytes", "64MB", "--model-tier-dir", "x: [y]", "--print-config")
    assert changed.returncode == 0, changed.stderr
    assert "policy: locality\n" in changed.stdout
    path = write(tmp_path, changed.stdout)
    assert call(name, "--config", path, "--print-config").stdout == changed.stdout


@pytest.mark.parametrize("name", [DRAFT, VERIFY])
def test_every_option_of_the_help_is_printed(name: str) -> None:
    options = set(re.findall(r"^ +(?:-\w,)?--([a-z0-9-]+)", call(name, "--help").stdout, re.M))
    assert "listen" in options
    result = call(name, *REQUIRED[name], "--print-config")
    keys = set(re.findall(r"^(?:# )?([a-z0-9-]+):", result.stdout, re.M))
    assert keys == options - {"help", "version", "config", "print-config"}


def test_derived_values_are_printed() -> None:
    config = printed(VERIFY, "--draft-address", "127.0.0.1:1", "--max-batch", "4",
                     "--max-queue", "10")
    assert config["draft"] == "remote"
    assert config["serving-threads"] == "30"


@pytest.mark.parametrize(("name", "arguments", "nearest"), [
    (DRAFT, ["--corpsu", "/c"], "--corpsu; the nearest known one is --corpus"),
    (DRAFT, ["--corpsu=/c"], "--corpsu; the nearest known one is --corpus"),
    (VERIFY, ["--model", "/m", "--kv-token", "512"],
     "--kv-token; the nearest known one is --kv-tokens"),
])
def test_an_unknown_option_is_refused_with_the_nearest(name: str, arguments: list[str],
                                                       nearest: str) -> None:
    assert refused(name, *arguments) == f"unknown option {nearest}"
    assert "not expected" in refused(name, *(["--model", "/m"] if name == VERIFY else []), "stray")


def test_what_does_not_go_together_is_refused() -> None:
    assert "--no-self-check leaves out" in refused(VERIFY, "--model", "/m", "--require-exact",
                                                   "--no-self-check")
    assert "goes with an address of this machine" in refused(
        VERIFY, "--model", "/m", "--auth-tokens", "/t", "--channelz", "--insecure-auth",
        "--listen", "0.0.0.0:0")


@pytest.mark.parametrize(("name", "text", "expected"), [
    (VERIFY, "model: /m\nkv-token: 512\n",
     "2: kv-token: unknown key; the nearest known one is kv-tokens"),
    (DRAFT, "corpsu: /c\n", "1: corpsu: unknown key; the nearest known one is corpus"),
    (VERIFY, "kv-tokens: 5\n", "1: kv-tokens: Value 5 not in range 16 to 4294967296"),
    (DRAFT, "policy: best\n", "1: policy: best not in {calibrated,locality}"),
    (DRAFT, "corpus: a\n\ncorpus: b\n", "3: corpus: set already in line 1"),
    (DRAFT, "corpus: [a]\n", "1: corpus: takes one value, not a list"),
    (DRAFT, "serving:\n  listen: a:1\n", "2: 'serving' has a map of its own"),
    (DRAFT, "corpus: &c /c\ntokenizer-fingerprint: *c\n", "1: YAML anchors and aliases"),
    (DRAFT, "corpus:\n", "1: 'corpus' has no value"),
    (DRAFT, "corpus = 5\n", "1: the file must consist of lines 'key: value'"),
    (DRAFT, b"corpus: \xff\n", " is not UTF-8 text"),
    (DRAFT, b"corpus: a\x00b\n", " holds a NUL byte"),
    (DRAFT, "#" * 70000, " is longer than 65536 bytes"),
    (DRAFT, "[" * 60000, "1: a list cannot be a key"),
])
def test_a_wrong_file_is_refused(name: str, text: str | bytes, expected: str,
                                 tmp_path: Path) -> None:
    path = write(tmp_path, text)
    assert refused(name, "--config", path).startswith(f"{path}:{expected}")
    # Help is given all the same.
    assert call(name, "--config", path, "--help").returncode == 0


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "is a folder, not a file" in refused(DRAFT, "--config", str(tmp_path))
    assert str(tmp_path / "none") in refused(DRAFT, "--config", str(tmp_path / "none"))
    assert "/dev/zero: is longer than" in refused(DRAFT, "--config", "/dev/zero")


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert printed(DRAFT, "--config", write(tmp_path, "")) == printed(DRAFT)
    assert printed(DRAFT, "--config", "/dev/null") == printed(DRAFT)


def test_wrong_variables_are_refused() -> None:
    # The misspelt variable is named, not the option that is missing for it.
    assert refused(VERIFY, STRATA_VERIFY_MODLE="/m") == (
        "unknown environment variable STRATA_VERIFY_MODLE; "
        "the nearest known one is STRATA_VERIFY_MODEL")
    assert refused(DRAFT, STRATA_DRAFT_DRAIN_SECONDS="-1").startswith(
        "environment variable STRATA_DRAFT_DRAIN_SECONDS: Value -1 not in range")
    assert call(VERIFY, "--help", STRATA_VERIFY_MODLE="/m").returncode == 0


@pytest.mark.parametrize("name", [DRAFT, VERIFY])
def test_what_others_set_does_not_matter(name: str) -> None:
    links: dict[str, str] = {}
    for prefix, port in (("STRATA_DRAFT_", "50051"), ("STRATA_VERIFY_", "50061"),
                         ("STRATA_VERIFY_CANARY_", "50061")):
        tcp = f"{prefix}PORT_{port}_TCP"
        url = f"tcp://10.0.0.11:{port}"
        links |= {f"{prefix}SERVICE_HOST": "10.0.0.11", f"{prefix}SERVICE_PORT": port,
                  f"{prefix}SERVICE_PORT_GRPC": port, f"{prefix}PORT": url, tcp: url,
                  f"{tcp}_PROTO": "tcp", f"{tcp}_PORT": port, f"{tcp}_ADDR": "10.0.0.11"}
    others = {"STRATA_CACHE": "/c", "STRATA_BIN": "/b", "STRATA_TEST_MODEL": "/m",
              "STRATA_TORCH": "t"}
    assert printed(name, **links, **others) == printed(name)


def test_options_are_checked_together_whatever_their_source(tmp_path: Path) -> None:
    path = write(tmp_path, "model: /m\ndraft: remote\n")
    assert refused(VERIFY, "--config", path, "--print-config") == (
        "--draft: remote needs --draft-address")
    assert refused(VERIFY, "--config", path, "--corpus", "/c", "--print-config",
                   STRATA_VERIFY_DRAFT_ADDRESS="a:1").startswith("--corpus, --model-tier-dir: ")


def test_required_options_are_missed_by_print_config_too() -> None:
    assert refused(VERIFY, "--print-config") == "--model is required"
    assert printed(VERIFY, STRATA_VERIFY_MODEL="/other")["model"] == "/nowhere/model"
    assert call(VERIFY, "--print-config", STRATA_VERIFY_MODEL="/m").returncode == 0


def test_a_service_starts_from_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, "drain-seconds: 1\nmax-sequences: 10\nlog-level: info\n")
    with harness.start_draft(tmp_path, "--config", path) as service:
        assert service.terminate() == 0, service.log()
