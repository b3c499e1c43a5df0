"""Bad requests get the right status and a sentence, and harm nobody else."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import half_sent
import harness
import metrics
import pytest

# name: (arguments of `strata generate`, status, what the message names)
REQUESTS: dict[str, tuple[list[str], str, str]] = {
    "negative temperature": (["--temperature", "-1", "x"], "INVALID_ARGUMENT", "temperature"),
    "temperature nan": (["--temperature", "nan", "x"], "INVALID_ARGUMENT", "temperature"),
    "temperature inf": (["--temperature", "inf", "x"], "INVALID_ARGUMENT", "temperature"),
    "top-p 0": (["--top-p", "0", "x"], "INVALID_ARGUMENT", "top_p"),
    "top-p 1.5": (["--top-p", "1.5", "x"], "INVALID_ARGUMENT", "top_p"),
    "top-k too large": (["--top-k", "4294967295", "x"], "INVALID_ARGUMENT", "top_k"),
    "min-p 2": (["--min-p", "2", "x"], "INVALID_ARGUMENT", "min_p"),
    "repetition penalty 0": (
        ["--repetition-penalty", "0", "x"], "INVALID_ARGUMENT", "repetition_penalty"),
    "presence penalty nan": (
        ["--presence-penalty", "nan", "x"], "INVALID_ARGUMENT", "presence_penalty"),
    "frequency penalty inf": (
        ["--frequency-penalty", "inf", "x"], "INVALID_ARGUMENT", "frequency_penalty"),
    "stop string too long": (["--stop", "s" * 257, "x"], "INVALID_ARGUMENT", "stop"),
    "17 stop strings": (["--stop=s"] * 17 + ["x"], "INVALID_ARGUMENT", "stop"),
    "21 log-probabilities": (["--logprobs", "21", "x"], "INVALID_ARGUMENT", "top_logprobs"),
    "tenant too long": (["--tenant", "t" * 129, "x"], "INVALID_ARGUMENT", "tenant"),
    "request id too long": (["--request-id", "r" * 129, "x"], "INVALID_ARGUMENT", "request_id"),
    "token id out of range": (["--token-ids", "1,49152"], "INVALID_ARGUMENT", "49152"),
    "token id of 2^32 - 1": (["--token-ids", "4294967295"], "INVALID_ARGUMENT", "4294967295"),
    "stop token id out of range": (
        ["--stop-token-id", "49152", "x"], "INVALID_ARGUMENT", "stop_token_ids"),
}


@pytest.mark.parametrize("arguments,status,named", REQUESTS.values(), ids=REQUESTS.keys())
def test_refused(embedded: harness.Service, arguments: list[str], status: str,
                 named: str) -> None:
    result = harness.strata(embedded, ["generate"], *arguments)
    assert result.returncode == harness.SERVICE_ERROR, result.stdout + result.stderr
    assert result.stderr.startswith(f"strata: {status}: "), result.stderr
    assert named in result.stderr
    assert result.stdout == ""


def test_empty_prompt(embedded: harness.Service) -> None:
    result = harness.strata(embedded, ["generate"], "-", stdin=b"")
    assert result.returncode == harness.SERVICE_ERROR
    assert result.stderr.startswith("strata: INVALID_ARGUMENT: ")
    assert "empty" in result.stderr


def test_over_long_prompt(embedded: harness.Service) -> None:
    longest = harness.info(embedded)["max_sequence_length"]
    result = harness.strata(embedded, ["generate"], "-", stdin=b"one two " * longest)
    assert result.returncode == harness.SERVICE_ERROR
    assert result.stderr.startswith("strata: OUT_OF_RANGE: ")
    assert str(longest - 1) in result.stderr


def test_a_message_of_64_mib(embedded: harness.Service) -> None:
    result = harness.strata(embedded, ["generate"], "-", stdin=b"x" * (64 << 20))
    assert result.returncode == harness.SERVICE_ERROR
    assert result.stderr.startswith("strata: RESOURCE_EXHAUSTED: ")


def test_text_that_is_not_utf8(embedded: harness.Service) -> None:
    """A proto3 string must be UTF-8."""
    result = harness.strata(embedded, ["generate"], "--max-tokens", "4", "-", stdin=b"caf\xe9 \xff")
    assert result.returncode == harness.USAGE_ERROR
    assert "the prompt is not UTF-8: byte 3 of 6" in result.stderr
    assert harness.generate(embedded, "Hello", "--max-tokens", "2")["token_ids"]


def half_a_message(path: str) -> bytes:
    """An HTTP/2 connection with one call, of whose message of 1,000 bytes the first ten come."""
    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return (len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
                + payload)

    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost",
              "te": "trailers", "content-type": "application/grpc"}
    headers = b"".join(b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)])
                       + value.encode() for name, value in fields.items())
    settings, end_of_headers = frame(4, 0, 0, b""), 4
    data = b"\x00" + (1000).to_bytes(4, "big") + b"x" * 10
    return (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings
            + frame(1, end_of_headers, 1, headers) + frame(0, 0, 1, data))


@pytest.mark.parametrize("sent", [
    half_a_message("/strata.v1.GenerateService/Generate"),
    half_a_message("/strata.v1.GenerateService/Tokenize"),
    b"GET / HTTP/1.1\r\n\r\n",
    # The start of an HTTP/2 connection, then half a frame.
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x40\x00\x00",
    b"\x16\x03\x01\x00\x05hello",
], ids=["half a GenerateRequest", "half a TokenizeRequest", "HTTP/1.1", "half an HTTP/2 frame", "TLS"])
def test_a_connection_that_ends_in_the_middle(embedded: harness.Service, sent: bytes) -> None:
    host, port = embedded.address.rsplit(":", 1)
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(sent)
            time.sleep(0.01)  # so that the service is in the middle of it
    assert harness.generate(embedded, "Hello", "--max-tokens", "2")["token_ids"]


def test_nobody_is_listening() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        result = harness.run("strata", "generate", "--address", address, "x")
    assert result.returncode == harness.SERVICE_ERROR
    assert result.stderr.startswith("strata: UNAVAILABLE: ")


def test_a_deadline(embedded: harness.Service) -> None:
    result = harness.strata(embedded, ["generate"], "--timeout", "0.2", "--ignore-eos",
                            "--max-tokens", "2000", "Once upon a time")
    assert result.returncode == harness.SERVICE_ERROR
    assert "strata: DEADLINE_EXCEEDED" in result.stderr


@pytest.mark.parametrize("content,message", [
    (b'{"prompt": "x"}\nnot json\n', "line 2"),
    (b'{"text": "x"}\n', "line 1"),
    (b'{"turns": []}\n', "line 1"),
    (b"", "empty"),
])
def test_bad_prompt_files(embedded: harness.Service, tmp_path: Path, content: bytes,
                          message: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    result = harness.strata(embedded, ["bench", "exact"], "--prompts", str(path))
    assert result.returncode == harness.USAGE_ERROR
    assert message in result.stderr


def test_all_kv_pages_come_back(embedded: harness.Service) -> None:
    """After every refusal above."""
    total = harness.info(embedded)["kv_pages_total"]
    # Those of a request whose client gave up come at the end of the step it was in.
    harness.wait_until(lambda: harness.info(embedded)["kv_pages_free"] == total,
                       "all KV pages free", seconds=30)


def test_messages_that_never_end_take_no_more_memory_than_there_is_for_them(
        tmp_path: Path) -> None:
    """Anybody can begin messages, before any token is looked at."""
    endpoint = metrics.Endpoint(tmp_path, "draft")
    resident = "process_resident_memory_bytes"
    with harness.start_draft(tmp_path, *endpoint.arguments) as draft:
        before = endpoint.scrape()(resident)
        connections = [half_sent.Connection(draft.address, "/strata.v1.DraftService/DraftOnce",
                                            calls=4, length=15 << 20) for _ in range(30)]
        sent, refused = 0, 0
        end = time.monotonic() + 60
        # Of 1.8 GB. Until connections are ended the service lets its clients wait.
        while time.monotonic() < end and (sent < 400 << 20 or refused == 0):
            for connection in list(connections):
                try:
                    sent += connection.send_some()
                except OSError:
                    refused += 1
                    connection.close()
                    connections.remove(connection)
        assert sent > 300 << 20, "more than the service has room for"
        if not harness.sanitized():
            assert endpoint.scrape()(resident) - before < 384 << 20
        # Others are served meanwhile: that they ask for what there is not is an answer.
        info = harness.strata(draft, ["info"], "--timeout", "30")
        assert "UNIMPLEMENTED" in info.stderr
        for connection in connections:
            connection.close()
        assert draft.terminate() == 0
