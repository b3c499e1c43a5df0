"""The draft service dies, hangs or restarts in mid-generation: same tokens, and drafting resumes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import harness
import metrics
import pytest

PROMPT = "Write a long story about a lighthouse keeper and his dog."
LONG = ["--chat", "--max-tokens", "256", "--ignore-eos"]
EITHER_WAY = pytest.mark.parametrize("sampling", [[], ["--temperature", "0.9", "--seed", "3"]],
                                     ids=["greedy", "sampled"])


class Pair:
    """A draft service that can be started again at the same address, and its verifier."""

    def __init__(self, folder: Path, corpus: Path) -> None:
        self._folder = folder
        self._corpus = corpus
        self.draft = harness.start_draft(folder, "--corpus", str(corpus))
        self.metrics = metrics.Endpoint(folder, "verify")
        try:
            self.verify = harness.start_verify(folder, "--draft-address", self.draft.address,
                                               *self.metrics.arguments)
        except BaseException:
            self.draft.close()
            raise

    def restart_draft(self) -> None:
        self.draft.close()
        self.draft = harness.start_draft(self._folder, "--corpus", str(self._corpus),
                                         listen=self.draft.address)

    def answers(self) -> float:
        """Steps that the draft service has drafted for, in time or ahead."""
        scrape = self.metrics.scrape()
        return (scrape("strata_verify_draft_answers_total") +
                scrape("strata_verify_drafts_ahead_total"))

    def close(self) -> None:
        self.verify.close()
        self.draft.close()


def longer() -> list[str]:
    """Options of an answer that goes on while a draft service comes back. With the thread sanitizer
    a sampled token takes a third of a second. A greedy one soon repeats itself, and with larger
    drafts from the context alone it is over before the verifier asks a service anew that hung."""
    tokens = 250 if harness.thread_sanitized() else 900
    return ["--chat", "--max-tokens", str(tokens), "--ignore-eos", "--draft-nodes", "1"]


@pytest.fixture
def pair(corpus: Path, tmp_path: Path) -> Iterator[Pair]:
    services = Pair(tmp_path, corpus)
    yield services
    services.close()


def plain_text(service: harness.Service, *arguments: str) -> str:
    result = harness.strata(service, ["generate"], *LONG, *arguments, "--no-speculation",
                            "--", PROMPT)
    assert result.returncode == harness.SUCCESS, result.stderr
    return result.stdout


def wait_for_drafts(service: harness.Service) -> None:
    def come() -> bool:
        return harness.drafted_remotely(harness.generate(service, "The capital of France is",
                                                 "--max-tokens", "16", "--ignore-eos")) > 0

    harness.wait_until(come, "drafts of the draft service", 60)
    assert harness.info(service)["draft_available"] is True


@EITHER_WAY
def test_killed_then_restarted(pair: Pair, sampling: list[str]) -> None:
    wait_for_drafts(pair.verify)
    expected = plain_text(pair.verify, *sampling)
    with harness.RunningGeneration(pair.verify, PROMPT, *LONG, *sampling) as generation:
        generation.read_some()
        pair.draft.kill()
        code, text, error = generation.finish()
    assert code == harness.SUCCESS, error
    assert text == expected
    # And from the start without it.
    answer = harness.generate(pair.verify, PROMPT, *LONG, *sampling)
    assert answer["text"].strip() == expected.strip()
    assert harness.drafted_remotely(answer) == 0
    # The verify service drafts from the context by itself meanwhile.
    assert harness.drafted_by(answer, "context") > 0
    harness.wait_until(lambda: harness.info(pair.verify)["draft_available"] is False,
                       "the verify service knows that the draft service is gone")

    pair.restart_draft()
    wait_for_drafts(pair.verify)


@EITHER_WAY
@pytest.mark.parametrize("how", ["restarted", "continued"])
def test_the_same_answer_is_drafted_again(pair: Pair, how: str, sampling: list[str]) -> None:
    """The service comes back before the answer is over, and drafts the rest of it."""
    wait_for_drafts(pair.verify)
    options = [*longer(), *sampling]
    result = harness.strata(pair.verify, ["generate"], *options, "--no-speculation", "--", PROMPT)
    assert result.returncode == harness.SUCCESS, result.stderr
    with harness.RunningGeneration(pair.verify, PROMPT, *options) as generation:
        generation.read_some()
        if how == "restarted":
            pair.draft.kill()
        else:
            pair.draft.suspend()
            generation.read_some(300)
        # From here on nothing answers until it is back, and nobody else asks it.
        before = pair.answers()
        if how == "restarted":
            pair.restart_draft()
        else:
            pair.draft.resume()
        harness.wait_until(lambda: pair.answers() > before + 3, "drafts for the same answer")
        generation.read_some()
        code, text, error = generation.finish()
    assert code == harness.SUCCESS, error
    assert text == result.stdout


@EITHER_WAY
def test_stopped_then_continued(pair: Pair, sampling: list[str]) -> None:
    """A hung peer: the connection stands, nothing comes."""
    wait_for_drafts(pair.verify)
    expected = plain_text(pair.verify, *sampling)
    with harness.RunningGeneration(pair.verify, PROMPT, *LONG, *sampling) as generation:
        generation.read_some()
        pair.draft.suspend()
        code, text, error = generation.finish()
    assert code == harness.SUCCESS, error
    assert text == expected
    answer = harness.generate(pair.verify, PROMPT, *LONG, *sampling)
    assert answer["text"].strip() == expected.strip()

    pair.draft.resume()
    wait_for_drafts(pair.verify)


def test_started_after_its_verifier(corpus: Path, tmp_path: Path) -> None:
    with harness.start_draft(tmp_path, "--corpus", str(corpus)) as first:
        address = first.address
    with harness.start_verify(tmp_path, "--draft-address", address) as verify:
        plain = harness.generate(verify, PROMPT, "--max-tokens", "24", "--no-speculation")
        drafted = harness.generate(verify, PROMPT, "--max-tokens", "24")
        assert drafted["token_ids"] == plain["token_ids"]
        with harness.start_draft(tmp_path, "--corpus", str(corpus), listen=address):
            wait_for_drafts(verify)


def test_a_corpus_of_another_tokenizer_drafts_nothing(foreign_corpus: Path,
                                                      tmp_path: Path) -> None:
    """FAILED_PRECONDITION on the stream: no bad drafts, and the answer is unharmed."""
    with harness.start_draft(tmp_path, "--corpus", str(foreign_corpus)) as draft, \
            harness.start_verify(tmp_path, "--draft-address", draft.address) as verify:
        plain = harness.generate(verify, PROMPT, "--max-tokens", "24", "--ignore-eos",
                                 "--no-speculation")
        drafted = harness.generate(verify, PROMPT, "--max-tokens", "24", "--ignore-eos")
        assert drafted["token_ids"] == plain["token_ids"]
        assert harness.drafted_remotely(drafted) == 0
        harness.wait_until(lambda: harness.info(verify)["draft_available"] is False,
                           "the verify service knows that it has no drafts")


def test_another_replica_takes_over(corpus: Path, tmp_path: Path) -> None:
    drafts = [harness.start_draft(tmp_path / str(i), "--corpus", str(corpus)) for i in range(2)]
    try:
        addresses = "ipv4:" + ",".join(draft.address for draft in drafts)
        with harness.start_verify(tmp_path, "--draft-address", addresses) as verify:
            wait_for_drafts(verify)
            expected = harness.generate(verify, PROMPT, *LONG, "--no-speculation")
            for draft in drafts:
                # Whichever the stream was on, the other one serves.
                draft.kill()
                answer = harness.generate(verify, PROMPT, *LONG)
                assert answer["token_ids"] == expected["token_ids"]
                if draft is drafts[0]:
                    wait_for_drafts(verify)
    finally:
        for draft in drafts:
            draft.close()
