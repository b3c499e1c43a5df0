#!/usr/bin/env python3
"""Shows where the time of decode steps goes, from what services wrote with --trace-file.

    plot_trace.py [--trace ID] [--first N] [--steps N] [--png OUT.png] TRACE.jsonl…

Give the files of both services to see the draft service's part, too. Prints a time line and the
shares over all of the request's steps; --png draws it, and needs what plot_requirements.txt names.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

WIDTH = 64


class Span(NamedTuple):
    service: str
    name: str
    trace: str
    id: str
    parent: str
    start: float  # Seconds.
    end: float

    @property
    def ms(self) -> float:
        return 1e3 * (self.end - self.start)


def read(path: Path) -> list[Span]:
    spans = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            request = json.loads(line)
        except ValueError:
            continue  # A line that was cut short when its process died.
        for of_resource in request["resourceSpans"]:
            about: dict[str, Any] = {attribute["key"]: attribute["value"].get("stringValue")
                                     for attribute in of_resource["resource"]["attributes"]}
            spans += [Span(about["service.name"], span["name"], span["traceId"], span["spanId"],
                           span.get("parentSpanId", ""), int(span["startTimeUnixNano"]) / 1e9,
                           int(span["endTimeUnixNano"]) / 1e9)
                      for of_scope in of_resource["scopeSpans"] for span in of_scope["spans"]]
    return spans


def lanes_of(spans: list[Span], steps: list[Span]) -> dict[str, list[Span]]:
    """What is drawn below each other: who was busy with these steps."""
    ids = {step.id for step in steps}
    waits = [span for span in spans if span.parent in ids and span.name == "draft"]
    asked = {span.id for span in waits}
    return {"verify: draft": waits,
            "verify: forward": [span for span in spans
                                if span.parent in ids and span.name == "forward"],
            "draft service": [span for span in spans if span.parent in asked]}


def print_time_line(lanes: dict[str, list[Span]], begin: float, end: float) -> None:
    scale = WIDTH / (end - begin)
    for label, spans in lanes.items():
        cells = [" "] * WIDTH
        for span in spans:
            first = int((span.start - begin) * scale)
            last = max(first + 1, round((span.end - begin) * scale))
            for i in range(max(0, first), min(WIDTH, last)):
                cells[i] = "#"
        print(f"{label:<16}|{''.join(cells)}|")
    print(f"{'':<16} 0{f'{1e3 * (end - begin):.1f} ms':>{WIDTH - 1}}")


def print_steps(spans: list[Span], steps: list[Span], first: int) -> None:
    print(f"{'step':>16}  {'at ms':>9} {'took ms':>8} {'draft':>8} {'service':>8} {'forward':>8}")
    for number, step in enumerate(steps, first):
        lanes = lanes_of(spans, [step])
        figures = [sum(span.ms for span in lane) for lane in lanes.values()]
        print(f"{number:>16}  {1e3 * (step.start - steps[0].start):>9.2f} {step.ms:>8.2f} {figures[0]:>8.2f} "
              f"{figures[2]:>8.2f} {figures[1]:>8.2f}")


def draw(lanes: dict[str, list[Span]], steps: list[Span], first: int, title: str, out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")  # No display.
    from matplotlib import pyplot

    begin = steps[0].start
    figure, axis = pyplot.subplots(figsize=(12, 2.6))
    colors = ("tab:orange", "tab:blue", "tab:green")
    for row, (color, spans) in enumerate(zip(colors, lanes.values())):
        axis.broken_barh([(1e3 * (span.start - begin), span.ms) for span in spans],
                         (-row - 0.4, 0.8), facecolors=color)
    for number, step in enumerate(steps, first):
        axis.axvline(1e3 * (step.start - begin), color="gray", linewidth=0.5)
        axis.text(1e3 * (step.start - begin), 0.5, f" {number}", fontsize=8, color="gray")
    axis.set_yticks([-row for row in range(len(lanes))], list(lanes))
    axis.set_xlim(0, 1e3 * (steps[-1].end - begin))
    axis.set_xlabel("ms")
    axis.set_title(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(out, dpi=150)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", metavar="TRACE.jsonl", type=Path, nargs="+")
    parser.add_argument("--trace", metavar="ID", help="default: the one with most steps")
    parser.add_argument("--first", metavar="N", type=int, default=0, help="step to begin with")
    parser.add_argument("--steps", metavar="N", type=int, default=6)
    parser.add_argument("--png", metavar="OUT.png", type=Path)
    arguments = parser.parse_args()

    by_trace: dict[str, list[Span]] = defaultdict(list)
    for path in arguments.files:
        for span in read(path):
            by_trace[span.trace].append(span)
    counts = Counter({trace: sum(span.name == "step" for span in spans)
                      for trace, spans in by_trace.items()})
    trace = arguments.trace or (counts.most_common(1)[0][0] if counts else "")
    if counts[trace] == 0:
        print(f"plot_trace.py: no decode steps in {trace or 'these files'}", file=sys.stderr)
        return 1
    spans = by_trace[trace]
    steps = sorted((span for span in spans if span.name == "step"), key=lambda span: span.start)
    shown = steps[arguments.first:arguments.first + arguments.steps]
    if not shown:
        print(f"plot_trace.py: the trace has {len(steps)} steps", file=sys.stderr)
        return 1
    lanes = lanes_of(spans, shown)
    total = sum(step.ms for step in steps)
    shares = {label: sum(span.ms for span in lane) / total
              for label, lane in lanes_of(spans, steps).items()}
    title = (f"trace {trace}: {len(steps)} steps of {total / len(steps):.2f} ms; "
             + ", ".join(f"{label} {share:.1%}" for label, share in shares.items()))
    print(title)
    print_time_line(lanes, shown[0].start, shown[-1].end)
    print_steps(spans, shown, arguments.first)
    if arguments.png:
        draw(lanes, shown, arguments.first, title, arguments.png)
    return 0


if __name__ == "__main__":
    sys.exit(main())
