"""What requests begin with is computed once, and that changes no token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import harness

PROMPT = ("You are a careful assistant. Answer in full sentences and name your sources. " * 12
          + "What is the capital of France?")
ARGUMENTS = ["--max-tokens", "24", "--temperature", "0.7", "--seed", "3"]


def cached(answer: dict[str, Any]) -> int:
    return int(answer["statistics"]["cached_prompt_tokens"])


def test_a_prompt_that_was_seen_before_changes_no_token(tmp_path: Path) -> None:
    with harness.start_verify(tmp_path / "fresh", "--draft", "off", "--prefix-cache", "0") as fresh:
        expected = [harness.generate(fresh, PROMPT, *ARGUMENTS) for _ in range(2)]
        assert [cached(answer) for answer in expected] == [0, 0]
    with harness.start_verify(tmp_path / "kept", "--draft", "embedded") as service:
        first = harness.generate(service, PROMPT, *ARGUMENTS)
        second = harness.generate(service, PROMPT, *ARGUMENTS)
        other = harness.generate(service, PROMPT, *ARGUMENTS, "--tenant", "other")
        turn = harness.generate(service, PROMPT + first["text"] + " And of Spain?", *ARGUMENTS)
        about = harness.info(service)
    for answer in (first, second, other):
        assert answer["token_ids"] == expected[0]["token_ids"]
        assert answer["text"] == expected[0]["text"]
    tokens = first["statistics"]["prompt_tokens"]
    page = about["kv_page_tokens"]
    assert cached(first) == 0
    # Whole pages, and never the last token.
    assert cached(second) == (tokens - 1) // page * page > 100
    # What one tenant asked is nothing to another.
    assert cached(other) == 0
    assert cached(turn) >= cached(second)
    assert 0 < about["kv_pages_kept"] < about["kv_pages_free"] == about["kv_pages_total"]
