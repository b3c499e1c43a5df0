"""A perfect verifier for drafters written in Python; the same rules as strata-replay."""

import dataclasses
import json
import pathlib
import time

from result import Result

MIN_OUTPUT_TOKENS = 5
MT_BENCH = {"writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"}


@dataclasses.dataclass
class Tally:
    steps: int = 0
    emitted: int = 0
    drafted: int = 0

    def add(self, emitted: int, drafted: int) -> None:
        self.steps += 1
        self.emitted += emitted
        self.drafted += drafted


def load_rows(path: pathlib.Path) -> list:
    with open(path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return [row for row in rows if len(row["output_tokens"]) >= MIN_OUTPUT_TOKENS]


def group(category: str) -> str:
    return "mtbench" if category in MT_BENCH else category


def accepted(tokens: list, parents: list, expected: list) -> int:
    """How many of `expected` a path from the root of the tree spells."""
    children = {}
    for node, (token, parent) in enumerate(zip(tokens, parents)):
        children.setdefault((parent, token), node)
    node = -1
    for count, token in enumerate(expected):
        node = children.get((node, token))
        if node is None:
            return count
    return len(expected)


def percentile(values: list, percent: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def play(drafter, rows: list) -> Result:
    """`drafter` has start(prompt), accept(tokens) and draft() -> (tokens, parents); a step's time is
    that of accept and draft together. A time is left out where drafter.timed is false."""
    tallies = {"all": Tally()}
    times = []
    for row in rows:
        output = row["output_tokens"]
        tally = tallies.setdefault(group(row["category"]), Tally())
        drafter.start(row["prompt_tokens"])
        fresh, done = output[:1], 1
        while done < len(output):
            begin = time.perf_counter()
            drafter.accept(fresh)
            tokens, parents = drafter.draft()
            times.append((time.perf_counter() - begin) * 1e6)
            fresh = output[done : done + accepted(tokens, parents, output[done:]) + 1]
            done += len(fresh)
            for one in (tally, tallies["all"]):
                one.add(len(fresh), len(tokens))
        drafter.accept(fresh)
    return Result(
        drafter.name,
        {name: tally.emitted / max(1, tally.steps) for name, tally in tallies.items()},
        {name: tally.drafted / max(1, tally.steps) for name, tally in tallies.items()},
        percentile(times, 50) if drafter.timed and times else None,
        percentile(times, 99) if drafter.timed and times else None,
    )
