"""A folder that appears whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Iterator

from .errors import ImportFailed


@contextlib.contextmanager
def atomic_folder(out: Path, replace: bool) -> Iterator[Path]:
    """Yields an empty folder beside `out`, which becomes `out` if the block succeeds.

    The two are in the same parent folder, hence on one file system, so that the
    rename is atomic. On an error the temporary folder is removed and `out` is as it
    was. Files are synced before the rename, so that a crash leaves no empty weights.
    """
    if out.exists() and not replace:
        raise ImportFailed(f"{out} exists already; remove it or pass --force")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        for path in temporary.iterdir():
            _sync(path)
        _sync(temporary)
        if out.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.parent))
            os.rename(out, old / out.name)
            os.rename(temporary, out)
            shutil.rmtree(old)
        else:
            os.rename(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
