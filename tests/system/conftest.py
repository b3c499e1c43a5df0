"""Fixtures: one small corpus, one draft service and one verify service a mode."""

from __future__ import annotations

import itertools
import lzma
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest

CORPUS_DOCUMENTS = 400


@pytest.fixture(scope="session")
def corpus_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first documents of the test corpus."""
    path = tmp_path_factory.mktemp("text") / "corpus.jsonl"
    source = harness.environment_path("STRATA_TEST_DATA") / "corpus.jsonl.xz"
    with lzma.open(source, "rb") as packed, path.open("wb") as out:
        out.writelines(itertools.islice(packed, CORPUS_DOCUMENTS))
    return path


@pytest.fixture(scope="session")
def corpus(corpus_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return harness.build_corpus(harness.environment_path("STRATA_TEST_MODEL"), corpus_text,
                                tmp_path_factory.mktemp("corpus") / "smollm2")


@pytest.fixture(scope="session")
def foreign_corpus(corpus_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made with another model's tokenizer."""
    return harness.build_corpus(harness.environment_path("STRATA_TEST_MODEL_QWEN2"), corpus_text,
                                tmp_path_factory.mktemp("corpus") / "qwen2")


@pytest.fixture(scope="module")
def draft(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Service]:
    with harness.start_draft(tmp_path_factory.mktemp("draft"), "--corpus", str(corpus)) as service:
        yield service


@pytest.fixture(scope="module")
def embedded(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Service]:
    """A verify service that drafts in its own process."""
    with harness.start_verify(tmp_path_factory.mktemp("verify"), "--draft", "embedded",
                              "--corpus", str(corpus)) as service:
        yield service
