"""What a drafter gave on the rows."""

import dataclasses


@dataclasses.dataclass
class Result:
    """By group of rows, "all" among them; times in microseconds, None if they say nothing."""

    name: str
    tokens_per_step: dict[str, float]
    drafted_per_step: dict[str, float]
    p50_us: float | None
    p99_us: float | None
