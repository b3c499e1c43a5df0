"""What the services tell operators: metrics that agree with the requests' own statistics, logs, and
a dashboard and alerts that name nothing but what there is."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certificates
import harness
import metrics
import promql_parser
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROMPTS = ["Write a Python function that sorts a list of dictionaries by a key.",
           "Write a Python function that sorts a list of dictionaries by two keys.",
           "Tell me a long story about a lighthouse."]
LENGTH = 48


class Pair:
    """A draft and a verify service with mutual TLS between them, metrics and JSON logs."""

    def __init__(self, folder: Path, corpus: Path) -> None:
        self.draft_metrics = metrics.Endpoint(folder, "draft")
        self.verify_metrics = metrics.Endpoint(folder, "verify")
        authority = certificates.Authority(folder / "tls", "authority")
        self.certificates = {"server": authority.issue("draft"),
                             "draft_client": authority.issue("verify")}
        mine = self.certificates["draft_client"]
        self.draft = harness.start_draft(folder, "--corpus", str(corpus), "--log-format", "json",
                                         "--model-tier-dir", str(folder / "tiers"),
                                         *self.certificates["server"].server_flags(authority.cert),
                                         *self.draft_metrics.arguments)
        self.tls = ["--draft-tls", "--draft-tls-ca", str(authority.cert),
                    "--draft-tls-cert", str(mine.cert), "--draft-tls-key", str(mine.key)]
        try:
            # So that a slow machine misses no deadline that the test does not want missed.
            self.verify = harness.start_verify(
                folder, "--draft-address", self.draft.address, "--draft-deadline-ms", "10000",
                "--log-format", "json", *self.tls, *self.verify_metrics.arguments)
        except BaseException:
            self.draft.close()
            raise

    def close(self) -> None:
        self.verify.close()
        self.draft.close()


@pytest.fixture(scope="module")
def pair(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    services = Pair(tmp_path_factory.mktemp("metrics"), corpus)
    yield services
    services.close()


def generate(service: harness.Service, prompt: str, *arguments: str) -> dict[str, Any]:
    return harness.generate(service, prompt, "--chat", "--max-tokens", str(LENGTH), *arguments)


def test_counters_are_the_sums_of_the_requests_statistics(pair: Pair) -> None:
    before, drafted_before = pair.verify_metrics.scrape(), pair.draft_metrics.scrape()
    answers = [generate(pair.verify, prompt, "--ignore-eos") for prompt in PROMPTS]
    answers.append(generate(pair.verify, PROMPTS[0], "--ignore-eos", "--no-speculation"))
    answers.append(generate(pair.verify, PROMPTS[0], "--ignore-eos", "--temperature", "0.8",
                            "--seed", "3"))
    refused = harness.strata(pair.verify, ["generate"], "--request-id", "r" * 129, "--", "x")
    assert refused.returncode == harness.SERVICE_ERROR
    # Steps are timed when all is done, which the clients need not wait for.
    steps = "strata_verify_step_seconds_count"
    harness.wait_until(lambda: pair.verify_metrics.scrape()(steps)
                       == pair.verify_metrics.scrape()("strata_verify_steps_total"), "idle")
    after, drafted_after = pair.verify_metrics.scrape(), pair.draft_metrics.scrape()

    def more(name: str, **labels: str) -> float:
        return after(name, **labels) - before(name, **labels)

    statistics = [answer["statistics"] for answer in answers]

    def total(key: str) -> int:
        return sum(int(one[key]) for one in statistics)

    assert more("strata_verify_requests_total", outcome="OK") == len(answers)
    assert more("strata_verify_requests_total", outcome="INVALID_ARGUMENT") == 1
    assert after.total("strata_verify_requests_total") \
        - before.total("strata_verify_requests_total") == len(answers) + 1
    assert more("strata_verify_request_seconds_count") == len(answers) + 1
    assert more("strata_verify_first_token_seconds_count") == len(answers)
    assert more("strata_verify_queue_seconds_count") == len(answers)
    for name, key in {"prompt_tokens": "prompt_tokens",
                      "cached_prompt_tokens": "cached_prompt_tokens",
                      "output_tokens": "output_tokens", "request_steps": "steps",
                      "draft_misses": "draft_misses", "preemptions": "preemptions"}.items():
        assert more(f"strata_verify_{name}_total") == total(key), name
    assert total("output_tokens") == len(answers) * LENGTH
    assert total("cached_prompt_tokens") > 0
    assert total("drafted") > 0

    for kind in ("drafted", "accepted"):
        by_tier: Counter[str] = Counter()
        by_position: Counter[str] = Counter()
        for one in statistics:
            for count in one["by_tier"]:
                by_tier[count["tier"]] += int(count[kind])
            for position, count in enumerate(one[f"{kind}_by_position"]):
                by_position[str(position) if position < 31 else "31+"] += int(count)
        name = f"strata_verify_{kind}_nodes_total"
        was = before.by(name, "tier")
        assert {tier: now - was[tier] for tier, now in after.by(name, "tier").items()
                if now > was[tier]} == {tier: n for tier, n in by_tier.items() if n > 0}
        name = f"strata_verify_{kind}_positions_total"
        was = before.by(name, "position")
        assert {at: now - was[at] for at, now in after.by(name, "position").items()
                if now > was[at]} == {at: n for at, n in by_position.items() if n > 0}

    nodes = after.by("strata_verify_confidence_nodes_total", "upto")
    claimed = after.by("strata_verify_confidence_claimed_total", "upto")
    accepted = after.by("strata_verify_confidence_accepted_total", "upto")
    assert sum(nodes.values()) == after.total("strata_verify_drafted_nodes_total")
    assert sum(accepted.values()) >= after.total("strata_verify_accepted_nodes_total")
    for upto, count in nodes.items():
        assert accepted[upto] <= count
        assert claimed[upto] <= count * float(upto) * 1.001

    # One request after the other: a step of the scheduler is one of a request, or a prompt's.
    assert more("strata_verify_steps_total") >= total("steps") + len(answers)
    assert more("strata_verify_forward_seconds_count") == more("strata_verify_steps_total")
    assert more("strata_verify_rows_total", kind="decode") == total("steps") + total("drafted")
    assert more("strata_verify_rows_total", kind="prompt") \
        == total("prompt_tokens") - total("cached_prompt_tokens")
    work = [more("strata_verify_pass_thread_seconds_total", work=kind)
            for kind in ("products", "attention", "other", "waiting")]
    # All zero where oneDNN computes the products.
    assert min(work) > 0 or max(work) == 0
    assert sum(work) <= more("strata_verify_forward_seconds_sum") * (os.cpu_count() or 1)

    # Both ends of the stream saw the same; closings of sequences are messages too.
    messages = drafted_after("strata_draft_messages_total") \
        - drafted_before("strata_draft_messages_total")
    asked = more("strata_verify_draft_messages_total")
    assert 0 < asked <= messages
    assert more("strata_verify_draft_answers_total") == asked
    assert more("strata_verify_draft_round_trip_seconds_count") == asked
    assert more("strata_verify_draft_deadline_misses_total") == 0
    # The rest was drafted ahead, and is not among the nodes of answers.
    ahead = more("strata_verify_drafts_ahead_total")
    assert more("strata_verify_drafts_total") == asked + ahead
    assert ahead > 0
    sent = drafted_after.total("strata_draft_drafted_nodes_total") \
        - drafted_before.total("strata_draft_drafted_nodes_total")
    assert 0 < sent < total("drafted")
    assert drafted_after("strata_draft_ahead_seconds_count") \
        >= drafted_before("strata_draft_ahead_seconds_count") + asked
    assert drafted_after.total("strata_draft_answers_total") \
        == drafted_after("strata_draft_answers_total", status="ok")


def test_gauges_tell_the_state(pair: Pair) -> None:
    verify, draft = pair.verify_metrics.scrape(), pair.draft_metrics.scrape()
    info = harness.info(pair.verify)
    assert verify("strata_verify_exact") == int(info["exact"])
    assert verify("strata_verify_build_info", version=info["version"]) == 1
    assert verify("strata_verify_draft_mode_info", mode="remote") == 1
    assert verify("strata_verify_draft_breaker_open") == 0
    assert verify("strata_verify_draft_available") == 1
    assert verify("strata_verify_kv_pages") == int(info["kv_pages_total"])
    assert verify("strata_verify_kv_pages_free") + verify("strata_verify_kv_pages_kept") \
        == verify("strata_verify_kv_pages")
    for gauge in ("requests_in_flight", "queue_length", "active_sequences", "preempted_sequences"):
        assert verify(f"strata_verify_{gauge}") == 0, gauge
    assert draft("strata_draft_corpus_snapshot_info",
                 snapshot=snapshot_name(draft),
                 tokenizer_fingerprint=str(info["tokenizer_fingerprint"])) == 1
    assert draft("strata_draft_corpus_tokens") > 0
    assert draft("strata_draft_corpus_damaged_rows") == 0
    assert draft("strata_draft_corpus_block_cache_bytes") > 0
    assert draft("strata_draft_streams_open") == 1
    for use, scrape, service in (("server", draft, "draft"), ("draft_client", verify, "verify")):
        ends = subprocess.run(["openssl", "x509", "-enddate", "-noout", "-in",
                               str(pair.certificates[use].cert)],
                              capture_output=True, text=True, check=True).stdout
        told = scrape(f"strata_{service}_tls_certificate_expiry_timestamp", use=use)
        assert ssl.cert_time_to_seconds(ends.strip().removeprefix("notAfter=")) == told
    for scrape in (verify, draft):
        assert scrape("process_resident_memory_bytes") > 1 << 20


def snapshot_name(scrape: metrics.Scrape) -> str:
    return next(iter(scrape.by("strata_draft_corpus_snapshot_info", "snapshot")))


def test_names_follow_the_conventions(pair: Pair) -> None:
    for scrape, prefix in ((pair.verify_metrics.scrape(), "strata_verify_"),
                           (pair.draft_metrics.scrape(), "strata_draft_")):
        for name, kind in scrape.types.items():
            assert name.startswith((prefix, "process_")), name
            assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
            assert scrape.help[name].endswith("."), name
            assert (kind == "counter") == name.endswith("_total"), name
            if kind == "histogram":
                assert name.endswith("_seconds"), name
                buckets = [value for (found, _), value in scrape.values.items()
                           if found == f"{name}_bucket"]
                assert buckets == sorted(buckets), name
                assert buckets[-1] == scrape(f"{name}_count"), name
        labels = {label for _, labels in scrape.values for label, _ in labels}
        assert labels.isdisjoint({"tenant", "prompt", "request_id", "sequence"})


def test_a_draft_service_that_hangs_shows(pair: Pair) -> None:
    # With a deadline that a stopped service misses soon.
    folder = Path(pair.verify_metrics.arguments[-1]).parent / "hang"
    endpoint = metrics.Endpoint(folder, "verify")
    with harness.start_verify(folder, "--draft-address", pair.draft.address, *pair.tls,
                              *endpoint.arguments) as verify:
        pair.draft.suspend()
        try:
            answer = generate(verify, PROMPTS[2], "--ignore-eos")
        finally:
            pair.draft.resume()
        scrape = endpoint.scrape()
        assert scrape("strata_verify_draft_misses_total") \
            == int(answer["statistics"]["draft_misses"]) > 0
        assert scrape("strata_verify_draft_deadline_misses_total") > 0
        assert scrape("strata_verify_draft_breaker_open") == 1
        assert scrape("strata_verify_draft_available") == 0
        assert scrape("strata_verify_requests_total", outcome="OK") == 1


def test_tokens_are_the_same_while_metrics_are_scraped(pair: Pair,
                                                       embedded: harness.Service) -> None:
    expected = generate(embedded, PROMPTS[2], "--ignore-eos")["token_ids"]
    with harness.RunningGeneration(pair.verify, PROMPTS[0], "--chat", "--max-tokens", "256",
                                   "--ignore-eos") as other:
        other.read_some()
        for _ in range(50):
            pair.verify_metrics.scrape()
            pair.draft_metrics.scrape()
        assert generate(pair.verify, PROMPTS[2], "--ignore-eos")["token_ids"] == expected
        assert other.finish()[0] == harness.SUCCESS


def test_a_request_is_a_line_of_json(pair: Pair) -> None:
    answer = generate(pair.verify, PROMPTS[1], "--request-id", "the-one", "--ignore-eos")
    lines = metrics.log_events(pair.verify)
    assert len(lines) == len(pair.verify.whole_log().splitlines()) - 1, "not all is JSON"
    mine = [line for line in lines if line.get("request_id") == "the-one"]
    assert len(mine) == 1
    line = mine[0]
    assert line["outcome"] == "OK"
    assert line["service"] == "strata-verify"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", str(line["time"]))
    for key in ("prompt_tokens", "cached_prompt_tokens", "output_tokens", "steps", "drafted",
                "accepted"):
        assert line[key] == int(answer["statistics"][key]), key
    log = pair.verify.whole_log()
    assert answer["text"].strip()[:20] not in log
    assert "dictionaries" not in log


def test_an_address_in_use_is_a_start_error(pair: Pair) -> None:
    model = str(harness.environment_path("STRATA_TEST_MODEL"))
    for name, arguments in {"strata-draft": [], "strata-verify": ["--model", model]}.items():
        result = harness.run(name, "--listen", "127.0.0.1:0", "--metrics-listen",
                             pair.verify_metrics.address, *arguments)
        assert result.returncode == 1
        assert f"cannot serve metrics on '{pair.verify_metrics.address}'" in result.stderr
        result = harness.run(name, "--listen", "127.0.0.1:0", "--metrics-listen", "nonsense",
                             *arguments)
        assert result.returncode == 1
        assert "'nonsense' (--metrics-listen) is not HOST:PORT" in result.stderr


def test_a_drain_with_metrics_ends_with_0(corpus: Path, tmp_path: Path) -> None:
    endpoint = metrics.Endpoint(tmp_path, "draft")
    with harness.start_draft(tmp_path, "--corpus", str(corpus), *endpoint.arguments) as draft:
        endpoint.scrape()
        draft.signal(signal.SIGTERM)
        assert draft.process.wait(60) == 0


def test_embedded_drafting_is_told_too(corpus: Path, tmp_path: Path) -> None:
    endpoint = metrics.Endpoint(tmp_path, "verify")
    with harness.start_verify(tmp_path, "--draft", "embedded", "--corpus", str(corpus),
                              *endpoint.arguments) as verify:
        generate(verify, PROMPTS[0])
        scrape = endpoint.scrape()
        assert scrape.total("strata_draft_drafted_nodes_total") > 0
        assert scrape("strata_draft_corpus_tokens") > 0
        assert "strata_verify_draft_breaker_open" not in scrape.names()


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\b(?:strata|process)_[a-z0-9_]+", text))


def test_dashboard_and_alerts_name_what_is_exported(pair: Pair) -> None:
    exported = pair.verify_metrics.scrape().names() | pair.draft_metrics.scrape().names()
    types = pair.verify_metrics.scrape().types | pair.draft_metrics.scrape().types
    dashboard = json.loads((ROOT / "deploy/grafana/strata.json").read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"]
                   for target in panel.get("targets", [])]
    assert len(expressions) > 10
    alerts = (ROOT / "deploy/prometheus/alerts.yaml").read_text(encoding="utf-8")
    for name in names_in("\n".join([*expressions, alerts])):
        assert name in exported, f"{name} is exported by neither service"
    # So do the other texts and manifests.
    files = [path for path in (ROOT / "deploy").rglob("*") if path.suffix in (".md", ".yaml")]
    assert len(files) > 20
    for path in files:
        for name in names_in(path.read_text(encoding="utf-8")):
            assert name in exported | types.keys(), f"{path}: {name} is exported by neither service"
    # What the tables list is what there is.
    page = (ROOT / "deploy/metrics.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert listed == {name for name in types if name.startswith("strata_")}


def selectors(expression: Any) -> Iterator[Any]:
    """The metrics that a parsed PromQL expression reads."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for part in ("lhs", "rhs", "expr", "param", "vector_selector"):
        if getattr(expression, part, None) is not None:
            yield from selectors(getattr(expression, part))
    for argument in getattr(expression, "args", None) or []:
        yield from selectors(argument)


def test_expressions_are_promql_and_ask_for_labels_and_values_that_there_are(pair: Pair) -> None:
    labels: dict[str, dict[str, set[str]]] = {}
    for scrape in (pair.verify_metrics.scrape(), pair.draft_metrics.scrape()):
        for name, pairs in scrape.values:
            for label, value in pairs:
                labels.setdefault(name, {}).setdefault(label, set()).add(value)
    dashboard = json.loads((ROOT / "deploy/grafana/strata.json").read_text(encoding="utf-8"))
    expressions = [re.sub(r"\$__\w+", "5m", target["expr"])
                   for panel in dashboard["panels"] for target in panel.get("targets", [])]
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text(encoding="utf-8"))
    expressions += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    found = 0
    for expression in expressions:
        for selector in selectors(promql_parser.parse(expression)):
            for matcher in selector.matchers.matchers:
                # What Prometheus adds to each.
                if matcher.name in ("instance", "job"):
                    continue
                found += 1
                known = labels.get(selector.name, {}).get(matcher.name)
                assert known, f"{selector.name} has no label {matcher.name}: {expression}"
                if matcher.op == promql_parser.MatchOp.Equal:
                    assert matcher.value in known, expression
                elif matcher.op == promql_parser.MatchOp.Re and "$" not in matcher.value:
                    # Each alternative.
                    for value in matcher.value.split("|"):
                        assert value in known, expression
    assert found >= 3
    with pytest.raises(ValueError):
        promql_parser.parse("sum by (instance (rate(x[5m]))")


def test_every_alert_has_its_section_in_the_runbook() -> None:
    alerts = (ROOT / "deploy/prometheus/alerts.yaml").read_text(encoding="utf-8")
    names = re.findall(r"- alert: (\w+)", alerts)
    assert len(names) > 5
    assert len(set(names)) == len(names)
    runbook = (ROOT / "deploy/runbook.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", runbook, re.MULTILINE) == names
    links = re.findall(r"runbook: deploy/runbook\.md#(\w+)", alerts)
    assert links == [name.lower() for name in names]
