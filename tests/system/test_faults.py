"""Faults under load: no request fails while a verify service is well, no token changes, the operator
sees it, and drafting recovers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import harness
import mixed_load
import pytest
from faults import kinds, trial
from faults.cluster import Cluster, build_corpora

CLIENTS = 3
SECONDS = 1.0

Expected = dict[mixed_load.Request, list[int]]


@pytest.fixture(scope="module")
def cluster(corpus_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("faults")
    model = harness.environment_path("STRATA_TEST_MODEL")
    foreign_model = harness.environment_path("STRATA_TEST_MODEL_QWEN2")
    running = Cluster(folder, model,
                      build_corpora(model, foreign_model, corpus_text, folder / "built"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def expected(cluster: Cluster) -> Expected:
    requests = mixed_load.make_requests(
        harness.environment_path("STRATA_TEST_DATA") / "spec_bench_dev.jsonl", 6, 24, seed=5)
    return mixed_load.plain_answers(cluster.verifiers[0].service, requests)


@pytest.mark.parametrize("kind", kinds.KINDS, ids=[kind.name for kind in kinds.KINDS])
def test_a_fault_costs_no_request(kind: type[kinds.Fault], cluster: Cluster,
                                  expected: Expected) -> None:
    fault = kind(cluster)
    if fault.impossible:
        pytest.skip(fault.impossible)
    result = trial.run(fault, expected, CLIENTS, SECONDS, seed=1)
    print(result)
    assert result.first_failures == []
    assert result.first_changes == []
    assert result.requests >= 2 * CLIENTS
