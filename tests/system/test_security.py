"""Who is let in, as whom, and how often: certificates, tokens, tenants and quotas."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certificates
import harness
import pytest

PROMPT = "Write a long story about a lighthouse keeper and his dog."
# The services look at their files once a second at most.
SETTLE = 1.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("security")


@pytest.fixture(scope="module")
def authority(folder: Path) -> certificates.Authority:
    return certificates.Authority(folder, "authority")


@pytest.fixture(scope="module")
def stranger(folder: Path) -> certificates.Authority:
    return certificates.Authority(folder, "stranger")


def client(ca: Path, pair: certificates.Pair | None = None) -> list[str]:
    flags = ["--tls-ca", str(ca)]
    return flags + (["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)] if pair else [])


def status_in(error: str) -> str:
    """The status that `strata` ended with; gRPC says things of its own before."""
    said = [line for line in error.splitlines() if line.startswith("strata: ")]
    assert said, error
    return said[-1].removeprefix("strata: ").split(":")[0]


def status_of(service: harness.Service, *flags: str) -> str:
    """OK, or the name of the status that `strata info` got."""
    result = harness.strata(service, ["info"], "--timeout", "60", *flags)
    if result.returncode == harness.SUCCESS:
        return "OK"
    assert result.returncode == harness.SERVICE_ERROR, result.stderr
    return status_in(result.stderr)


# The draft service starts at once and has no GetModelInfo: whoever is told so came through TLS.
THROUGH = "UNIMPLEMENTED"


@pytest.fixture(scope="module")
def service(folder: Path, authority: certificates.Authority) -> Iterator[harness.Service]:
    with harness.start_draft(folder / "mutual",
                             *authority.issue("server").server_flags(authority.cert)) as draft:
        yield draft


class TestMutualTls:
    """The draft service, which lets in whom its authority vouches for."""

    def test_good(self, service: harness.Service, authority: certificates.Authority) -> None:
        assert status_of(service, *client(authority.cert, authority.issue("client"))) == THROUGH

    def test_an_authority_that_did_not_sign_the_server(
            self, service: harness.Service, authority: certificates.Authority,
            stranger: certificates.Authority) -> None:
        assert status_of(service, *client(stranger.cert, authority.issue("client"))) == "UNAVAILABLE"

    def test_no_client_certificate(self, service: harness.Service,
                                   authority: certificates.Authority) -> None:
        assert status_of(service, *client(authority.cert)) == "UNAVAILABLE"

    def test_a_client_of_another_authority(self, service: harness.Service,
                                           authority: certificates.Authority,
                                           stranger: certificates.Authority) -> None:
        pair = stranger.issue("client")
        assert status_of(service, *client(authority.cert, pair)) == "UNAVAILABLE"

    def test_a_self_signed_client(self, service: harness.Service, folder: Path,
                                  authority: certificates.Authority) -> None:
        pair = certificates.self_signed(folder, "self")
        assert status_of(service, *client(authority.cert, pair)) == "UNAVAILABLE"

    def test_an_expired_client(self, service: harness.Service,
                               authority: certificates.Authority) -> None:
        pair = authority.issue("late", expired=True)
        assert status_of(service, *client(authority.cert, pair)) == "UNAVAILABLE"

    def test_plain_text(self, service: harness.Service) -> None:
        assert status_of(service) == "UNAVAILABLE"


def test_only_clients_of_a_name(folder: Path, authority: certificates.Authority) -> None:
    verifier = authority.issue("verifier", "DNS:strata-verify.example")
    with harness.start_draft(folder / "named", "--tls-client-name", "strata-verify.example",
                             *authority.issue("server").server_flags(authority.cert)) as draft:
        assert status_of(draft, *client(authority.cert, verifier)) == THROUGH
        for other in (authority.issue("strata-verify.example"),
                      authority.issue("other-client", certificates.OTHER_NAME)):
            assert status_of(draft, *client(authority.cert, other)) == "PERMISSION_DENIED"
    result = harness.run("strata-draft", "--tls-client-name", "strata-verify.example")
    assert result.returncode == 1
    assert "without a certificate authority for clients" in result.stderr


@pytest.mark.parametrize("case", ["expired", "wrong host name"])
def test_a_server_that_clients_refuse(case: str, folder: Path,
                                      authority: certificates.Authority) -> None:
    pair = (authority.issue("late-server", expired=True) if case == "expired" else
            authority.issue("other", certificates.OTHER_NAME))
    with harness.start_draft(folder / case, *pair.server_flags()) as service:
        assert status_of(service, *client(authority.cert)) == "UNAVAILABLE"
        assert ("expired at" in service.log()) == (case == "expired")


@pytest.mark.parametrize("name", ["strata-draft", "strata-verify"])
def test_bad_files_are_named_at_start(name: str, folder: Path, authority: certificates.Authority,
                                      stranger: certificates.Authority) -> None:
    good = authority.issue("start")
    text = folder / "text.pem"
    text.write_text("no certificate", encoding="utf-8")
    cut = folder / "cut.pem"
    cut.write_bytes(good.cert.read_bytes()[:300])
    other_key = stranger.issue("start").key
    missing = folder / "missing.pem"
    arguments = [] if name == "strata-draft" else [
        "--model", str(harness.environment_path("STRATA_TEST_MODEL"))]
    for cert, key, ca, named in ((text, good.key, None, text), (cut, good.key, None, cut),
                                 (good.cert, text, None, text),
                                 (good.cert, other_key, None, other_key),
                                 (good.cert, missing, None, missing),
                                 (good.cert, good.key, text, text)):
        result = harness.run(name, "--listen", "127.0.0.1:0", *arguments,
                             *certificates.Pair(cert, key).server_flags(ca))
        assert result.returncode == 1, result.stderr
        assert str(named) in result.stderr
    # Before the model is loaded, which takes long.
    assert "loading" not in result.stderr


def test_rotation_of_a_servers_certificates(folder: Path, authority: certificates.Authority,
                                            stranger: certificates.Authority) -> None:
    live = authority.issue("rotated")
    with harness.start_draft(folder / "rotation", *live.server_flags()) as service:
        assert status_of(service, *client(authority.cert)) == THROUGH
        certificates.replace(live.cert, b"-----BEGIN CERTIFICATE-----\nbroken\n")
        time.sleep(SETTLE)
        assert status_of(service, *client(authority.cert)) == THROUGH
        assert f"'{live.cert}' is damaged" in service.log()
        assert "stay in use" in service.log()
        live.replace_by(authority.issue("late-rotation", expired=True))
        time.sleep(SETTLE)
        assert status_of(service, *client(authority.cert)) == THROUGH, "the new one has expired"
        live.replace_by(stranger.issue("rotated"))
        harness.wait_until(lambda: status_of(service, *client(stranger.cert)) == THROUGH,
                           "the new certificate is in use")
        assert status_of(service, *client(authority.cert)) == "UNAVAILABLE"


def token_file(path: Path, entries: list[dict[str, Any]]) -> Path:
    """`token` of each entry is replaced by its digest."""
    listed = []
    for entry in entries:
        entry = dict(entry)
        entry["sha256"] = hashlib.sha256(entry.pop("token").encode()).hexdigest()
        listed.append(entry)
    certificates.replace(path, json.dumps({"tokens": listed}).encode())
    return path


ENTRIES: list[dict[str, Any]] = [
    {"token": "token-of-alice", "tenant": "alice"},
    {"token": "token-of-bob", "tenant": "bob", "expires": "2100-01-01T00:00:00Z"},
    {"token": "token-of-zed", "tenant": "zed"},
    {"token": "token-of-yan", "tenant": "yan"},
    {"token": "old-token", "tenant": "alice", "expires": "2020-01-01T00:00:00+01:00"},
    {"token": "token-of-few", "tenant": "few", "quotas": {"requests_per_minute": 2}},
    {"token": "token-of-short", "tenant": "short", "quotas": {"tokens_per_minute": 100}},
    {"token": "token-of-single", "tenant": "single", "quotas": {"concurrent_requests": 1}},
]


class Secured:
    """A verify service with TLS for clients and mutual TLS towards its draft service."""

    def __init__(self, folder: Path, draft: harness.Service, verify: harness.Service,
                 draft_pair: certificates.Pair, live: certificates.Pair, ca: Path,
                 tokens: Path) -> None:
        self.folder, self.draft, self.verify = folder, draft, verify
        self.draft_pair, self.live, self.ca, self.tokens = draft_pair, live, ca, tokens

    def flags(self, token: str | None, ca: Path | None = None) -> list[str]:
        flags = client(ca or self.ca)
        if token is not None:
            path = self.folder / f"{token}.token"
            path.write_text(token + "\n", encoding="utf-8")
            flags += ["--token-file", str(path)]
        return flags

    def generate(self, token: str | None, *arguments: str) -> tuple[str, str]:
        """(status, what was said on standard error)."""
        few = [] if "--max-tokens" in arguments else ["--max-tokens", "4"]
        result = harness.strata(self.verify, ["generate"], *few,
                                *self.flags(token), *arguments, "--", "Hello")
        if result.returncode == harness.SUCCESS:
            return "OK", result.stderr
        assert result.returncode == harness.SERVICE_ERROR, result.stderr
        return status_in(result.stderr), result.stderr


@pytest.fixture(scope="module")
def secured(folder: Path, corpus: Path, authority: certificates.Authority) -> Iterator[Secured]:
    # Copies, to be replaced while the services run.
    ca = folder / "live-ca.pem"
    shutil.copy(authority.cert, ca)
    draft_pair, verify_pair = authority.issue("draft"), authority.issue("verify")
    live = authority.issue("live")
    tokens = token_file(folder / "tokens.json", ENTRIES)
    with harness.start_draft(folder / "draft", "--corpus", str(corpus),
                             *draft_pair.server_flags(ca)) as draft, \
            harness.start_verify(
                folder / "verify", "--draft-address", draft.address, "--draft-tls",
                "--draft-tls-ca", str(ca), "--draft-tls-cert", str(verify_pair.cert),
                "--draft-tls-key", str(verify_pair.key), "--draft-deadline-ms", "10000",
                *live.server_flags(), "--auth-tokens", str(tokens)) as verify:
        yield Secured(folder, draft, verify, draft_pair, live, authority.cert, tokens)


class TestTokens:
    @pytest.mark.parametrize("token,arguments,status,says", [
        ("token-of-alice", [], "OK", ""),
        ("token-of-alice", ["--tenant", "alice"], "OK", ""),
        ("token-of-bob", [], "OK", ""),
        (None, [], "UNAUTHENTICATED", "the call has no token"),
        ("old-token", [], "UNAUTHENTICATED", "has expired"),
        ("token-of-alic", [], "UNAUTHENTICATED", "is not accepted"),
        ("token-of-alice", ["--tenant", "bob"], "PERMISSION_DENIED", "tenant"),
    ])
    def test_who_is_let_in(self, secured: Secured, token: str | None, arguments: list[str],
                           status: str, says: str) -> None:
        got, error = secured.generate(token, *arguments)
        assert got == status, error
        assert says in error
        assert "token-of" not in secured.verify.log()

    def test_requests_a_minute(self, secured: Secured) -> None:
        got = [secured.generate("token-of-few") for _ in range(4)]
        assert [status for status, _ in got][:2] == ["OK", "OK"]
        assert "RESOURCE_EXHAUSTED" in [status for status, _ in got], got
        assert any("2 requests a minute" in error for _, error in got)
        assert secured.generate("token-of-alice")[0] == "OK"

    def test_tokens_a_minute(self, secured: Secured) -> None:
        got, error = secured.generate("token-of-short", "--max-tokens", "200")
        assert got == "OUT_OF_RANGE", "no waiting helps"
        assert "100 a minute" in error
        flags = ["--max-tokens", "90", "--ignore-eos"]
        with harness.RunningGeneration(secured.verify, "Hello", *flags,
                                       *secured.flags("token-of-short")) as running:
            running.read_some(1)
            got, error = secured.generate("token-of-short", *flags)
            assert got == "RESOURCE_EXHAUSTED", error
            assert "100 tokens a minute" in error
            assert running.finish()[0] == harness.SUCCESS

    def test_requests_at_once(self, secured: Secured) -> None:
        with harness.RunningGeneration(secured.verify, PROMPT, "--chat", "--ignore-eos",
                                       "--max-tokens", "2000",
                                       *secured.flags("token-of-single")) as running:
            running.read_some()
            got, error = secured.generate("token-of-single")
            assert got == "RESOURCE_EXHAUSTED", error
            assert "1 requests under way" in error
            assert secured.generate("token-of-alice")[0] == "OK"
        harness.wait_until(lambda: secured.generate("token-of-single")[0] == "OK",
                           "the tenant may ask again when its client is gone")

    def test_rotation_of_tokens(self, secured: Secured) -> None:
        token_file(secured.tokens, [*ENTRIES[1:], {"token": "new-token", "tenant": "alice"}])
        time.sleep(SETTLE)
        assert secured.generate("new-token")[0] == "OK"
        assert secured.generate("token-of-alice")[0] == "UNAUTHENTICATED"
        certificates.replace(secured.tokens, b'{"tokens": [')
        time.sleep(SETTLE)
        assert secured.generate("new-token")[0] == "OK"
        assert "the tokens read before stay valid" in secured.verify.log()
        token_file(secured.tokens, ENTRIES)
        time.sleep(SETTLE)
        assert secured.generate("token-of-alice")[0] == "OK"
        assert secured.generate("new-token")[0] == "UNAUTHENTICATED"


def figures(secured: Secured, token: str) -> dict[str, Any]:
    """All of a request's statistics but its times."""
    answer = harness.strata_json(secured.verify, ["generate"], "--chat", "--max-tokens", "64",
                                 "--seed", "1", *secured.flags(token), "--", PROMPT)
    figures = {key: value for key, value in answer["statistics"].items()
               if not key.endswith("_seconds") and key != "tokens_per_second"}
    return {**figures, "token_ids": answer["token_ids"]}


def test_a_tenant_tells_nothing_of_another(secured: Secured) -> None:
    """What a tenant without a past gets does not depend on what another has asked meanwhile."""
    # Neither has asked for anything yet.
    before = figures(secured, "token-of-zed")
    alice = [figures(secured, "token-of-alice") for _ in range(3)]
    after = figures(secured, "token-of-yan")
    assert before == after
    assert before["draft_misses"] == 0, "no comparison of what was drafted"
    # There was something to tell: Alice's own past helped her.
    assert alice[2]["steps"] < before["steps"]
    assert alice[2]["cached_prompt_tokens"] > 0
    assert after["cached_prompt_tokens"] == 0


def test_rotation_under_a_running_stream(secured: Secured, authority: certificates.Authority,
                                         stranger: certificates.Authority) -> None:
    long = ["--chat", "--ignore-eos", "--max-tokens", "600", *secured.flags("token-of-alice")]
    expected = harness.strata(secured.verify, ["generate"], *long, "--", PROMPT)
    assert expected.returncode == harness.SUCCESS, expected.stderr
    with harness.RunningGeneration(secured.verify, PROMPT, *long, "--no-speculation") as running:
        running.read_some()
        secured.live.replace_by(stranger.issue("live"))
        harness.wait_until(
            lambda: status_of(secured.verify,
                              *secured.flags("token-of-alice", stranger.cert)) == "OK",
            "the new certificate is in use")
        assert status_of(secured.verify, *secured.flags("token-of-alice")) == "UNAVAILABLE"
        assert running.process.poll() is None, "nothing ran while the certificate changed"
        code, text, error = running.finish()
    assert code == harness.SUCCESS, error
    assert text == expected.stdout
    secured.live.replace_by(authority.issue("live-again"))
    harness.wait_until(lambda: secured.generate("token-of-alice")[0] == "OK", "it is back")


def drafts_remotely(secured: Secured) -> bool:
    answer = harness.strata_json(secured.verify, ["generate"], "--max-tokens", "16", "--ignore-eos",
                                 *secured.flags("token-of-alice"), "--", PROMPT)
    return harness.drafted_remotely(answer) > 0


def test_the_channel_to_the_draft_service_follows_its_files(
        secured: Secured, stranger: certificates.Authority) -> None:
    """Last: it leaves the draft service with the stranger's certificate."""
    harness.wait_until(lambda: drafts_remotely(secured), "drafts come")
    # The draft service comes back at its place, with a certificate of another authority.
    address = secured.draft.address
    secured.draft.kill()
    secured.draft_pair.replace_by(stranger.issue("draft"))
    live_ca = secured.folder / "live-ca.pem"
    arguments = secured.draft.process.args[5:]
    with harness.start_draft(secured.folder / "again", *arguments, listen=address):
        assert secured.generate("token-of-alice")[0] == "OK", "without drafts"
        time.sleep(SETTLE)
        assert not drafts_remotely(secured), "the authority is not known"
        # Clients' certificates still come from the first: both are trusted.
        certificates.replace(live_ca, live_ca.read_bytes() + stranger.cert.read_bytes())
        harness.wait_until(lambda: drafts_remotely(secured), "drafts come by the new authority")


class TestTokensInTheClear:
    """What would let anybody read them is refused before it can happen."""

    def start(self, folder: Path, *arguments: str) -> str:
        model = folder / "no-model"
        model.mkdir(exist_ok=True)
        tokens = token_file(folder / "clear.json", ENTRIES)
        result = harness.run("strata-verify", "--model", str(model), "--auth-tokens", str(tokens),
                             *arguments)
        assert result.returncode != 0
        return result.stderr

    def test_a_service_wants_tls_or_its_own_machine(self, folder: Path) -> None:
        assert "needs TLS" in self.start(folder, "--listen", "0.0.0.0:0")
        for allowed in (["--listen", "127.0.0.1:0"], ["--listen", f"unix:{folder}/socket"],
                        ["--listen", "0.0.0.0:0", "--insecure-auth"]):
            error = self.start(folder, *allowed)
            assert "needs TLS" not in error
            assert "tokenizer" in error, "it gets as far as to the model"

    def test_quotas_want_tokens(self) -> None:
        result = harness.run("strata-verify", "--model", "x", "--quota-tokens", "5")
        assert result.returncode == harness.USAGE_ERROR
        assert "--auth-tokens" in result.stderr

    def test_a_bad_token_file(self, folder: Path) -> None:
        bad = folder / "bad.json"
        bad.write_text('{"tokens": [{"sha256": "the token itself"}]}', encoding="utf-8")
        result = harness.run("strata-verify", "--model", str(folder), "--auth-tokens", str(bad))
        assert result.returncode == 1
        assert str(bad) in result.stderr
        assert "the token itself" not in result.stderr

    def test_a_client_sends_none_without_tls(self, folder: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STRATA_TOKEN", "token-of-alice")
        result = harness.run("strata", "info", "--address", "192.0.2.1:50061", "--timeout", "1")
        assert result.returncode == harness.USAGE_ERROR
        assert "without TLS" in result.stderr
        assert "token-of-alice" not in result.stderr
        empty = folder / "empty.token"
        empty.write_text("\n", encoding="utf-8")
        result = harness.run("strata", "info", "--token-file", str(empty))
        assert result.returncode == harness.USAGE_ERROR
        assert str(empty) in result.stderr
