"""The cache outside the repository: $WEIR_CACHE, else $XDG_CACHE_HOME/weir, else ~/.cache/weir. What is in it was
built or fetched once and carries its version in its folder's name."""

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

CACHE = Path(os.environ.get("WEIR_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weir")


def once(name: str, version: str, make: Callable[[Path], None]) -> Path:
    """The cache's folder of that version; make(FOLDER) fills it the first time, elsewhere: programs that name their own
    place (a virtual environment's) must not be made so. One builder at a time; another waits and finds the work done."""
    folder = CACHE / f"{name}-{version}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(prefix="making-", dir=CACHE) as scratch:
                done = Path(scratch) / "done"
                done.mkdir()
                make(done)
                done.rename(folder)
    return folder
