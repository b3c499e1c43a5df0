"""deploy/docker: the Dockerfile is as promised, and its images run.

No Docker engine is needed: each root filesystem is made by the Dockerfile's own collect.sh, from
the binaries at hand, and run in a chroot as the Dockerfile's user, on a read-only mount."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from deployment import DEPLOY, ROOT, binaries, rendered, port_of, strata_containers, program_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))

import harness  # noqa: E402
from test_pods_as_processes import health  # noqa: E402

DOCKERFILE = DEPLOY / "docker/Dockerfile"
COLLECT = DEPLOY / "docker/collect.sh"
IMAGES = ("strata-draft", "strata-verify", "strata-verify-cuda", "strata-corpus")


def stages():
    """The instructions of each stage, by its name."""
    found, current = {}, None
    for step in DockerfileParser(fileobj=DOCKERFILE.open("rb")).structure:
        if step["instruction"] == "FROM":
            base, _, name = step["value"].split()
            current = found.setdefault(name, [("FROM", base)])
        elif current is not None and step["instruction"] != "COMMENT":
            current.append((step["instruction"], step["value"]))
    return found


def copies():
    """(source, target) for each file and folder that the build stage copies from the repository."""
    for instruction, value in stages()["build"]:
        if instruction == "COPY":
            *sources, target = value.split()
            for source in sources:
                yield source, target


def only(stage, instruction):
    (value,) = (value for name, value in stage if name == instruction)
    return value


@pytest.mark.parametrize("image", IMAGES)
def test_final_stage_is_bare(image):
    stage = stages()[image]
    assert only(stage, "FROM") == "scratch"
    # Nothing runs in it: there is no shell.
    assert "RUN" not in dict(stage)
    program = image.removesuffix("-cuda")
    assert json.loads(only(stage, "ENTRYPOINT")) == [f"/usr/bin/{program}"]
    # A number, or Kubernetes could not tell that it is not root.
    assert only(stage, "USER") == "65532:65532"
    files = stages()[f"{image}-files"]
    assert files[0] == ("FROM", "build")
    assert only(files, "RUN").startswith(
        f"deploy/docker/collect.sh /image build/release/bin/{program}")
    assert only(stage, "COPY") == f"--from={image}-files /image /"
    if image != "strata-corpus":
        (ports,) = {tuple(port["containerPort"] for port in container["ports"])
                    for _, container in strata_containers(rendered("overlays/cpu"))
                    if program_of(container) == program}
        assert tuple(map(int, only(stage, "EXPOSE").split())) == ports


def test_manifests_run_the_entry_points_and_user():
    for name in ("overlays/cpu", "overlays/gpu", "corpus-build/shards", "corpus-build/merge"):
        for workload, container in strata_containers(rendered(name)):
            assert "command" not in container
            context = workload["spec"]["template"]["spec"]["securityContext"]
            assert f"{context['runAsUser']}:{context['runAsGroup']}" == "65532:65532"


def test_build_stage_copies_what_exists():
    ignored = (DEPLOY / "docker/Dockerfile.dockerignore").read_text(encoding="utf-8").split("\n")
    for source, _ in copies():
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored
    # What it calls takes these options.
    (setup,) = (value for instruction, value in stages()["build"]
                if instruction == "RUN" and "setup.sh" in value)
    usage = subprocess.run([ROOT / "deploy/local/setup.sh", "--help"], capture_output=True,
                           text=True, check=True).stdout
    for flag in re.findall(r"--[a-z-]+", setup):
        assert f"  {flag} " in usage


def test_build_stage_has_all_that_the_build_reads(tmp_path):
    """The stage's own commands in what it copies: CMake configures, and for each file that a build
    would read there is one, or Ninja would say so. (Nothing is compiled again.)"""
    for source, target in copies():
        at = tmp_path / target / (Path(source).name if target.endswith("/") else "")
        at.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, at, dirs_exist_ok=True)
        else:
            shutil.copy(ROOT / source, at)
    # What setup.sh makes there.
    (tmp_path / ".venv").symlink_to((ROOT / ".venv").resolve())
    (build,) = (value for instruction, value in stages()["build"]
                if instruction == "RUN" and "cmake --preset" in value)
    configure, compile_all = build.split("&&")
    assert 'STRATA_CUDA="$STRATA_CUDA"' in configure
    for command in (configure.replace("$STRATA_CUDA", "OFF"), compile_all + " -- -n"):
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    for program in ("strata-draft", "strata-verify", "strata-corpus"):
        assert f"bin/{program}" in done.stdout


def test_collect_refuses_what_it_cannot_do(tmp_path):
    there = subprocess.run([COLLECT, tmp_path, binaries() / "strata-draft"], capture_output=True,
                           text=True, check=False)
    assert there.returncode != 0 and "is there already" in there.stderr
    missing = subprocess.run([COLLECT, tmp_path / "root", tmp_path / "nothing"],
                             capture_output=True, text=True, check=False)
    assert missing.returncode != 0 and not (tmp_path / "root").exists()


def chroot_reason():
    if os.geteuid() != 0:
        return "needs root, for chroot and mounts"
    if shutil.which("unshare") is None:
        return "needs unshare (package util-linux)"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "this machine forbids mount namespaces"
    if harness.thread_sanitized():
        return "images do not have the thread sanitizer's list of what to suppress"
    return ""


NO_CHROOT = chroot_reason()
needs_chroot = pytest.mark.skipif(bool(NO_CHROOT), reason=NO_CHROOT)

# $1 is the root; then "HOST:MOUNT_PATH:ro|rw" words up to "--", then the command.
CONTAINER = """
set -eu
root=$1; shift
mount --bind "$root" "$root"
while [ "$1" != -- ]; do
  host=${1%%:*}; rest=${1#*:}; at=${rest%%:*}
  mount --bind "$host" "$root$at"
  [ "${rest##*:}" = rw ] || mount -o remount,ro,bind "$root$at"
  shift
done
shift
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -o remount,ro,bind "$root"
exec env -i /usr/sbin/chroot --userspec=65532:65532 "$root" "$@"
"""


class Image:
    """The root filesystem of an image, which is made once."""

    def __init__(self, folder, program):
        self.root = folder / program
        subprocess.run([COLLECT, self.root, binaries() / program], check=True)
        (entry,) = json.loads(only(stages()[program], "ENTRYPOINT"))
        self.entry = entry

    def command(self, mounts, *arguments):
        words = [f"{host}:{at}:{mode}" for at, (host, mode) in mounts.items()]
        return ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", CONTAINER, "sh",
                str(self.root), *words, "--", self.entry, *arguments]

    def files(self):
        return sorted((str(path), path.lstat().st_mtime_ns) for path in self.root.rglob("*"))


class Running:
    """A service in its image; `address` is where it listens."""

    def __init__(self, image, mounts, *arguments):
        self.process = subprocess.Popen(image.command(mounts, *arguments), stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), self.process.communicate(timeout=60)
        self.address = line.removeprefix("listening on ").strip()

    def status(self):
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    def root_is_read_only(self):
        lines = Path(f"/proc/{self.process.pid}/mountinfo").read_text(encoding="utf-8").splitlines()
        root = next(fields for fields in map(str.split, lines) if fields[4] == "/")
        return "ro" in root[5].split(",")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=120)
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    yield {program: Image(folder, program) for program in
           ("strata-draft", "strata-verify", "strata-corpus")}
    # LibTorch is large.
    shutil.rmtree(folder)


@pytest.fixture
def volume(tmp_path_factory):
    """A folder that the image's user may write."""
    def make(name):
        folder = tmp_path_factory.mktemp(name)
        os.chown(folder, 65532, 65532)
        # pytest's own folders above it are root's alone, which a bind mount does not mind.
        return folder
    return make


@needs_chroot
def test_images_have_no_shell_and_all_libraries(images):
    for image in images.values():
        programs = {path.name for path in (image.root / "usr/bin").iterdir()}
        assert programs == {Path(image.entry).name}
        assert not (image.root / "bin").exists()
        # The binary and the libraries, and nothing that could be called.
        version = subprocess.run(image.command({}, "--help"), capture_output=True, check=False)
        assert version.returncode == 0, version.stderr
        packages = (image.root / "usr/share/strata/packages.txt").read_text(encoding="utf-8")
        assert re.search(r"^libc6:\w+ \S+$", packages, re.MULTILINE)


@needs_chroot
def test_corpus_and_draft_images_run_confined(images, volume, tmp_path):
    model = harness.environment_path("STRATA_TEST_MODEL")
    tmp_path.chmod(0o755)
    (tmp_path / "text.txt").write_text("The quick brown fox jumps over the lazy dog.\n" * 50,
                                       encoding="utf-8")
    corpus, tiers = volume("corpus"), volume("tiers")
    before = {name: image.files() for name, image in images.items()}

    build = images["strata-corpus"].command(
        {"/model": (model, "ro"), "/input": (tmp_path, "ro"), "/corpus": (corpus, "rw")},
        "build", "--tokenizer", "/model", "--out", "/corpus/snapshots", "/input")
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert (corpus / "snapshots/CURRENT").stat().st_uid == 65532
    outside = [argument.replace("/corpus/snapshots", "/elsewhere") for argument in build]
    refused = subprocess.run(outside, capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "Read-only file system" in refused.stderr

    with Running(images["strata-draft"], {"/corpus": (corpus, "ro"), "/var/lib/strata": (tiers, "rw")},
                 "--listen=127.0.0.1:0", "--corpus=/corpus/snapshots",
                 "--model-tier-dir=/var/lib/strata") as draft:
        assert port_of(draft.address) > 0
        status = draft.status()
        assert status["Uid"].split() == ["65532"] * 4 and status["Gid"].split() == ["65532"] * 4
        assert int(status["CapEff"], 16) == 0 and int(status["CapPrm"], 16) == 0
        assert draft.root_is_read_only()
        assert health(draft.address, "") == 1
        assert draft.stop() == 0
    assert {name: image.files() for name, image in images.items()} == before


@needs_chroot
def test_verify_image_answers_with_drafts_of_the_draft_image(images, volume):
    model = harness.environment_path("STRATA_TEST_MODEL")
    tiers = volume("tiers")
    before = images["strata-verify"].files()
    with Running(images["strata-draft"], {"/var/lib/strata": (tiers, "rw")},
                 "--listen=127.0.0.1:0", "--model-tier-dir=/var/lib/strata") as draft:
        with Running(images["strata-verify"], {"/model": (model, "ro")}, "--listen=127.0.0.1:0",
                     "--model=/model", f"--draft-address=dns:///{draft.address}",
                     "--draft-budget=fixed", "--model-id=model") as verify:
            assert verify.status()["Uid"].split() == ["65532"] * 4
            assert verify.root_is_read_only()
            assert health(verify.address, "") == 1
            answered = harness.run("strata", "generate", "--address", verify.address, "--json",
                                   "--max-tokens", "70", "--", "one two one two one two one")
            assert answered.returncode == 0, answered.stderr
            assert json.loads(answered.stdout)["statistics"]["output_tokens"] > 0
            assert verify.stop() == 0
        assert draft.stop() == 0
    # Learned from the answer, and saved where the volume is.
    assert list(tiers.iterdir())
    assert images["strata-verify"].files() == before
