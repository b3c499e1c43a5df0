#!/usr/bin/env python3
"""Prints the demo's answer and table: demo_report.py DRAFTED.json PLAIN.json

Both files hold what `strata generate --json` printed. Exits with 1 unless both answers have
the same tokens.
"""

import json
import sys
from typing import Any


def number(value: Any) -> float:
    """64-bit integers are strings in protobuf's JSON."""
    return float(value or 0)


def tier_name(tier: Any) -> str:
    return str(tier).removeprefix("TIER_").lower()


def rows(drafted: dict[str, Any], plain: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(label, drafted, plain) of the table."""
    statistics = [answer.get("statistics", {}) for answer in (drafted, plain)]
    tokens = [len(answer["token_ids"]) for answer in (drafted, plain)]
    steps = [number(s.get("steps")) for s in statistics]
    # After prefill, which is the same work in both runs.
    seconds = [number(s.get("total_seconds")) - number(s.get("prefill_seconds"))
               for s in statistics]

    def both(label: str, values: list[str]) -> tuple[str, str, str]:
        return label, values[0], values[1]

    def ratio(a: float, b: float, places: int) -> str:
        return f"{a / b:.{places}f}" if b > 0 else "-"

    table = [
        both("tokens", [str(t) for t in tokens]),
        both("steps", [f"{s:.0f}" for s in steps]),
        both("tokens a step", [ratio(t, s, 2) for t, s in zip(tokens, steps)]),
        both("tokens/s", [ratio(t, s, 1) for t, s in zip(tokens, seconds)]),
    ]
    # The share of the answer's tokens that each tier drafted; the model made the rest.
    by_tier = statistics[0].get("by_tier") or []
    from_tiers = 0.0
    for entry in by_tier:
        accepted = number(entry.get("accepted"))
        from_tiers += accepted
        table.append((f"from the {tier_name(entry.get('tier'))} tier",
                      f"{ratio(100 * accepted, tokens[0], 1)} %", ""))
    rest = max(0.0, tokens[0] - from_tiers)
    table.append(("from the model itself", f"{ratio(100 * rest, tokens[0], 1)} %", "100.0 %"))
    return table


def main(arguments: list[str]) -> int:
    answers = []
    for path in arguments:
        with open(path, encoding="utf-8") as file:
            answers.append(json.load(file))
    drafted, plain = answers
    # Two empty answers would be no proof of anything.
    identical = drafted["token_ids"] == plain["token_ids"] and bool(plain["token_ids"])
    print(drafted["text"].strip() + "\n")
    print(f"{'':24}{'drafted':>10}{'plain':>10}")
    for label, left, right in rows(drafted, plain):
        print(f"{label:24}{left:>10}{right:>10}".rstrip())
    print(f"{'identical':24}{'yes' if identical else 'NO':>10}")
    return 0 if identical else 1


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: demo_report.py DRAFTED.json PLAIN.json")
    sys.exit(main(sys.argv[1:]))
