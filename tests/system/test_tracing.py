"""Traces: one from the client over verify to draft, in files that OpenTelemetry can read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
import metrics
import pytest

ROOT = Path(__file__).parents[2]
PROMPT = "Write a Python function that sorts a list of dictionaries by a key."
LENGTH = 48
# Clocks of two processes on one machine.
CLOCKS_NS = 2_000_000

Span = dict[str, Any]
VALUES = {"stringValue": str, "boolValue": bool, "intValue": str, "doubleValue": (int, float)}


def check_attributes(attributes: list[dict[str, Any]]) -> None:
    keys = [attribute["key"] for attribute in attributes]
    assert len(set(keys)) == len(keys)
    for attribute in attributes:
        assert set(attribute) == {"key", "value"}
        ((kind, value),) = attribute["value"].items()
        assert isinstance(value, VALUES[kind]), attribute
        # 64-bit integers are strings in the JSON of protobuf.
        assert kind != "intValue" or re.fullmatch(r"-?\d{1,19}", value), attribute


def check_span(span: Span) -> None:
    """The rules of OTLP's JSON for opentelemetry.proto.trace.v1.Span."""
    assert set(span) <= {"traceId", "spanId", "parentSpanId", "flags", "name", "kind",
                         "startTimeUnixNano", "endTimeUnixNano", "attributes", "status"}
    for key, digits in (("traceId", 32), ("spanId", 16), ("parentSpanId", 16)):
        if key != "parentSpanId" or key in span:
            assert re.fullmatch(rf"[0-9a-f]{{{digits}}}", span[key]), span
            assert span[key].strip("0"), span
    assert span["name"]
    assert isinstance(span["kind"], int) and 1 <= span["kind"] <= 5
    assert span["flags"] == 1
    for key in ("startTimeUnixNano", "endTimeUnixNano"):
        assert isinstance(span[key], str) and re.fullmatch(r"\d{19}", span[key]), span
    assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
    check_attributes(span.get("attributes", []))
    assert set(span["status"]) <= {"code"} and span["status"].get("code", 0) in (0, 1, 2)


def read(path: Path, service: str) -> list[Span]:
    """All spans of a file; every line must be an ExportTraceServiceRequest, of that service."""
    spans: list[Span] = []
    text = path.read_text(encoding="utf-8")
    assert not text or text.endswith("\n")
    for line in text.splitlines():
        request = json.loads(line)
        assert set(request) == {"resourceSpans"}
        for resource_spans in request["resourceSpans"]:
            assert set(resource_spans) == {"resource", "scopeSpans"}
            about = resource_spans["resource"]["attributes"]
            check_attributes(about)
            named = {attribute["key"]: attribute["value"]["stringValue"] for attribute in about}
            assert named["service.name"] == service
            assert named["service.version"] and named["service.instance.id"]
            for scope_spans in resource_spans["scopeSpans"]:
                assert set(scope_spans) == {"scope", "spans"}
                assert scope_spans["scope"]["name"] == "strata"
                spans += scope_spans["spans"]
    for span in spans:
        check_span(span)
    assert len({span["spanId"] for span in spans}) == len(spans)
    return spans


def attribute(span: Span, key: str) -> Any:
    ((kind, value),) = next(one["value"] for one in span["attributes"] if one["key"] == key).items()
    return int(value) if kind == "intValue" else value


def within(inner: Span, outer: Span, slack: int = 0) -> bool:
    return (int(outer["startTimeUnixNano"]) - slack <= int(inner["startTimeUnixNano"])
            and int(inner["endTimeUnixNano"]) <= int(outer["endTimeUnixNano"]) + slack)


class Traced:
    """A draft and a verify service that write traces."""

    def __init__(self, folder: Path, corpus: Path, *arguments: str) -> None:
        self.files = {"strata-draft": folder / "draft.jsonl",
                      "strata-verify": folder / "verify.jsonl"}
        self.endpoint = metrics.Endpoint(folder, "verify")
        self.draft = harness.start_draft(folder, "--corpus", str(corpus), "--trace-file",
                                         str(self.files["strata-draft"]))
        try:
            self.verify = harness.start_verify(
                folder, "--draft-address", self.draft.address, "--draft-deadline-ms", "10000",
                "--trace-file", str(self.files["strata-verify"]), *self.endpoint.arguments,
                *arguments)
        except BaseException:
            self.draft.close()
            raise

    def end(self) -> tuple[list[Span], list[Span]]:
        """The spans of (verify, draft), of services that ended and have written all."""
        assert self.verify.terminate() == 0, self.verify.log()
        assert self.draft.terminate() == 0, self.draft.log()
        return (read(self.files["strata-verify"], "strata-verify"),
                read(self.files["strata-draft"], "strata-draft"))

    def close(self) -> None:
        self.verify.close()
        self.draft.close()


@pytest.fixture
def traced(corpus: Path, tmp_path: Path) -> Iterator[Traced]:
    services = Traced(tmp_path, corpus)
    yield services
    services.close()


def generate(service: harness.Service, *arguments: str) -> tuple[dict[str, Any], str]:
    """The answer and what went to standard error."""
    result = harness.strata(service, ["generate"], "--json", "--chat", "--ignore-eos",
                            "--max-tokens", str(LENGTH), *arguments, "--", PROMPT)
    assert result.returncode == harness.SUCCESS, result.stderr
    return json.loads(result.stdout), result.stderr


def check_tree(verify: list[Span], draft: list[Span], root: Span, statistics: Any) -> None:
    """One request's spans: parents link up, times nest, figures are the request's own."""
    children: dict[str, list[Span]] = defaultdict(list)
    for span in verify:
        if span["traceId"] == root["traceId"] and span is not root:
            children[span["parentSpanId"]].append(span)
    below = children.pop(root["spanId"])
    by_name: dict[str, list[Span]] = defaultdict(list)
    for span in below:
        assert within(span, root)
        by_name[span["name"]].append(span)
    assert set(by_name) == {"queue", "prefill", "step"}
    assert len(by_name["queue"]) == 1 and len(by_name["prefill"]) == 1
    assert len(by_name["step"]) == int(statistics["steps"])
    served: dict[str, list[Span]] = defaultdict(list)
    for span in draft:
        if span["traceId"] == root["traceId"]:
            served[span["parentSpanId"]].append(span)
    asked = 0
    for parent in by_name["prefill"] + by_name["step"]:
        inner = children.pop(parent["spanId"])
        names = sorted(span["name"] for span in inner)
        if parent["name"] == "prefill":
            assert set(names) == {"forward"}, names
        else:
            assert names in (["forward"], ["draft", "forward"]), names
        for span in inner:
            assert within(span, parent)
            if span["name"] != "draft":
                continue
            asked += 1
            (answer,) = served.pop(span["spanId"])
            assert answer["name"] == "draft" and answer["kind"] == 2 and span["kind"] == 3
            ahead = attribute(span, "strata.ahead")
            assert int(span["startTimeUnixNano"]) - CLOCKS_NS <= int(answer["startTimeUnixNano"])
            # Nothing waits for the answer to a question whose draft came ahead.
            assert ahead or within(answer, span, CLOCKS_NS), (answer, span)
            assert attribute(answer, "strata.status") == "ok"
            # What was drafted ahead is not drafted again.
            assert attribute(answer, "strata.nodes") \
                == (0 if ahead else attribute(span, "strata.nodes"))
            assert attribute(span, "strata.missed") is False
    assert asked > 0
    assert not children and not served, "spans whose parents are not there"
    for key in ("drafted", "accepted"):
        assert sum(attribute(step, f"strata.{key}") for step in by_name["step"]) \
            == int(statistics[key]) == attribute(root, f"strata.{key}")
    assert 1 + sum(attribute(step, "strata.tokens") for step in by_name["step"]) \
        == int(statistics["output_tokens"]) == attribute(root, "strata.output_tokens")
    assert attribute(root, "strata.steps") == int(statistics["steps"])
    assert attribute(root, "strata.prompt_tokens") == int(statistics["prompt_tokens"])
    assert attribute(root, "strata.finish") == "length"


def test_one_trace_from_client_to_draft(traced: Traced) -> None:
    answer, error = generate(traced.verify, "--trace", "--tenant", "acme", "--request-id", "r-1")
    sent = re.fullmatch(r"traceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-01\n", error)
    assert sent, error
    # By a trace of somebody else's, and one that is not sampled.
    given = "00-" + "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"
    second, error = generate(traced.verify, "--traceparent", given + "-01")
    assert error == ""
    generate(traced.verify, "--traceparent", given + "-00")
    plain, _ = generate(traced.verify)
    assert plain["token_ids"] == second["token_ids"] == answer["token_ids"]

    verify, draft = traced.end()
    roots = [span for span in verify if span["name"] == "strata.generate"]
    assert [(root["traceId"], root["parentSpanId"]) for root in roots] == [
        (sent[1], sent[2]), (given[3:35], given[36:])]
    assert {span["traceId"] for span in verify} == {root["traceId"] for root in roots}
    assert {span["traceId"] for span in draft} == {root["traceId"] for root in roots}
    for root, of in zip(roots, (answer, second)):
        check_tree(verify, draft, root, of["statistics"])
    assert attribute(roots[0], "strata.request_id") == "r-1"
    assert re.fullmatch(r"[0-9a-f]{32}", attribute(roots[0], "strata.tenant_hash"))
    assert attribute(roots[1], "strata.tenant_hash") == "none"
    # What draws it reads it.
    drawn = subprocess.run(
        [sys.executable, str(ROOT / "tests/bench/plot_trace.py"), "--trace", sent[1], "--first",
         "1", "--steps", "3", *map(str, traced.files.values())],
        capture_output=True, text=True, check=False)
    assert drawn.returncode == 0, drawn.stderr
    lines = drawn.stdout.splitlines()
    assert f"{answer['statistics']['steps']} steps" in lines[0]
    assert [line.split("|")[0].strip() for line in lines[1:4]] == [
        "verify: draft", "verify: forward", "draft service"]
    assert all("#" in line for line in lines[1:4]), drawn.stdout
    assert [line.split()[0] for line in lines[-3:]] == ["1", "2", "3"]
    # Figures alone.
    for path in traced.files.values():
        text = path.read_text(encoding="utf-8")
        assert "dictionaries" not in text and "acme" not in text
        assert answer["text"].strip()[:15] not in text


def test_a_verify_service_that_records_nothing_passes_the_trace_on(corpus: Path,
                                                                  tmp_path: Path) -> None:
    spans = tmp_path / "draft.jsonl"
    with harness.start_draft(tmp_path, "--corpus", str(corpus), "--trace-file",
                             str(spans)) as draft:
        with harness.start_verify(tmp_path, "--draft-address", draft.address,
                                  "--draft-deadline-ms", "10000") as verify:
            generate(verify)
            _, error = generate(verify, "--trace")
            assert verify.terminate() == 0
        assert draft.terminate() == 0
    _, trace, parent, _ = error.removeprefix("traceparent: ").strip().split("-")
    found = {(span["traceId"], span["parentSpanId"]) for span in read(spans, "strata-draft")}
    assert found == {(trace, parent)}


def test_a_share_of_the_requests_is_traced(corpus: Path, tmp_path: Path) -> None:
    services = Traced(tmp_path, corpus, "--trace-sample", "1")
    try:
        answer, _ = generate(services.verify)
        generate(services.verify, "--traceparent", f"00-{'1' * 32}-{'2' * 16}-00")
        written = "strata_verify_trace_spans_total"
        harness.wait_until(lambda: services.endpoint.scrape()(written) > 0, "spans are written")
        verify, draft = services.end()
    finally:
        services.close()
    (root,) = [span for span in verify if span["name"] == "strata.generate"]
    assert "parentSpanId" not in root
    check_tree(verify, draft, root, answer["statistics"])


def test_a_disk_that_is_full_costs_spans_alone(corpus: Path, tmp_path: Path) -> None:
    endpoint = metrics.Endpoint(tmp_path, "verify")
    with harness.start_verify(tmp_path, "--corpus", str(corpus), "--trace-file", "/dev/full",
                              "--trace-sample", "1", *endpoint.arguments) as verify:
        answer, _ = generate(verify)
        assert len(answer["token_ids"]) == LENGTH
        harness.wait_until(
            lambda: endpoint.scrape()("strata_verify_trace_spans_dropped_total") > 2 * LENGTH / 8,
            "spans are dropped")
        scrape = endpoint.scrape()
        assert scrape("strata_verify_trace_write_failures_total") > 0
        assert scrape("strata_verify_trace_spans_total") == 0
        assert verify.terminate() == 0
        assert "spans are lost" in verify.log() and "No space left" in verify.log()


def test_what_is_wrong_is_said_at_the_start(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing" / "spans.jsonl")
    result = harness.run("strata-draft", "--listen", "127.0.0.1:0", "--trace-file", missing)
    assert result.returncode == 1
    assert missing in result.stderr
    model = str(harness.environment_path("STRATA_TEST_MODEL"))
    result = harness.run("strata-verify", "--model", model, "--trace-sample", "0.5")
    assert result.returncode == harness.USAGE_ERROR
    assert "--trace-file" in result.stderr
    result = harness.run("strata", "generate", "--traceparent", "nonsense", "x")
    assert result.returncode == harness.USAGE_ERROR
    assert "--traceparent" in result.stderr
