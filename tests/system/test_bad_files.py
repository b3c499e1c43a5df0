"""Damaged models and corpora: no start, exit code 1, and one sentence that names what is wrong."""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import pytest

START_FAILED = 1
WEIGHTS = "model.safetensors"


def copy_model(folder: Path) -> Path:
    """The test model's folder, its files as links."""
    folder.mkdir()
    for file in harness.environment_path("STRATA_TEST_MODEL").iterdir():
        (folder / file.name).symlink_to(file.resolve())
    return folder


def replace(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def edit_config(model: Path, **changes: Any) -> None:
    path = model / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.update(changes)
    replace(path, json.dumps(config).encode())


def truncate(path: Path, size: int) -> None:
    with path.open("rb") as file:
        content = file.read(size)
    replace(path, content)


def drop_last_tensor(model: Path) -> None:
    """A whole file in which one tensor is missing."""
    path = model / WEIGHTS
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + length])
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    last = max(tensors, key=lambda name: tensors[name]["data_offsets"][1])
    begin, _ = tensors.pop(last)["data_offsets"]
    packed = json.dumps(tensors).encode()
    data = content[8 + length:8 + length + begin]
    replace(path, struct.pack("<Q", len(packed)) + packed + data)


# name: (what is done to the model folder, what the message must match)
MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda m: (m / "config.json").unlink(), r"config\.json"),
    "config is not JSON": (lambda m: replace(m / "config.json", b"{"), r"config\.json"),
    "config is a list": (lambda m: replace(m / "config.json", b"[]"), r"config\.json"),
    "no weights": (lambda m: (m / WEIGHTS).unlink(), r"safetensors"),
    "empty weights": (lambda m: replace(m / WEIGHTS, b""), re.escape(WEIGHTS)),
    "weights cut in the header": (lambda m: truncate(m / WEIGHTS, 1000), re.escape(WEIGHTS)),
    "weights cut in the data": (lambda m: truncate(m / WEIGHTS, 1 << 20), re.escape(WEIGHTS)),
    "weights with a header of 2^63 bytes": (
        lambda m: replace(m / WEIGHTS, struct.pack("<Q", 1 << 63) + b"{}"), re.escape(WEIGHTS)),
    "a tensor is missing": (drop_last_tensor, r"safetensors|tensor"),
    "shapes do not fit": (lambda m: edit_config(m, hidden_size=1024), r"shape|size|\["),
    "more layers than weights": (
        lambda m: edit_config(m, num_hidden_layers=1000), r"layers\.\d+|num_hidden_layers"),
    "heads do not divide": (
        lambda m: edit_config(m, num_key_value_heads=7), r"num_key_value_heads|heads"),
    "negative size": (lambda m: edit_config(m, hidden_size=-1), r"hidden_size"),
    "size of a wrong type": (lambda m: edit_config(m, hidden_size="big"), r"hidden_size"),
    "vocabulary of another size": (
        lambda m: edit_config(m, vocab_size=1000), r"vocab|embed_tokens|shape"),
    "unknown architecture": (
        lambda m: edit_config(m, architectures=["FooForCausalLM"], model_type="foo"),
        r"FooForCausalLM|foo"),
    "no tokenizer": (lambda m: (m / "tokenizer.json").unlink(), r"tokenizer\.json"),
    "tokenizer is not JSON": (
        lambda m: replace(m / "tokenizer.json", b"not json"), r"tokenizer\.json"),
    "tokenizer cut": (lambda m: truncate(m / "tokenizer.json", 100000), r"tokenizer\.json"),
}


def expect_no_start(name: str, arguments: list[str], message: str) -> None:
    result = harness.run(name, "--listen", "127.0.0.1:0", *arguments, seconds=harness.START_SECONDS)
    said = result.stderr + result.stdout
    assert result.returncode == START_FAILED, f"{result.returncode}: {said}"
    assert re.search(message, said), said
    assert "listening on" not in said


@pytest.mark.parametrize("damage,message", MODELS.values(), ids=MODELS.keys())
def test_damaged_model(damage: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    model = copy_model(tmp_path / "model")
    damage(model)
    expect_no_start("strata-verify", ["--model", str(model), "--draft", "off"], message)


def test_no_model_folder(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    expect_no_start("strata-verify", ["--model", str(missing), "--draft", "off"],
                    re.escape(str(missing)))


def snapshot_copy(corpus: Path, out: Path) -> tuple[Path, Path]:
    """(root, snapshot) of a copy."""
    shutil.copytree(corpus, out)
    manifests = list(out.rglob("manifest.json"))
    assert len(manifests) == 1
    return out, manifests[0].parent


def remove_manifest(snapshot: Path) -> None:
    """As a build leaves it that was interrupted: the manifest is written last."""
    (snapshot / "manifest.json").unlink()


def largest_file(snapshot: Path) -> Path:
    return max((f for f in snapshot.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


def remove_largest(snapshot: Path) -> None:
    largest_file(snapshot).unlink()


def cut_largest(snapshot: Path) -> None:
    path = largest_file(snapshot)
    truncate(path, path.stat().st_size // 2)


def cut_manifest(snapshot: Path) -> None:
    truncate(snapshot / "manifest.json", 40)


@pytest.mark.parametrize("damage", [remove_manifest, remove_largest, cut_largest, cut_manifest])
def test_damaged_snapshot(damage: Callable[[Path], None], corpus: Path, tmp_path: Path) -> None:
    root, snapshot = snapshot_copy(corpus, tmp_path / "copy")
    damage(snapshot)
    expect_no_start("strata-draft", ["--corpus", str(root)], r"corpus|snapshot|manifest")
    expect_no_start("strata-verify", ["--model", str(harness.environment_path("STRATA_TEST_MODEL")),
                                      "--draft", "embedded", "--corpus", str(root)],
                    r"corpus|snapshot|manifest")
    result = harness.run("strata-corpus", "verify", str(root))
    assert result.returncode == START_FAILED
    assert result.stderr.startswith("strata-corpus: ")


def test_one_wrong_byte_is_found(corpus: Path, tmp_path: Path) -> None:
    root, snapshot = snapshot_copy(corpus, tmp_path / "copy")
    whole = harness.run("strata-corpus", "verify", str(root))
    assert whole.returncode == 0, whole.stderr
    path = largest_file(snapshot)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    replace(path, bytes(content))
    result = harness.run("strata-corpus", "verify", str(root))
    assert result.returncode == START_FAILED
    assert "DATA_LOSS" in result.stderr


def test_corpus_of_another_tokenizer(foreign_corpus: Path) -> None:
    expect_no_start("strata-verify", ["--model", str(harness.environment_path("STRATA_TEST_MODEL")),
                                      "--draft", "embedded", "--corpus", str(foreign_corpus)],
                    r"tokenizer")


def test_no_corpus_folder(tmp_path: Path) -> None:
    expect_no_start("strata-draft", ["--corpus", str(tmp_path / "nowhere")], r"nowhere")


@pytest.mark.parametrize("name,arguments", [
    ("strata-draft", ["--no-such-flag"]),
    ("strata-draft", ["--chains", "0"]),
    ("strata-verify", []),
    ("strata-verify", ["--model", "x", "--dtype", "int3"]),
    ("strata-verify", ["--model", "x", "--draft", "remote"]),
    ("strata-verify", ["--model", "x", "--draft", "off", "--draft-address", "127.0.0.1:1"]),
    ("strata", []),
    ("strata", ["bench", "exact"]),
    ("strata", ["generate", "--top-k", "-5", "x"]),
    ("strata-corpus", ["build"]),
])
def test_wrong_usage(name: str, arguments: list[str]) -> None:
    result = harness.run(name, *arguments)
    assert result.returncode == harness.USAGE_ERROR, result.stderr
    assert result.stderr + result.stdout != ""


def test_an_address_in_use(draft: harness.Service) -> None:
    result = harness.run("strata-draft", "--listen", draft.address)
    assert result.returncode == START_FAILED
    assert draft.address in result.stderr
