"""Runs the containers of the manifests as processes on this machine, with the arguments, options
and probes that the manifests give them; only paths and addresses are other ones."""

import hashlib
import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import pytest

from deployment import (KUBERNETES, check_arguments, config_of, flags_of, job_of, named, of_kind,
                        port_of, program_of, rendered)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))

import harness  # noqa: E402

OPENSSL = """[all]
basicConstraints=critical,CA:FALSE
extendedKeyUsage=serverAuth,clientAuth
subjectAltName=DNS:localhost,IP:127.0.0.1,DNS:strata-verify.strata.svc
"""


class Pod:
    """A Deployment's container as a process. `mounts` says where a mountPath is on this machine."""

    def __init__(self, overlay, name, folder, mounts, **replaced):
        manifests = rendered(overlay)
        self.workload = named(manifests, "Deployment", name)
        (self.container,) = self.workload["spec"]["template"]["spec"]["containers"]
        values = check_arguments(name, self.container["args"], name)
        metrics_file = folder / f"{name}.metrics"
        health_file = folder / f"{name}.health"
        self.arguments = []
        for option, value in values.items():
            if option in ("listen", "health-listen", "metrics-listen"):
                continue
            if option == "config":
                value = self._config_file(manifests, folder)
                if value is None:
                    continue
            elif option in replaced:
                value = replaced[option]
            else:
                value = mapped(value, mounts)
            self.arguments.append(f"--{option}={value}" if value else f"--{option}")
        self.service = harness.Service(name, folder, [
            *self.arguments, "--metrics-listen=127.0.0.1:0",
            f"--metrics-port-file={metrics_file}", "--health-listen=127.0.0.1:0",
            f"--health-port-file={health_file}", *replaced.get("extra", [])])
        self.address = self.service.address
        self.metrics = metrics_file.read_text(encoding="utf-8").strip()
        self.health = health_file.read_text(encoding="utf-8").strip()

    def _config_file(self, manifests, folder):
        # Until the services read YAML, there is no file of theirs to give.
        if "print-config" not in flags_of(program_of(self.container)):
            return None
        options = config_of(manifests, self.workload, self.container)
        path = folder / f"{self.workload['metadata']['name']}.yaml"
        path.write_text("".join(f"{key}: {value}\n" for key, value in options.items()),
                        encoding="utf-8")
        return path

    def scrape(self):
        path = self.workload["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"]
        with urllib.request.urlopen(f"http://{self.metrics}{path}", timeout=30) as answer:
            return answer.read().decode()


def mapped(value, mounts):
    for mount_path, at in mounts.items():
        if value == mount_path or value.startswith(mount_path + "/"):
            return str(at) + value.removeprefix(mount_path)
    assert not value.startswith("/"), f"{value} is not mounted"
    return value


def health(address, service, timeout=30):
    """What a gRPC probe asks: grpc.health.v1.Health/Check. 1 is SERVING."""
    assert len(service) < 128
    request = b"\x0a" + bytes([len(service)]) + service.encode() if service else b""
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        answer = check(request, timeout=timeout)
    assert answer[:1] == b"\x08" and len(answer) == 2
    return answer[1]


def run_container(container, mounts, **variables):
    """Runs strata-corpus as the container does, with its variables filled in."""
    def filled(argument):
        for name, value in variables.items():
            argument = argument.replace(f"$({name})", value)
        return argument

    return harness.run("strata-corpus", *(
        mapped(filled(argument), mounts) if argument.startswith("/")
        else "=".join(mapped(part, mounts) for part in filled(argument).split("=", 1))
        for argument in container["args"]))


@pytest.fixture(scope="module")
def model():
    return harness.environment_path("STRATA_TEST_MODEL")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, model):
    """What the two Jobs of corpus-build leave in the claim strata-corpus."""
    folder = tmp_path_factory.mktemp("corpus")
    inputs = folder / "input"
    shards = named(rendered("corpus-build/shards"), "Job", "strata-corpus-shards")
    merge = named(rendered("corpus-build/merge"), "Job", "strata-corpus-merge")
    mounts = {"/corpus": folder, "/input": inputs, "/model": model}

    def run(job, index=""):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        return run_container(container, mounts, INDEX=index)

    indexes = [str(index) for index in range(shards["spec"]["completions"])]
    for index in indexes:
        (inputs / index).mkdir(parents=True)
        (inputs / index / "text.txt").write_text(
            f"The quick brown fox jumps over lazy dog number {index}.\n" * 50, encoding="utf-8")
    for index in indexes[1:]:
        assert run(shards, index).returncode == 0
    # Too early: a shard is missing. Nothing may become live.
    assert run(merge).returncode != 0
    assert not (folder / "snapshots" / "CURRENT").exists()
    assert run(shards, indexes[0]).returncode == 0
    joined = run(merge)
    assert joined.returncode == 0, joined.stderr
    assert (folder / "snapshots" / "CURRENT").exists()
    checked = harness.run("strata-corpus", "verify", str(folder / "snapshots"))
    assert checked.returncode == 0, checked.stderr
    return folder


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    (folder / "all.cnf").write_text(OPENSSL, encoding="utf-8")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt")
    openssl("req", *key, "-subj", "/CN=strata", "-keyout", "tls.key", "-out", "tls.csr")
    openssl("x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
            "-extfile", "all.cnf", "-extensions", "all", "-out", "tls.crt")
    return folder


def test_cpu_overlay_serves_over_tls_with_the_corpus_of_the_jobs(tmp_path, model, corpus,
                                                                 certificates):
    auth = tmp_path / "auth"
    auth.mkdir()
    (auth / "tokens.json").write_text(json.dumps({"tokens": [
        {"sha256": hashlib.sha256(b"the-token").hexdigest(), "tenant": "acme"}]}), encoding="utf-8")
    token = tmp_path / "token"
    token.write_text("the-token", encoding="utf-8")
    mounts = {"/corpus": corpus, "/model": model, "/etc/strata-tls": certificates,
              "/etc/strata-auth": auth, "/var/lib/strata": tmp_path / "tiers"}
    draft = Pod("overlays/cpu", "strata-draft", tmp_path, mounts)
    with draft.service:
        verify = Pod("overlays/cpu", "strata-verify", tmp_path, mounts,
                     **{"draft-address": f"dns:///localhost:{port_of(draft.address)}",
                        "extra": ["--draft-budget=fixed"]})
        with verify.service:
            answer = harness.generate(verify.service, "The quick brown fox jumps over the",
                                      "--tls-ca", str(certificates / "ca.crt"),
                                      "--token-file", str(token), "--max-tokens", "16")
            assert answer["statistics"]["output_tokens"] == 16
            assert "strata_draft_messages_total" in draft.scrape()
            # Drafts went over the TLS stream.
            assert harness.drafted_by(answer, "corpus") + harness.drafted_by(answer, "model") > 0
            plain = harness.strata(verify.service, ["info"])
            assert plain.returncode != 0
            nobody = harness.strata(verify.service, ["info"], "--tls-ca",
                                    str(certificates / "ca.crt"))
            assert "UNAUTHENTICATED" in nobody.stderr

            page = verify.scrape()
            for scaler in of_kind(rendered("overlays/cpu"), "HorizontalPodAutoscaler"):
                for metric in scaler["spec"]["metrics"]:
                    if metric["type"] == "Pods":
                        assert f"# TYPE {metric['pods']['metric']['name']} gauge" in page
            assert verify.service.terminate() == 0
        assert draft.service.terminate() == 0


def probe(pod):
    """All probes of the pod, as the kubelet makes them; NOT_SERVING or nothing is a failure."""
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        settings = pod.container[kind]["grpc"]
        assert set(settings) <= {"port", "service"}
        if health(pod.health, settings.get("service", "")) != 1:
            return False
    return True


@pytest.mark.parametrize("overlay", ["overlays/dev", "overlays/cpu"])
def test_probes_tell_a_pod_that_hangs(tmp_path, model, corpus, certificates, overlay):
    mounts = {"/corpus": corpus, "/model": model, "/etc/strata-tls": certificates,
              "/var/lib/strata": tmp_path / "tiers"}
    draft = Pod(overlay, "strata-draft", tmp_path, mounts)
    with draft.service:
        assert probe(draft)
        with pytest.raises(grpc.RpcError):
            health(draft.health, "no.such.Service")
        draft.service.suspend()
        with pytest.raises(grpc.RpcError) as hangs:
            health(draft.health, "", timeout=2)
        assert hangs.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        draft.service.resume()
        assert probe(draft)
        assert draft.service.terminate() == 0


def test_a_verify_pod_that_drains_is_not_ready(tmp_path, model):
    verify = Pod("overlays/dev", "strata-verify", tmp_path, {"/model": model},
                 **{"draft-address": "127.0.0.1:1"})
    with verify.service:
        assert probe(verify)
        with harness.RunningGeneration(verify.service, "Once upon a time", "--ignore-eos",
                                       "--max-tokens", "400") as generation:
            generation.read_some()
            verify.service.process.terminate()
            harness.wait_until(lambda: not probe(verify), "the pod is not ready")
            assert generation.finish()[0] == harness.SUCCESS
        assert verify.service.process.wait(60) == 0


def test_what_pods_learned_becomes_a_part_of_the_corpus(tmp_path, model, corpus):
    volume = tmp_path / "corpus"
    shutil.copytree(corpus, volume)
    (cron_job,) = of_kind(rendered("corpus-learn"), "CronJob")
    pod = job_of(cron_job)["spec"]["template"]["spec"]
    steps = pod["initContainers"] + pod["containers"]
    current = volume / "snapshots" / "CURRENT"
    before = current.read_text(encoding="utf-8").strip()

    # Two draft pods, each with its own folder of the claim.
    prompt = "Name three rivers of Europe and describe each."
    for pod_name, tenant in (("draft-a", "nobody"), ("draft-b", "somebody")):
        mounts = {"/model": model, "/var/lib/strata": tmp_path / "tiers" / pod_name}
        draft = Pod("overlays/dev", "strata-draft", tmp_path, mounts)
        with draft.service:
            verify = Pod("overlays/dev", "strata-verify", tmp_path, mounts,
                         **{"draft-address": draft.address})
            with verify.service:
                answer = harness.generate(verify.service, prompt, "--chat", "--max-tokens", "40",
                                          "--tenant", tenant)
                assert verify.service.terminate() == 0
            assert draft.service.terminate() == 0
    (tmp_path / "tiers" / "draft-c").mkdir()
    (tmp_path / "tiers" / "draft-c" / "cut.tier").write_bytes(b"STRATAMT")

    def night(name, damage=None):
        mounts = {"/corpus": volume, "/tiers": tmp_path / "tiers", "/model": model,
                  "/scratch": tmp_path / f"scratch-{name}"}
        outcomes = []
        for step in steps:
            result = run_container(step, mounts, POD_NAME=name)
            outcomes.append(result)
            if result.returncode != 0:
                break
            if damage is not None and step["name"] == "merge":
                damage(volume / "snapshots" / name)
        return outcomes

    outcomes = night("learn-1")
    assert [outcome.returncode for outcome in outcomes] == [0, 0, 0, 0], outcomes[-1].stderr
    assert "cut.tier" in outcomes[0].stderr
    counted = json.loads(outcomes[0].stdout)
    # The chosen tenant's alone: its answer, but for the last token's place of what follows it.
    assert counted["tier_files"] == 1 and counted["skipped_tier_files"] == 1
    assert counted["tokens"] == len(answer["token_ids"])
    assert current.read_text(encoding="utf-8") == "learn-1\n"
    assert f"before: {before}" in outcomes[-1].stdout
    old, new = (json.loads(harness.run("strata-corpus", "inspect", "--json",
                                       str(volume / "snapshots" / name)).stdout)
                for name in (before, "learn-1"))
    assert new["tokens"] == old["tokens"] + counted["tokens"]

    # The next night starts from the text again: nothing counts twice.
    outcomes = night("learn-2")
    assert json.loads(outcomes[1].stdout)["tokens"] == new["tokens"]
    assert current.read_text(encoding="utf-8") == "learn-2\n"

    def damage(snapshot):
        (table,) = list(snapshot.glob("rocksdb/*.sst"))[:1]
        data = bytearray(table.read_bytes())
        data[len(data) // 2] ^= 4
        table.write_bytes(data)

    # What does not pass its check is not made live.
    outcomes = night("learn-3", damage)
    assert [outcome.returncode for outcome in outcomes] == [0, 0, 1]
    assert "DATA_LOSS" in outcomes[-1].stderr
    assert current.read_text(encoding="utf-8") == "learn-2\n"

    # Rollback: the Job makes the snapshot of before live again, and none that is no good.
    publish = named(rendered("corpus-publish"), "Job", "strata-corpus-publish")
    steps = publish["spec"]["template"]["spec"]
    (check,), (move,) = steps["initContainers"], steps["containers"]
    for container in (check, move):
        assert container["env"] == [{"name": "SNAPSHOT", "value": "NAME-OF-THE-SNAPSHOT"}]
    for snapshot in ("learn-3", "none"):
        assert run_container(check, {"/corpus": volume}, SNAPSHOT=snapshot).returncode == 1
    for container in (check, move):
        back = run_container(container, {"/corpus": volume}, SNAPSHOT=before)
        assert back.returncode == 0, back.stderr
    assert harness.run("strata-corpus", "verify", str(volume / "snapshots")).returncode == 0
    assert current.read_text(encoding="utf-8").strip() == before


def test_copied_snapshot_is_whole(tmp_path, corpus):
    script = KUBERNETES / "components/corpus-local/copy-snapshot.sh"
    draft = named(rendered("overlays/gpu"), "Deployment", "strata-draft")
    (copier,) = draft["spec"]["template"]["spec"]["initContainers"]
    mounts = {"/source": corpus, "/corpus": tmp_path / "local", "/opt/strata": script.parent}
    command = [argument if argument == "/bin/sh" else mapped(argument, mounts)
               for argument in copier["command"]]
    name = (corpus / "snapshots/CURRENT").read_text(encoding="utf-8").strip()
    local = tmp_path / "local/snapshots"

    # What a run that was killed left behind.
    (local / ".copying").mkdir(parents=True)
    (local / ".copying/manifest.json").write_text("{", encoding="utf-8")
    for _ in range(2):
        subprocess.run(command, check=True)
        assert sorted(path.name for path in local.iterdir()) == sorted(["CURRENT", name])
        assert harness.run("strata-corpus", "verify", str(local)).returncode == 0

    broken = tmp_path / "broken"
    shutil.copytree(corpus / "snapshots", broken / "snapshots")
    (broken / "snapshots/CURRENT").write_text("../elsewhere\n", encoding="utf-8")
    refused = subprocess.run(
        ["/bin/sh", str(script), str(broken / "snapshots"), str(tmp_path / "out")],
        capture_output=True, check=False)
    assert refused.returncode != 0 and not (tmp_path / "out").exists()
