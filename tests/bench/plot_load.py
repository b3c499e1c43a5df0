#!/usr/bin/env python3
"""Draws what `strata bench load --out RESULT.json` measured: throughput and p95 time a token.

    plot_load.py RESULT.json OUT.png

Needs what plot_requirements.txt names.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # No display.

from matplotlib import pyplot  # noqa: E402

# Title, and the figure of a mode's JSON; None where nothing was measured.
PANELS = (
    ("tokens/s", lambda mode: mode["tokens_per_second"] if mode["succeeded"] else None),
    ("p95 time a token, ms",
     lambda mode: None if mode["per_token_s"]["p95"] is None else 1e3 * mode["per_token_s"]["p95"]),
)
MODES = {"on": ("speculation on", "tab:blue"), "off": ("off", "tab:gray"),
         "fixed": ("at most {fixed_nodes} nodes", "tab:orange")}


def draw(result: dict[str, Any], out: Path) -> None:
    unit = "rate" if result["loop"] == "open" else "concurrency"
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(11, 4.2))
    for axis, (title, value) in zip(axes, PANELS):
        for name in result["modes"]:
            label, color = MODES[name]
            points = [(level[unit], value(mode)) for level in result["levels"]
                      for mode in level["modes"] if mode["mode"] == name]
            # Levels may be asked for in any order.
            points = sorted(point for point in points if point[1] is not None)
            axis.plot([x for x, _ in points], [y for _, y in points], marker="o", color=color,
                      label=label.format(**result))
        levels = sorted(level[unit] for level in result["levels"])
        axis.set_xscale("log", base=2)
        axis.set_xticks(levels, [f"{level:g}" for level in levels])
        axis.minorticks_off()
        axis.set_ylim(bottom=0)
        axis.set_xlabel("arrivals a second" if unit == "rate" else "requests at a time")
        axis.set_title(title)
        axis.grid(alpha=0.3)
    axes[0].legend()
    service = result["service"]
    failed = f", {result['failed']} of {result['requests']} requests failed" if result["failed"] else ""
    figure.suptitle(f"{service['model_id']} ({service['dtype']}, {service['device']}), "
                    f"drafts: {service['draft_mode']}{failed}")
    figure.tight_layout()
    figure.savefig(out, dpi=150)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path, help="JSON of `strata bench load`")
    parser.add_argument("out", type=Path, help="the picture, a .png")
    arguments = parser.parse_args()
    try:
        result = json.loads(arguments.result.read_text(encoding="utf-8"))
        draw(result, arguments.out)
    except (OSError, ValueError) as error:
        print(f"plot_load.py: {error}", file=sys.stderr)
        return 1
    except KeyError as error:
        print(f"plot_load.py: {arguments.result} is no result of bench load: it has no {error}",
              file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
