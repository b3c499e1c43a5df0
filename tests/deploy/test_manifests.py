"""deploy/kubernetes: what kustomize makes of it is valid, agrees with itself and with the binaries."""

import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from deployment import (CORPUS_JOBS, DEPLOY, KUBERNETES, OVERLAYS, binaries, check_arguments,
                        config_of, flags_of, job_of, named, of_kind, port_of, program_of, render, rendered,
                        strata_containers, workloads)

ALL = OVERLAYS + CORPUS_JOBS
# What an operator provides: deploy/README.md describes them.
CLAIMS = {"strata-model", "strata-corpus", "strata-corpus-input", "strata-model-tiers"}
SECRET_KEYS = {"tls.crt", "tls.key", "ca.crt", "tokens.json"}
# Third-party kinds, whose schemas are not Kubernetes'.
CUSTOM_GROUPS = ("cert-manager.io/", "monitoring.coreos.com/")


def labels_match(selector, labels):
    assert set(selector) <= {"matchLabels"}, "extend labels_match"
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())


def pod_labels(manifests):
    return [workload["spec"]["template"]["metadata"]["labels"] for workload in workloads(manifests)]


def validate(manifest):
    if manifest["apiVersion"].startswith(CUSTOM_GROUPS):
        return
    # The oldest version on which preStop.sleep is on by default, and the newest with a schema.
    for version in ("1.30", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("name", ALL)
def test_manifests_are_valid(name):
    manifests = rendered(name)
    assert workloads(manifests)
    for manifest in manifests:
        validate(manifest)
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == "strata"


def test_validation_can_fail():
    service = dict(named(rendered("overlays/cpu"), "Service", "strata-verify"))
    service["spec"] = service["spec"] | {"prots": []}
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(service)


def render_with(tmp_path, overlay, component):
    """An overlay with one more component, as an operator's own kustomization adds it."""
    relative = Path("..") / KUBERNETES.relative_to("/")
    for _ in range(len(tmp_path.parts) - 2):
        relative = ".." / relative
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [str(relative / overlay)],
        "components": [str(relative / "components" / component)]}), encoding="utf-8")
    return render(tmp_path)


def test_cert_manager_makes_the_secrets_that_tls_refers_to(tmp_path):
    manifests = render_with(tmp_path, "overlays/cpu", "cert-manager")
    certificates = of_kind(manifests, "Certificate")
    made = {certificate["spec"]["secretName"]: certificate["spec"] for certificate in certificates}
    used = {volume["secret"]["secretName"] for workload in workloads(manifests)
            for volume in workload["spec"]["template"]["spec"]["volumes"]
            if volume.get("name") == "tls"}
    assert used == set(made) - {"strata-ca"}
    # What strata-verify calls the draft service is what its certificate is for.
    assert draft_host(manifests) in made["strata-draft-tls"]["dnsNames"]
    assert "client auth" in made["strata-verify-tls"]["usages"]
    # What the draft service wants to see is what the verifier's certificate is for, and no other's.
    (draft,) = named(manifests, "Deployment", "strata-draft")["spec"]["template"]["spec"]["containers"]
    wanted = check_arguments("strata-draft", draft["args"], "draft")["tls-client-name"]
    assert [name for name, certificate in made.items()
            if wanted in certificate.get("dnsNames", [])] == ["strata-verify-tls"]
    examples = yaml.safe_load_all(
        (KUBERNETES / "components/tls/secrets.example.yaml").read_text(encoding="utf-8"))
    assert {example["metadata"]["name"] for example in examples} == used


@pytest.mark.parametrize("name", ("overlays/cpu", "overlays/gpu"))
def test_clients_show_tokens(name):
    manifests = rendered(name)
    (verify,) = named(manifests, "Deployment", "strata-verify")["spec"]["template"]["spec"]["containers"]
    path = check_arguments("strata-verify", verify["args"], name)["auth-tokens"]
    (mount,) = (mount for mount in verify["volumeMounts"] if path.startswith(mount["mountPath"] + "/"))
    # Kubernetes does not update files that are mounted alone.
    assert mount["readOnly"] is True and "subPath" not in mount
    (volume,) = (volume for volume in
                 named(manifests, "Deployment", "strata-verify")["spec"]["template"]["spec"]["volumes"]
                 if volume["name"] == mount["name"])
    example = yaml.safe_load(
        (KUBERNETES / "components/auth/secrets.example.yaml").read_text(encoding="utf-8"))
    assert example["metadata"]["name"] == volume["secret"]["secretName"]
    assert path.removeprefix(mount["mountPath"] + "/") in example["stringData"]


def test_the_example_of_tokens_is_one_but_for_the_digests(tmp_path):
    example = yaml.safe_load(
        (KUBERNETES / "components/auth/secrets.example.yaml").read_text(encoding="utf-8"))
    text = example["stringData"]["tokens.json"]
    for digit in "ab":
        text = text.replace("64 HEX DIGITS", digit * 64, 1)
    tokens = tmp_path / "tokens.json"
    tokens.write_text(text, encoding="utf-8")
    arguments = [binaries() / "strata-verify", "--model", tmp_path, "--listen", "127.0.0.1:0",
                 "--auth-tokens", tokens]
    good = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert "2 tokens" in good.stderr
    # The folder holds no model.
    assert "tokenizer.json" in good.stderr
    tokens.write_text(text.replace("tenant", "tenent", 1), encoding="utf-8")
    bad = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert bad.returncode == 1 and str(tokens) in bad.stderr


def test_prometheus_finds_the_pods_and_the_adapter_what_the_autoscaler_wants(tmp_path):
    manifests = render_with(tmp_path, "overlays/cpu", "monitoring")
    monitors = {monitor["metadata"]["name"]: monitor["spec"]
                for monitor in of_kind(manifests, "PodMonitor")}
    assert set(monitors) == {"strata-verify", "strata-draft"}
    for workload, container in strata_containers(manifests):
        monitor = monitors[workload["metadata"]["name"]]
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert labels_match(monitor["selector"], labels)
        # The alerts are about jobs of these names.
        assert labels[monitor["jobLabel"]] == workload["metadata"]["name"]
        (endpoint,) = monitor["podMetricsEndpoints"]
        assert endpoint["port"] in {port["name"] for port in container["ports"]}
        annotations = workload["spec"]["template"]["metadata"]["annotations"]
        assert endpoint["path"] == annotations["prometheus.io/path"]
    rules = yaml.safe_load((KUBERNETES / "components/monitoring/adapter-rules.yaml").read_text(
        encoding="utf-8"))["rules"]
    served = {rule["seriesQuery"].split("{")[0] for rule in rules}
    assert served == {metric["pods"]["metric"]["name"]
                      for scaler in of_kind(manifests, "HorizontalPodAutoscaler")
                      for metric in scaler["spec"]["metrics"] if metric["type"] == "Pods"}


def test_the_alerts_as_a_rule_of_the_prometheus_operator():
    """By the command of the README."""
    readme = (KUBERNETES / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^      (\{ printf .*?; \}) \| kubectl", readme, re.MULTILINE | re.DOTALL)
    made = subprocess.run(command, shell=True, cwd=DEPLOY.parent, capture_output=True, text=True,
                          check=True)
    rule = yaml.safe_load(made.stdout)
    assert rule["kind"] == "PrometheusRule"
    assert rule["spec"] == yaml.safe_load(
        (DEPLOY / "prometheus/alerts.yaml").read_text(encoding="utf-8"))


def test_spans_are_written_where_the_pod_can_write(tmp_path):
    manifests = render_with(tmp_path, "overlays/cpu", "tracing")
    for workload, container in strata_containers(manifests):
        path = check_arguments(program_of(container), container["args"], "tracing")["trace-file"]
        (mount,) = (mount for mount in container["volumeMounts"]
                    if path.startswith(mount["mountPath"] + "/"))
        assert not mount.get("readOnly")
        (volume,) = (volume for volume in workload["spec"]["template"]["spec"]["volumes"]
                     if volume["name"] == mount["name"])
        assert volume["emptyDir"] == {"sizeLimit": "600Mi"}


def draft_host(manifests):
    verify = named(manifests, "Deployment", "strata-verify")
    container = verify["spec"]["template"]["spec"]["containers"][0]
    address = check_arguments("strata-verify", container["args"], "verify")["draft-address"]
    assert address.startswith("dns:///"), "one address would be no choice of replicas"
    return address.removeprefix("dns:///").rsplit(":", 1)[0]


@pytest.mark.parametrize("name", ALL)
def test_binaries_know_every_option(name):
    manifests = rendered(name)
    for workload, container in strata_containers(manifests):
        where = f"{name}, {workload['metadata']['name']}"
        program = program_of(container)
        given = check_arguments(program, container["args"], where)
        options = config_of(manifests, workload, container)
        for key in options:
            assert key in flags_of(program), f"{where}: {program} has no option {key}"
        assert not set(options) & set(given), f"{where}: said twice"


@pytest.mark.parametrize("name", OVERLAYS)
def test_ports_agree(name):
    manifests = rendered(name)
    ports = {}
    for workload, container in strata_containers(manifests):
        values = check_arguments(program_of(container), container["args"], name)
        declared = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert declared == {"grpc": port_of(values["listen"]),
                            "health": port_of(values["health-listen"]),
                            "metrics": port_of(values["metrics-listen"])}
        assert len(set(declared.values())) == len(declared)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            # gRPC probes do not speak TLS.
            assert container[probe]["grpc"]["port"] == declared["health"]
        annotations = workload["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == str(declared["metrics"])
        service = named(manifests, "Service", workload["metadata"]["name"])
        assert [(port["port"], port["targetPort"]) for port in service["spec"]["ports"]] == [
            (declared["grpc"], "grpc")]
        assert labels_match({"matchLabels": service["spec"]["selector"]},
                            workload["spec"]["template"]["metadata"]["labels"])
        # h2c is HTTP/2 in the clear.
        assert ("appProtocol" in service["spec"]["ports"][0]) == ("tls-cert" not in values)
        ports[workload["metadata"]["name"]] = declared
    draft = named(manifests, "Service", "strata-draft")
    assert draft["spec"]["clusterIP"] == "None"
    assert draft_host(manifests) == f"strata-draft.{draft['metadata']['namespace']}.svc"
    verify = named(manifests, "Deployment", "strata-verify")
    args = verify["spec"]["template"]["spec"]["containers"][0]["args"]
    assert f"--draft-address=dns:///{draft_host(manifests)}:{ports['strata-draft']['grpc']}" in args


@pytest.mark.parametrize("name", OVERLAYS)
def test_network_policies(name):
    """Only verifiers reach the draft service, only Prometheus the metrics, and nothing else anything."""
    manifests = rendered(name)
    policies = {policy["metadata"]["name"]: policy["spec"]
                for policy in of_kind(manifests, "NetworkPolicy")}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    containers = {workload["metadata"]["name"]: container
                  for workload, container in strata_containers(manifests)}
    for service in ("strata-draft", "strata-verify"):
        policy = policies[service]
        assert sum(labels_match(policy["podSelector"], labels)
                   for labels in pod_labels(manifests)) == 1
        ports = {port["name"]: port["containerPort"] for port in containers[service]["ports"]}
        allowed = {rule["ports"][0]["port"]: rule["from"] for rule in policy["ingress"]}
        assert all(len(rule["ports"]) == 1 for rule in policy["ingress"])
        # Probes come from the node, which policies do not keep out.
        assert set(allowed) == set(ports.values()) - {ports["health"]}
        (scraper,) = allowed[ports["metrics"]]
        assert scraper["namespaceSelector"]["matchLabels"] == {
            "kubernetes.io/metadata.name": "monitoring"}
        assert scraper["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    draft = policies["strata-draft"]
    (client,) = next(rule["from"] for rule in draft["ingress"]
                     if rule["ports"][0]["port"] == containers["strata-draft"]["ports"][0]["containerPort"])
    assert client == {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "strata-verify"}}}
    assert "egress" not in draft and "Egress" in draft["policyTypes"]
    assert {port["port"] for rule in policies["strata-verify"]["egress"]
            for port in rule["ports"]} == {53, containers["strata-draft"]["ports"][0]["containerPort"]}
    # A client in this namespace may send what the verify service lets in from it.
    client = policies["strata-client"]
    assert {"podSelector": client["podSelector"]} in allowed_from(policies["strata-verify"])
    (service, dns) = client["egress"]
    assert service == {
        "to": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "strata-verify"}}}],
        "ports": [{"protocol": "TCP",
                   "port": containers["strata-verify"]["ports"][0]["containerPort"]}]}
    assert dns in policies["strata-verify"]["egress"]


def allowed_from(policy):
    return [peer for rule in policy["ingress"] for peer in rule["from"]]


@pytest.mark.parametrize("name", ALL)
def test_paths_are_mounted(name):
    manifests = rendered(name)
    for workload, container in strata_containers(manifests):
        where = f"{name}, {workload['metadata']['name']}"
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume
                   for volume in workload["spec"]["template"]["spec"]["volumes"]}
        assert {mount["name"] for mount in mounts.values()} <= set(volumes)
        values = check_arguments(program_of(container), container["args"], where)
        inputs = [argument for argument in container["args"] if argument.startswith("/")]
        for option, path in [*values.items(), *(("input", path) for path in inputs)]:
            if not path.startswith("/"):
                continue
            (mount,) = (mount for at, mount in mounts.items()
                        if path == at or path.startswith(at + "/"))
            writes = option in ("model-tier-dir", "out")
            assert not (writes and mount.get("readOnly")), f"{where}: {path} is read-only"
            assert mount.get("readOnly") or program_of(container) == "strata-corpus" or writes, (
                f"{where}: {path} need not be writable")
            if "secret" in volumes[mount["name"]]:
                assert path.removeprefix(mount["mountPath"] + "/") in SECRET_KEYS
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in CLAIMS
            if "configMap" in volume:
                named(manifests, "ConfigMap", volume["configMap"]["name"])


def test_claims_are_described():
    text = (DEPLOY / "kubernetes/README.md").read_text(encoding="utf-8")
    for claim in CLAIMS:
        assert f"`{claim}`" in text


@pytest.mark.parametrize("name", OVERLAYS)
def test_grace_periods_cover_draining(name):
    manifests = rendered(name)
    for workload, container in strata_containers(manifests):
        pod = workload["spec"]["template"]["spec"]
        options = config_of(manifests, workload, container)
        drain = options["drain-seconds"]
        before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert before > 0
        if program_of(container) == "strata-verify":
            # gRPC varies the age by a tenth; endpoints take a few seconds to be gone everywhere.
            assert before >= 1.1 * options["max-connection-age"] + 5
        assert pod["terminationGracePeriodSeconds"] >= before + drain + 5


@pytest.mark.parametrize("name", ALL)
def test_pods_are_confined(name):
    for workload in workloads(rendered(name)):
        pod = workload["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        # Variables like STRATA_VERIFY_PORT would be taken for options.
        assert pod["enableServiceLinks"] is False
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True and context["runAsUser"] == 65532
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]}}
            assert set(container["resources"]["requests"]) >= {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            assert not container["image"].endswith(":latest") and ":" in container["image"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_services_are_spread_scaled_and_kept(name):
    manifests = rendered(name)
    for workload in workloads(manifests):
        pod = workload["spec"]["template"]
        assert {constraint["topologyKey"]
                for constraint in pod["spec"]["topologySpreadConstraints"]} == {
                    "kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        for constraint in pod["spec"]["topologySpreadConstraints"]:
            assert labels_match(constraint["labelSelector"], pod["metadata"]["labels"])
        if name == "overlays/dev":
            assert workload["spec"]["replicas"] == 1
            continue
        # The autoscaler sets it; a number here would undo that with every "apply".
        assert "replicas" not in workload["spec"]
        scaler = named(manifests, "HorizontalPodAutoscaler", workload["metadata"]["name"])
        assert scaler["spec"]["scaleTargetRef"] == {
            "apiVersion": "apps/v1", "kind": "Deployment", "name": workload["metadata"]["name"]}
        assert scaler["spec"]["minReplicas"] >= 2
        budget = named(manifests, "PodDisruptionBudget", workload["metadata"]["name"])
        assert labels_match(budget["spec"]["selector"], pod["metadata"]["labels"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_pods_log_json_and_verify_pods_vouch_for_exactness(name):
    manifests = rendered(name)
    for workload, container in strata_containers(manifests):
        options = config_of(manifests, workload, container)
        assert options["log-format"] == "json"
        if program_of(container) == "strata-verify":
            assert options["require-exact"] is True


def test_verify_pods_use_the_cpus_that_they_request():
    manifests = rendered("overlays/cpu")
    workload = named(manifests, "Deployment", "strata-verify")
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    assert str(config_of(manifests, workload, container)["threads"]) == (
        container["resources"]["requests"]["cpu"])


def test_certificates_of_an_old_and_a_new_authority_need_not_meet(tmp_path):
    manifests = render_with(tmp_path, "overlays/cpu", "cert-manager")
    (authority,) = (certificate["spec"] for certificate in of_kind(manifests, "Certificate")
                    if certificate["spec"].get("isCA"))
    assert authority["privateKey"]["rotationPolicy"] == "Never"
    assert authority["duration"] == "87600h"


@pytest.mark.parametrize("name", OVERLAYS)
def test_draft_pods_have_the_memory_that_their_options_allow(name):
    """By the rule of deploy/README.md."""
    manifests = rendered(name)
    units = {"": 1, "MB": 1 << 20, "GB": 1 << 30, "Mi": 1 << 20, "Gi": 1 << 30}

    def size(text):
        number, unit = re.fullmatch(r"(\d+)(\w*)", str(text)).groups()
        return int(number) * units[unit]

    for workload, container in strata_containers(manifests):
        if program_of(container) != "strata-draft":
            continue
        options = config_of(manifests, workload, container)
        most = (size(f"{options['block-cache-mb']}MB") + size(options["model-tier-bytes"])
                + 300 * options["max-live-tokens"] + 150_000 * options.get("calibrations", 256)
                + size("100MB"))
        assert most <= size(container["resources"]["limits"]["memory"])


def test_batches_leave_room_for_the_autoscaler():
    """An autoscaler that waits for more active sequences than a pod can have never acts."""
    for name in ("overlays/cpu", "overlays/gpu"):
        manifests = rendered(name)
        scaler = named(manifests, "HorizontalPodAutoscaler", "strata-verify")
        targets = {metric["pods"]["metric"]["name"]: int(metric["pods"]["target"]["averageValue"])
                   for metric in scaler["spec"]["metrics"]}
        workload = named(manifests, "Deployment", "strata-verify")
        options = config_of(manifests, workload,
                            workload["spec"]["template"]["spec"]["containers"][0])
        assert targets["strata_verify_active_sequences"] < options["max-batch"]
        assert targets["strata_verify_queue_length"] < options["max-queue"]


def test_corpus_jobs_fit_together():
    shards = named(rendered("corpus-build/shards"), "Job", "strata-corpus-shards")
    merge = named(rendered("corpus-build/merge"), "Job", "strata-corpus-merge")
    (build,) = shards["spec"]["template"]["spec"]["containers"]
    (join,) = merge["spec"]["template"]["spec"]["containers"]
    out = check_arguments("strata-corpus", build["args"], "shards")["out"]
    joined = [argument for argument in join["args"] if argument.startswith("/")]
    assert joined == [f"{out}/{index}" for index in range(shards["spec"]["completions"])]
    snapshots = check_arguments("strata-corpus", join["args"], "merge")["out"]
    assert snapshots != out
    steps = learn_steps()
    assert [steps[name]["args"][0] for name in ("count", "merge", "verify", "publish")] == [
        "build", "merge", "verify", "publish"]
    assert check_arguments("strata-corpus", steps["merge"]["args"], "learn")["out"] == snapshots
    count = check_arguments("strata-corpus", steps["count"]["args"], "learn")
    learned = f"{count['out']}/{count['name']}"
    assert [argument for argument in steps["merge"]["args"] if argument.startswith("/")] == [
        learned, *joined]
    for name in ("overlays/cpu", "overlays/gpu"):
        draft = named(rendered(name), "Deployment", "strata-draft")
        (container,) = draft["spec"]["template"]["spec"]["containers"]
        assert f"--corpus={snapshots}" in container["args"]


def learn_steps():
    """The containers of corpus-learn by name, in the order in which they run."""
    (cron_job,) = of_kind(rendered("corpus-learn"), "CronJob")
    pod = job_of(cron_job)["spec"]["template"]["spec"]
    assert len(pod["containers"]) == 1
    return {container["name"]: container
            for container in pod["initContainers"] + pod["containers"]}


def test_what_is_learned_is_folded_by_choice_and_checked_before_it_is_live():
    (cron_job,) = of_kind(rendered("corpus-learn"), "CronJob")
    # Nobody's text goes into everybody's corpus by "kubectl apply" alone.
    assert cron_job["spec"]["suspend"] is True
    assert cron_job["spec"]["concurrencyPolicy"] == "Forbid"
    steps = learn_steps()
    count = check_arguments("strata-corpus", steps["count"]["args"], "count")
    assert count["tenant"] == "nobody" and "all-tenants" not in count
    assert "shard" in count
    merge = check_arguments("strata-corpus", steps["merge"]["args"], "merge")
    assert "keep-current" in merge
    # A name that no other try has; what is checked is what was made and what becomes live.
    made = f"{merge['out']}/{merge['name']}"
    assert merge["name"] == "$(POD_NAME)"
    for name in ("verify", "publish"):
        assert steps[name]["args"][-1] == made
    for name in ("merge", "verify", "publish"):
        assert steps[name]["env"] == [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    assert list(steps) == ["count", "merge", "verify", "publish"]


def test_draft_pods_save_what_is_folded_where_it_is_looked_for(tmp_path):
    manifests = render_with(tmp_path, "overlays/cpu", "model-tiers-shared")
    for manifest in manifests:
        validate(manifest)
    draft = named(manifests, "Deployment", "strata-draft")
    pod = draft["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    folder = check_arguments("strata-draft", container["args"], "draft")["model-tier-dir"]
    (mount,) = (mount for mount in container["volumeMounts"] if mount["mountPath"] == folder)
    # A folder is one process's at a time.
    assert mount["subPathExpr"] == "$(POD_NAME)"
    assert {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}} in (
        container["env"])
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == mount["name"])
    assert volume == {"name": mount["name"],
                      "persistentVolumeClaim": {"claimName": "strata-model-tiers"}}
    # The others are as they were.
    plain = named(rendered("overlays/cpu"), "Deployment", "strata-draft")
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {
        mount["mountPath"] for mount in
        plain["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]}

    count = learn_steps()["count"]
    tiers = check_arguments("strata-corpus", count["args"], "count")["model-tiers"]
    (mount,) = (mount for mount in count["volumeMounts"] if mount["mountPath"] == tiers)
    assert mount["readOnly"] is True and "subPath" not in mount
    (cron_job,) = of_kind(rendered("corpus-learn"), "CronJob")
    (claim,) = (volume["persistentVolumeClaim"] for volume in
                job_of(cron_job)["spec"]["template"]["spec"]["volumes"]
                if volume["name"] == mount["name"])
    assert claim == {"claimName": "strata-model-tiers", "readOnly": True}


def test_texts_name_the_ports_and_paths_that_there_are():
    known_ports, mounts = set(), set()
    for name in ALL:
        for _, container in strata_containers(rendered(name)):
            known_ports |= {port["containerPort"] for port in container.get("ports", [])}
            mounts |= {mount["mountPath"] for mount in container["volumeMounts"]}
    units = "".join(unit.read_text(encoding="utf-8") for unit in (DEPLOY / "systemd").glob("*.service"))
    known_ports |= {int(port) for port in re.findall(r":(\d+) ", units)}
    known_paths = mounts | set(re.findall(PATH, units)) | {
        "/etc/systemd/system", "/usr/share/strata/packages.txt",
        # An example of where a collector looks.
        "/var/log/strata"}
    # What a read-only root must have to be mounted at.
    collect = (DEPLOY / "docker/collect.sh").read_text(encoding="utf-8")
    folders = re.search(r'"\$root"/\{(.*)\}', collect)[1].split(",")
    assert {mount.removeprefix("/") for mount in mounts} <= set(folders)
    assert "/usr/share/strata/packages.txt" in collect
    for text in DEPLOY.rglob("*.md"):
        content = text.read_text(encoding="utf-8")
        for port in re.findall(r"\b(?:50\d{3}|94\d\d)\b", content):
            assert int(port) in known_ports, f"{text}: {port}"
        for path in re.findall(PATH, content):
            assert any(path == known or path.startswith(known + "/") for known in known_paths), (
                f"{text}: {path}")


# Of files and folders of Strata's own, as texts name them.
PATH = r"(?<![\w.}])/(?:etc|var|srv|usr|corpus|model|input|tiers|scratch)\b[\w/.-]*[\w]"

# Options of other programs, and of scripts of ours, that texts in deploy/ show.
FOREIGN = {
    "build", "parents", "preset",  # cmake, cp
    "build-arg",  # docker
    "for", "from-file", "timeout",  # kubectl
    "from", "no-install-recommends", "read-only",  # Dockerfile, apt-get, docker
    "no-build", "torch", "torch-index",  # setup.sh
    "now",  # systemctl
    "target",  # docker, cmake
}


def test_texts_name_no_unknown_flag():
    known = set()
    for program, subcommands in {
            "strata": ("", "generate", "info", "tokenize", "bench"), "strata-draft": ("",),
            "strata-verify": ("",), "strata-corpus": ("", "build", "merge", "inspect", "verify", "publish")
    }.items():
        for subcommand in subcommands:
            known |= set(flags_of(program, subcommand))
    files = [path for folder in ("docker", "kubernetes", "systemd")
             for path in (DEPLOY / folder).rglob("*")
             if path.is_file() and path.suffix != ".sh"]
    files += DEPLOY.glob("*.md")
    assert len(files) > 20
    unknown = {f"{path.relative_to(DEPLOY)}: --{flag}" for path in files
               for flag in re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)",
                                      path.read_text(encoding="utf-8"))
               if flag not in known | FOREIGN}
    assert not unknown
