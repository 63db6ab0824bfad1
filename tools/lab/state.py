"""What outlives a lab's owner: /run/weirlab/<name>, locked by the owner for its life.

The lock is the kernel's (flock), so it is gone when the owner is, however it ended; a
lab whose lock is free and that is not kept on purpose is stale.
"""

import fcntl
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from . import cgroups

ROOT = Path("/run/weirlab")


class LabInUse(Exception):
    """The lab of that name belongs to a process that is alive."""


def bpf_dir(name: str) -> Path:
    return Path("/sys/fs/bpf") / f"weir-{name}"


def cgroup_root(name: str) -> Path:
    return cgroups.cgroup2_mount() / f"weirlab-{name}"


@contextmanager
def _registry():
    """Held while folders of labs come and go, so that a lab that begins is not taken for a stale one."""
    ROOT.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(ROOT / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def claim(name: str) -> int:
    """Takes the name: returns the descriptor that holds its lock. What an earlier lab of it left is removed."""
    folder = ROOT / name
    with _registry():
        folder.mkdir(exist_ok=True, mode=0o700)
        lock = _lock(folder)
    if lock is None:
        raise LabInUse(f"lab {name} is in use by process {_read(folder).get('owner', '?')}")
    _tear_down(name)
    (folder / "state.json").write_text(json.dumps({"owner": os.getpid(), "kept": False}))
    return lock


def keep(name: str) -> None:
    """From now on the lab is not stale when its owner is gone."""
    (ROOT / name / "state.json").write_text(json.dumps({"owner": os.getpid(), "kept": True}))


def release(name: str, lock: int) -> None:
    """Tears the lab down and gives the name back."""
    _tear_down(name)
    with _registry():
        shutil.rmtree(ROOT / name, ignore_errors=True)
        os.close(lock)


def destroy(name: str) -> bool:
    """Tears down a lab that nobody owns, kept or stale; False if there is none."""
    if not (ROOT / name).is_dir():
        return False
    release(name, claim(name))
    return True


def clean_stale() -> list[str]:
    """Tears down every lab whose owner died; returns their names."""
    stale = []
    with _registry():
        for folder in sorted(path for path in ROOT.iterdir() if path.is_dir()):
            lock = _lock(folder)
            if lock is None:
                continue
            if _read(folder).get("kept"):
                os.close(lock)
                continue
            stale.append((folder.name, lock))
    for name, lock in stale:
        release(name, lock)
    return [name for name, _ in stale]


def _lock(folder: Path) -> int | None:
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd
    except BlockingIOError:
        os.close(fd)
        return None


def _read(folder: Path) -> dict:
    try:
        return json.loads((folder / "state.json").read_text())
    except (OSError, ValueError):
        return {}


def _tear_down(name: str) -> None:
    # Processes first: a live agent would pin its maps again.
    cgroups.remove(cgroup_root(name))
    shutil.rmtree(bpf_dir(name), ignore_errors=True)
    for entry in (ROOT / name).iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != "lock":
            entry.unlink(missing_ok=True)
