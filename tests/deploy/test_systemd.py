"""deploy/systemd: systemd takes the units, rates them as hardened, and the binaries their flags."""

import re
import shutil
import subprocess

import pytest

from deployment import DEPLOY, check_arguments

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
# Of 10; systemd calls up to 1.9 "OK", the best but "SAFE".
WORST_EXPOSURE = "1.9"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze (package systemd) is not here")


def test_there_are_both():
    assert [unit.stem for unit in UNITS] == ["strata-draft", "strata-verify"]


def settings(unit):
    text = unit.read_text(encoding="utf-8").replace("\\\n", " ")
    return dict(line.split("=", 1) for line in text.splitlines()
                if "=" in line and not line.startswith("#"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_binary_knows_the_flags(unit):
    program, *arguments = settings(unit)["ExecStart"].split()
    assert program == f"/usr/bin/{unit.stem}"
    values = check_arguments(unit.stem, arguments, unit.name)
    credentials = {value for value in values.values() if value.startswith("${")}
    name = settings(unit)["LoadCredential"].split(":")[0]
    assert credentials == {f"${{CREDENTIALS_DIRECTORY}}/{name}_{file}"
                           for file in ("tls.crt", "tls.key", "ca.crt")}
    if "model-tier-dir" in values:
        assert values["model-tier-dir"] == f"/var/lib/{settings(unit)['StateDirectory']}"


def test_they_find_each_other():
    listens = {unit.stem: check_arguments(unit.stem, settings(unit)["ExecStart"].split()[1:],
                                          unit.name) for unit in UNITS}
    draft, verify = listens["strata-draft"], listens["strata-verify"]
    assert verify["draft-address"].rsplit(":", 1)[1] == draft["listen"].rsplit(":", 1)[1]
    ports = [values[flag].rsplit(":", 1)[1] for values in listens.values()
             for flag in ("listen", "metrics-listen")]
    assert len(set(ports)) == len(ports)


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_it(unit, tmp_path):
    # The program need not be installed where the tests run.
    text = re.sub(r"ExecStart=/usr/bin/\S+", "ExecStart=/bin/true",
                  unit.read_text(encoding="utf-8"))
    copy = tmp_path / unit.name
    copy.write_text(text, encoding="utf-8")
    verified = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True,
                              check=False)
    assert verified.returncode == 0, verified.stderr
    # Unknown settings are warnings: they name the unit's file.
    assert str(copy) not in verified.stderr, verified.stderr
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true",
         f"--threshold={WORST_EXPOSURE.replace('.', '')}", copy],
        capture_output=True, text=True, check=False)
    assert rated.returncode == 0, rated.stdout[-400:]
