"""Everything at once: batches, preemption, shared prefixes, cancellations, a draft service that dies."""

from __future__ import annotations

import threading
from pathlib import Path

import harness
import mixed_load

WORKERS = 16
REQUESTS = 64


def test_no_request_fails_and_no_token_changes(corpus: Path, tmp_path: Path) -> None:
    questions = harness.environment_path("STRATA_TEST_DATA") / "spec_bench_dev.jsonl"
    requests = mixed_load.make_requests(questions, count=12, max_tokens=96, seed=1)
    with harness.start_verify(tmp_path / "plain", "--draft", "off", "--prefix-cache", "0") as plain:
        expected = mixed_load.plain_answers(plain, requests)
    draft = harness.start_draft(tmp_path / "draft", "--corpus", str(corpus))
    try:
        # Room for two or three of sixteen.
        with harness.start_verify(tmp_path / "verify", "--draft-address", draft.address,
                                  "--kv-tokens", "512", "--max-batch", "16",
                                  "--prefill-chunk", "64") as verify:
            load = mixed_load.MixedLoad(verify, expected, WORKERS, seed=2, pause=0.02)
            running = threading.Thread(target=load.run, args=(REQUESTS,))
            running.start()
            for third in (1, 2):
                harness.wait_until(
                    lambda: sum(load.tally.statuses.values()) >= third * REQUESTS // 3,
                    "a third of the requests are answered", harness.CALL_SECONDS)
                draft.kill()
                draft = harness.start_draft(tmp_path / "draft", "--corpus", str(corpus),
                                            listen=draft.address)
            running.join()
            tally = load.tally
            assert tally.failures == []
            assert tally.differences == []
            assert tally.answered + tally.cancelled == REQUESTS
            # Else it has tested less than it says.
            assert tally.cancelled > 0
            assert tally.preemptions > 0, tally
            assert tally.cached_prompt_tokens > 0
            assert tally.accepted > 0
            about = harness.info(verify)
            assert about["kv_pages_free"] == about["kv_pages_total"]
    finally:
        draft.close()
