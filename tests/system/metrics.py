"""Reads what the services tell Prometheus."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import harness

LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)",?')

Labels = tuple[tuple[str, str], ...]


class Scrape:
    """One answer of a metrics endpoint. Every line of it is understood, or it is an error."""

    def __init__(self, text: str) -> None:
        self.types: dict[str, str] = {}
        self.help: dict[str, str] = {}
        self.values: dict[tuple[str, Labels], float] = {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                name, kind = line.removeprefix("# TYPE ").split(" ")
                assert name not in self.types, f"{name} comes twice"
                self.types[name] = kind
            elif line.startswith("# HELP "):
                name, _, words = line.removeprefix("# HELP ").partition(" ")
                self.help[name] = words
            elif line:
                match = LINE.match(line)
                assert match, line
                key = (match[1], tuple(sorted(LABEL.findall(match[2] or ""))))
                assert key not in self.values, f"{line} comes twice"
                self.values[key] = float(match[3])

    def __call__(self, name: str, **labels: str) -> float:
        """The one value of that name and labels."""
        return self.values[(name, tuple(sorted(labels.items())))]

    def total(self, name: str) -> float:
        """The sum over all labels."""
        values = [value for (found, _), value in self.values.items() if found == name]
        assert values, f"there is no {name}"
        return sum(values)

    def by(self, name: str, label: str) -> dict[str, float]:
        return {dict(labels)[label]: value for (found, labels), value in self.values.items()
                if found == name}

    def names(self) -> set[str]:
        return {name for name, _ in self.values}


class Endpoint:
    """Where a service that was started with `arguments` serves its metrics."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._port_file = folder / f"{name}.metrics"
        self.arguments = ["--metrics-listen", "127.0.0.1:0",
                          "--metrics-port-file", str(self._port_file)]

    @property
    def address(self) -> str:
        return self._port_file.read_text(encoding="utf-8").strip()

    def scrape(self, seconds: float = 60) -> Scrape:
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=seconds) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            return Scrape(answer.read().decode("utf-8"))


def log_events(service: harness.Service) -> list[dict[str, object]]:
    """The lines of a service that logs JSON; each must be an object."""
    return [json.loads(line) for line in service.whole_log().splitlines() if line.startswith("{")]
