"""Drafting changes no token: remote, embedded or off, greedy or sampled, any tree budget."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import harness
import pytest

PROMPTS = 3
MAX_TOKENS = 32
BUDGETS = (4, 16, 28)

SAMPLING = {
    "greedy": [],
    "sampled": ["--temperature", "0.8", "--seed", "1234"],
    "top-p and penalties": ["--temperature", "1", "--top-p", "0.9", "--repetition-penalty", "1.1",
                            "--presence-penalty", "0.3", "--frequency-penalty", "0.2",
                            "--seed", "7"],
}


NUMBERS = {"bf16": ["--dtype", "bf16"], "fp32": ["--dtype", "fp32"],
           "int8": ["--weights", "int8"]}


class Verifier(NamedTuple):
    mode: str
    budget: str
    service: harness.Service


@pytest.fixture(scope="module", params=["remote bf16 fixed", "embedded bf16 fixed",
                                        "off bf16 fixed", "remote fp32 fixed",
                                        "embedded fp32 fixed", "off fp32 fixed",
                                        "embedded bf16 measured", "embedded int8 fixed"])
def verifier(request: pytest.FixtureRequest, corpus: Path, draft: harness.Service,
             tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verifier]:
    mode, numbers, budget = request.param.split()
    arguments = {"remote": ["--draft-address", draft.address, "--draft-deadline-ms", "500"],
                 "embedded": ["--draft", "embedded", "--corpus", str(corpus)],
                 "off": ["--draft", "off"]}[mode]
    with harness.start_verify(tmp_path_factory.mktemp("verify"), *arguments,
                              *NUMBERS[numbers], budget=budget) as service:
        yield Verifier(mode, budget, service)


@pytest.mark.parametrize("sampling", SAMPLING.values(), ids=SAMPLING.keys())
def test_bench_exact_finds_no_difference(verifier: Verifier, sampling: list[str]) -> None:
    mode, budget, service = verifier
    prompts = harness.environment_path("STRATA_TEST_DATA") / "spec_bench_dev.jsonl"
    report: dict[str, Any] = harness.strata_json(
        service, ["bench", "exact"], "--prompts", str(prompts), "--limit", str(PROMPTS),
        "--max-tokens", str(MAX_TOKENS), "--draft-nodes", ",".join(map(str, BUDGETS)), *sampling)
    assert report["identical"] is True
    assert report["differences"] == []
    assert report["prompts"] == PROMPTS
    plain, *drafted = report["runs"]
    assert plain["drafted"] == 0
    assert plain["tokens"] > PROMPTS
    assert [run["draft_nodes"] for run in drafted] == list(BUDGETS)
    for run in drafted:
        assert run["tokens"] == plain["tokens"]
        assert run["drafted"] <= run["draft_nodes"] * run["steps"]
        if mode == "off":
            assert run["drafted"] == 0
        elif budget == "fixed":
            # No proof without drafts. (The measured budget may find that none pay.)
            assert run["drafted"] > 0
    if mode != "off" and budget == "fixed":
        assert drafted[-1]["accepted"] > 0
        assert drafted[-1]["steps"] < plain["steps"]


def expect_drafts_that_change_nothing(service: harness.Service, budgets: str,
                                      *arguments: str) -> None:
    """Of two prompts, each budget accepts drafts and gives the plain tokens."""
    prompts = harness.environment_path("STRATA_TEST_DATA") / "spec_bench_dev.jsonl"
    report = harness.strata_json(
        service, ["bench", "exact"], "--prompts", str(prompts), "--limit", "2",
        "--max-tokens", str(MAX_TOKENS), "--draft-nodes", budgets, *arguments)
    assert report["differences"] == []
    plain, *drafted = report["runs"]
    for run in drafted:
        assert run["tokens"] == plain["tokens"]
        assert run["accepted"] > 0


class Combination(NamedTuple):
    policy: str
    with_corpus: bool
    recycled: int


COMBINATIONS = [Combination(*values)
                for values in itertools.product(("locality", "calibrated"), (False, True), (0, 8))]

# Few tokens of each answer, so that there are many combinations in little time. However the machine
# rounds, both go on for longer, in words that are not in the prompt.
ASKED = {"Name the planets in their order from the sun.": SAMPLING["greedy"],
         "Tell me a long story about a fox and a crow.": SAMPLING["sampled"]}
ASKED_TOKENS = 24


@pytest.fixture(scope="module", params=COMBINATIONS,
                ids=lambda c: f"{c.policy}, corpus {c.with_corpus}, recycle {c.recycled}")
def combined(request: pytest.FixtureRequest, corpus: Path,
             tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Service]:
    combination: Combination = request.param
    tiers = ["--corpus", str(corpus)] if combination.with_corpus else []
    with harness.start_verify(tmp_path_factory.mktemp("verify"), "--draft", "embedded", "--policy",
                              combination.policy, "--recycle", str(combination.recycled),
                              *tiers) as service:
        yield service


def ask(service: harness.Service, prompt: str, *arguments: str) -> dict[str, Any]:
    return harness.generate(service, prompt, "--chat", "--max-tokens", str(ASKED_TOKENS),
                            *ASKED[prompt], *arguments)


@pytest.fixture(scope="module")
def plain_answers() -> dict[str, dict[str, Any]]:
    """By prompt; filled by the first service, and the same of all others."""
    return {}


@pytest.mark.parametrize("predicted", [False, True], ids=["nothing predicted", "predicted"])
def test_no_policy_or_tier_changes_a_token(combined: harness.Service, predicted: bool,
                                           plain_answers: dict[str, dict[str, Any]]) -> None:
    # A tenant for each, so that none drafts from what another one was answered.
    tenant = ["--tenant", "predicted" if predicted else "plain"]
    for prompt in ASKED:
        if prompt not in plain_answers:
            plain_answers[prompt] = ask(combined, prompt, "--no-speculation")
            assert plain_answers[prompt]["statistics"]["drafted"] == 0
        plain = plain_answers[prompt]
        # Without the beginning: it is not all as it will be.
        text = ["--predicted-text", plain["text"][10:]] if predicted else []
        first = ask(combined, prompt, *tenant, *text)
        assert first["token_ids"] == plain["token_ids"]
        if predicted:
            assert harness.drafted_by(first, "predicted") > 0
            assert first["statistics"]["accepted"] > 0
        else:
            # Now its own answer is in the model tier.
            second = ask(combined, prompt, *tenant)
            assert second["token_ids"] == plain["token_ids"]
            assert sum(harness.drafted_by(second, tier) for tier in ("model", "recycled")) > 0
            assert second["statistics"]["accepted"] > 0


def test_qwen2_is_drafted_for_and_says_the_same(foreign_corpus: Path, tmp_path: Path) -> None:
    """Another architecture, with a corpus of its own tokenizer."""
    model = harness.environment_path("STRATA_TEST_MODEL_QWEN2")
    with harness.start_verify(tmp_path, "--draft", "embedded", "--corpus", str(foreign_corpus),
                              model=model) as service:
        about = harness.info(service)
        assert about["architecture"] == "Qwen2ForCausalLM"
        assert about["exact"] is True, about["exactness_notes"]
        answer = harness.generate(service, "What is the capital of France? Answer in one sentence.",
                                  "--chat", "--max-tokens", "24")
        assert "Paris" in answer["text"]
        assert answer["finish_reason"] == "eos"
        for sampling in ([], SAMPLING["sampled"]):
            expect_drafts_that_change_nothing(service, "4,16", "--chat", *sampling)


def test_the_service_says_that_it_is_exact(verifier: Verifier) -> None:
    mode, _, service = verifier
    about = harness.info(service)
    assert about["exact"] is True, about["exactness_notes"]
    assert about["draft_mode"] == mode
    assert about["architecture"] == "LlamaForCausalLM"


def test_a_batch_changes_no_token(embedded: harness.Service) -> None:
    prompts = [f"Count to {n} and name {n} animals:" for n in range(2, 8)]
    arguments = ["--max-tokens", "24", "--temperature", "0.7", "--seed", "5"]
    alone = [harness.generate(embedded, p, *arguments, "--no-speculation")["token_ids"]
             for p in prompts]
    with ThreadPoolExecutor(len(prompts)) as pool:
        together = list(pool.map(
            lambda p: harness.generate(embedded, p, *arguments)["token_ids"], prompts))
    assert together == alone


def test_the_seed_decides(embedded: harness.Service) -> None:
    def ids(*arguments: str) -> list[int]:
        return harness.generate(embedded, "Once upon a time", "--max-tokens", "24",
                                "--temperature", "1", *arguments)["token_ids"]

    assert ids("--seed", "1") == ids("--seed", "1")
    assert ids("--seed", "1") != ids("--seed", "2")
    # One that the service drew is reported and can be used again.
    drawn = harness.generate(embedded, "Once upon a time", "--max-tokens", "24",
                             "--temperature", "1")
    assert ids("--seed", str(drawn["statistics"]["seed"])) == drawn["token_ids"]


def test_predicted_text_is_accepted_and_changes_nothing(embedded: harness.Service) -> None:
    prompt = "List the days of the week."
    arguments = ["--chat", "--max-tokens", "48"]
    plain = harness.generate(embedded, prompt, *arguments, "--no-speculation")
    predicted = harness.generate(embedded, prompt, *arguments, "--predicted-text", plain["text"],
                                 "--tenant", "predicted")
    assert predicted["token_ids"] == plain["token_ids"]
    assert predicted["text"] == plain["text"]
    assert harness.drafted_by(predicted, "predicted") > 0
    assert predicted["statistics"]["steps"] < plain["statistics"]["steps"]


def test_a_stop_string_is_cut_off_at_the_same_place(embedded: harness.Service) -> None:
    prompt = "Once upon a time"
    whole = harness.generate(embedded, prompt, "--max-tokens", "48", "--no-speculation")["text"]
    stop = whole[len(whole) // 2:len(whole) // 2 + 6]
    for arguments in ([], ["--no-speculation"]):
        answer = harness.generate(embedded, prompt, "--max-tokens", "48", "--stop", stop, *arguments)
        assert answer["text"] == whole[:whole.index(stop)]
        assert answer["finish_reason"] == "stop"
