"""What deploy/ says, read for the tests: rendered manifests, and what the binaries say of their flags."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ("overlays/cpu", "overlays/gpu", "overlays/dev")
CORPUS_JOBS = ("corpus-build/shards", "corpus-build/merge", "corpus-learn", "corpus-publish")

Manifest = dict[str, Any]


def binaries() -> Path:
    value = os.environ.get("STRATA_BIN")
    if not value:
        raise RuntimeError("STRATA_BIN is not set; run the tests with tests/run.sh")
    return Path(value)


def render(folder: Path) -> list[Manifest]:
    """The manifests of a kustomization, as kubectl makes them."""
    kubectl = Path(sys.executable).parent / "kubectl"
    result = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True,
                            check=False)
    assert result.returncode == 0 and not result.stderr, result.stderr
    return [manifest for manifest in yaml.safe_load_all(result.stdout) if manifest]


@cache
def rendered(name: str) -> list[Manifest]:
    return render(KUBERNETES / name)


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    found = [manifest for manifest in of_kind(manifests, kind)
             if manifest["metadata"]["name"] == name]
    assert len(found) == 1, f"{kind} {name}: {len(found)} of them"
    return found[0]


def job_of(cron_job: Manifest) -> Manifest:
    """The Job that a CronJob makes."""
    template = cron_job["spec"]["jobTemplate"]
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": template["spec"],
            "metadata": cron_job["metadata"] | template["metadata"]}


def workloads(manifests: list[Manifest]) -> list[Manifest]:
    return (of_kind(manifests, "Deployment") + of_kind(manifests, "Job")
            + [job_of(cron_job) for cron_job in of_kind(manifests, "CronJob")])


def program_of(container: Manifest) -> str:
    """The binary that a container runs, by its image; "" for an image that is not Strata's."""
    image = container["image"].rsplit("/", 1)[-1].split(":", 1)[0]
    for name in ("strata-draft", "strata-verify", "strata-corpus"):
        if image in (name, f"{name}-cuda"):
            return name
    return ""


def strata_containers(manifests: list[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """(workload, container) for each container that runs a binary of Strata."""
    for workload in workloads(manifests):
        pod = workload["spec"]["template"]["spec"]
        for container in pod["containers"]:
            assert program_of(container), f"whose image is {container['image']}?"
            yield workload, container
        for container in pod.get("initContainers", []):
            if program_of(container):
                yield workload, container


@cache
def help_of(program: str, subcommand: str = "") -> str:
    arguments = [subcommand] if subcommand else []
    result = subprocess.run([binaries() / program, *arguments, "--help"], capture_output=True,
                            check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.decode("utf-8", "replace")


def flags_of(program: str, subcommand: str = "") -> dict[str, bool]:
    """The flags that the binary names in its help, without dashes, and whether one takes a value."""
    flags: dict[str, bool] = {}
    for line in help_of(program, subcommand).splitlines():
        if match := re.match(r"  (?:-\w,)?--([a-z][a-z0-9-]*)(.*)", line):
            # After one blank comes the type of the value, after several or a line's end the text.
            takes_value = bool(re.match(r" \S", match[2])) or match[1] == "config"
            flags[match[1]] = takes_value
    assert flags, f"no flags in the help of {program} {subcommand}"
    return flags


def check_arguments(program: str, arguments: list[str], where: str) -> dict[str, str]:
    """Fails unless the binary knows all the flags; returns their values."""
    subcommand = ""
    if program == "strata-corpus":
        subcommand, arguments = arguments[0], arguments[1:]
        assert f"  {subcommand} " in help_of(program), f"{where}: no subcommand {subcommand}"
    flags = flags_of(program, subcommand)
    values: dict[str, str] = {}
    for argument in arguments:
        if not argument.startswith("-"):
            assert program == "strata-corpus", f"{where}: {program} takes no argument {argument}"
            continue
        name, equals, value = argument.removeprefix("--").partition("=")
        assert name in flags, f"{where}: {program} has no flag --{name}"
        assert bool(equals) == flags[name], (
            f"{where}: --{name} {'takes' if flags[name] else 'has no'} value")
        assert name not in values, f"{where}: --{name} twice"
        values[name] = value
    return values


def config_of(manifests: list[Manifest], workload: Manifest, container: Manifest) -> Manifest:
    """The options that the container's --config file holds."""
    path = check_arguments(program_of(container), container["args"],
                           workload["metadata"]["name"]).get("config")
    if path is None:
        return {}
    mount = next(mount for mount in container["volumeMounts"]
                 if path.startswith(mount["mountPath"] + "/"))
    volume = next(volume for volume in workload["spec"]["template"]["spec"]["volumes"]
                  if volume["name"] == mount["name"])
    config_map = named(manifests, "ConfigMap", volume["configMap"]["name"])
    text = config_map["data"][path.removeprefix(mount["mountPath"] + "/")]
    options = yaml.safe_load(text)
    assert isinstance(options, dict)
    return options


def port_of(address: str) -> int:
    return int(address.rsplit(":", 1)[1])
