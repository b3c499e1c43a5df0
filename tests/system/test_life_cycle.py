"""Start, drain and cancellation; what the model tier remembers."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import grpc
import harness
import metrics
import pytest
from faults.proxy import Proxy

PROMPT = "Write a long story about a lighthouse keeper and his dog."
LONG = ["--chat", "--ignore-eos", "--max-tokens"]
GENERATE = "/strata.v1.GenerateService/Generate"
# A GenerateRequest: text "Hello", 8 tokens.
HELLO = b"\x0a\x05Hello\x28\x08"


def test_sigterm_lets_answers_end(corpus: Path, tmp_path: Path) -> None:
    with harness.start_verify(tmp_path, "--corpus", str(corpus)) as service:
        expected = harness.strata(service, ["generate"], *LONG, "128", "--", PROMPT).stdout
        with harness.RunningGeneration(service, PROMPT, *LONG, "128",
                                       "--no-speculation") as generation:
            generation.read_some()
            service.process.terminate()
            # Whoever comes now is told so, or finds nobody.
            refused = harness.strata(service, ["generate"], "--max-tokens", "4", "x")
            code, text, error = generation.finish()
        assert code == harness.SUCCESS, error
        assert text == expected
        assert refused.returncode == harness.SERVICE_ERROR
        assert "UNAVAILABLE" in refused.stderr
        assert service.process.wait(60) == 0, service.log()


def test_a_call_during_the_drain_is_told_when_to_come_back(tmp_path: Path) -> None:
    with harness.start_verify(tmp_path, "--draft", "off", "--drain-seconds", "300") as service, \
            grpc.insecure_channel(service.address) as channel:
        generate = channel.unary_stream(GENERATE)
        assert list(generate(HELLO, timeout=60))
        with harness.RunningGeneration(service, PROMPT, *LONG, "300") as generation:
            generation.read_some()
            service.process.terminate()
            harness.wait_until(lambda: "draining" in service.log(), "the drain has begun")
            # By the connection that there is: it stays until the answers under way have ended.
            for _ in range(100):
                try:
                    list(generate(HELLO, timeout=60))
                except grpc.RpcError as error:
                    refusal = error
                    break
            assert refusal.code() == grpc.StatusCode.UNAVAILABLE
            hints = [value for key, value in refusal.trailing_metadata() if key == "retry-after-ms"]
            assert len(hints) == 1 and int(hints[0]) >= 0
            assert generation.process.poll() is None, "it was still draining"
            assert generation.finish()[0] == harness.SUCCESS


def test_clients_of_one_address_have_left_before_a_drain(tmp_path: Path) -> None:
    """A rolling restart as Kubernetes makes it: the pod leaves the Service, waits for longer than
    its connections may last, and only then is told to end. Clients that know the Service's address
    alone and try nothing twice lose no request."""
    age = 1.0
    arguments = ["--draft", "off", "--max-connection-age", str(age)]
    with harness.start_verify(tmp_path / "old", *arguments) as old, \
            harness.start_verify(tmp_path / "new", *arguments) as new:
        virtual_ip = Proxy(old.address, seed=1)
        failures: list[str] = []
        answered: list[float] = []
        stop = threading.Event()

        def ask() -> None:
            with grpc.insecure_channel(virtual_ip.address) as channel:
                generate = channel.unary_stream(GENERATE)
                while not stop.is_set():
                    try:
                        list(generate(HELLO, timeout=60))
                        answered.append(time.monotonic())
                    except grpc.RpcError as error:
                        failures.append(f"{error.code()}: {error.details()}")

        clients = [threading.Thread(target=ask) for _ in range(3)]
        for client in clients:
            client.start()
        try:
            harness.wait_until(lambda: len(answered) > 10, "the old one answers")
            virtual_ip.set_target(new.address)
            time.sleep(1.1 * age + 2)
            old.process.terminate()
            assert old.process.wait(60) == 0, old.log()
            ended = time.monotonic()
            harness.wait_until(lambda: answered[-1] > ended + 1, "the new one answers")
        finally:
            stop.set()
            for client in clients:
                client.join()
            virtual_ip.close()
        assert not failures


def test_the_drain_has_an_end(tmp_path: Path) -> None:
    with harness.start_verify(tmp_path, "--draft", "off", "--drain-seconds", "0.2") as service:
        with harness.RunningGeneration(service, PROMPT, *LONG, "2000") as generation:
            generation.read_some()
            service.process.terminate()
            code, _, error = generation.finish()
        assert code == harness.SERVICE_ERROR
        assert error.startswith(("strata: CANCELLED", "strata: UNAVAILABLE")), error
        assert service.process.wait(60) == 0, service.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_draft_service_stops_with_a_verifier_connected(corpus: Path, tmp_path: Path,
                                                           number: signal.Signals) -> None:
    with harness.start_draft(tmp_path, "--corpus", str(corpus)) as draft, \
            harness.start_verify(tmp_path, "--draft-address", draft.address) as verify:
        harness.generate(verify, PROMPT, "--max-tokens", "16")
        draft.signal(number)
        assert draft.process.wait(60) == 0, draft.log()
        assert harness.generate(verify, PROMPT, "--max-tokens", "16")["token_ids"]
        assert verify.terminate() == 0, verify.log()


def test_a_verify_service_that_hangs_is_left_for_another(tmp_path: Path) -> None:
    with harness.start_verify(tmp_path, "--draft", "off") as one, \
            harness.start_verify(tmp_path, "--draft", "off") as other:
        expected = harness.strata(one, ["generate"], *LONG, "256", "--", PROMPT).stdout
        with harness.RunningGeneration([one, other], PROMPT, *LONG, "256") as generation:
            generation.read_some()
            busy = [service for service in (one, other)
                    if harness.info(service)["kv_pages_free"]
                    < harness.info(service)["kv_pages_total"]]
            assert len(busy) == 1
            busy[0].suspend()
            # It says nothing any more, not even that it has gone: pings tell, within 20 s.
            code, text, error = generation.finish()
            busy[0].resume()
        assert code == harness.SUCCESS, error
        assert text == expected


def test_ctrl_c_cancels_and_frees(embedded: harness.Service) -> None:
    total = harness.info(embedded)["kv_pages_total"]
    with harness.RunningGeneration(embedded, PROMPT, *LONG, "4000") as generation:
        generation.read_some()
        assert harness.info(embedded)["kv_pages_free"] < total
        generation.process.send_signal(signal.SIGINT)
        code, _, error = generation.finish()
    assert code == harness.INTERRUPTED
    assert error == "strata: interrupted\n"
    harness.wait_until(lambda: harness.info(embedded)["kv_pages_free"] == total,
                       "the cancelled call's KV pages are free")


def test_a_client_that_vanishes_frees_its_pages(embedded: harness.Service) -> None:
    total = harness.info(embedded)["kv_pages_total"]
    with harness.RunningGeneration(embedded, PROMPT, *LONG, "4000") as generation:
        generation.read_some()
        generation.process.kill()
        generation.process.communicate()
    harness.wait_until(lambda: harness.info(embedded)["kv_pages_free"] == total,
                       "the vanished call's KV pages are free")


def test_the_model_tier_learns_for_its_tenant_alone(embedded: harness.Service) -> None:
    def steps(tenant: str) -> int:
        answer = harness.generate(embedded, "Name three rivers of Europe and describe each.",
                                  "--chat", "--max-tokens", "64", "--tenant", tenant)
        return int(answer["statistics"]["steps"])

    first = steps("one")
    again = steps("one")
    other = steps("two")
    assert again < first
    assert other == first


def test_the_model_tier_outlives_the_process(tmp_path: Path) -> None:
    arguments = ["--model-tier-dir", str(tmp_path / "tiers")]

    def generate_once() -> dict[str, object]:
        with harness.start_verify(tmp_path, *arguments) as service:
            answer = harness.generate(service, "Name three rivers of Europe.", "--chat",
                                      "--max-tokens", "48")
            assert service.terminate() == 0, service.log()
        return answer

    first = generate_once()
    second = generate_once()
    assert second["token_ids"] == first["token_ids"]
    assert harness.drafted_by(first, "model") == 0
    assert harness.drafted_by(second, "model") > 0


def test_open_files_are_limited_by_the_hard_limit_alone(tmp_path: Path) -> None:
    endpoint = metrics.Endpoint(tmp_path, "draft")
    with harness.Service("strata-draft", tmp_path, endpoint.arguments,
                         launcher=["prlimit", "--nofile=256:1000"]):
        assert endpoint.scrape()("process_max_fds") == 1000


def test_tokenize_and_generate_agree(embedded: harness.Service) -> None:
    text = "Hello, 世界 👋🏽 <|im_start|>"
    ids = harness.strata_json(embedded, ["tokenize"], "--", text)["ids"]
    by_text = harness.generate(embedded, text, "--max-tokens", "8")
    by_ids = harness.strata_json(embedded, ["generate"], "--max-tokens", "8", "--token-ids",
                                 ",".join(map(str, ids)))
    assert by_text["token_ids"] == by_ids["token_ids"]
    assert by_text["statistics"]["prompt_tokens"] == len(ids)


def test_log_probabilities(embedded: harness.Service) -> None:
    arguments = ["--max-tokens", "12", "--logprobs", "3"]
    drafted = harness.generate(embedded, "The capital of France is", *arguments)
    plain = harness.generate(embedded, "The capital of France is", *arguments, "--no-speculation")
    assert drafted["logprobs"] == plain["logprobs"]
    assert [entry["id"] for entry in drafted["logprobs"]] == drafted["token_ids"]
    for entry in drafted["logprobs"]:
        assert len(entry["top"]) == 3
        # Greedy: the token is the most likely.
        assert entry["top"][0]["id"] == entry["id"]
        assert entry["top"][0]["logprob"] == entry["logprob"] <= 0
