"""The lab's part of the cgroup2 tree, in the shapes that kubelet gives it."""

import time
from pathlib import Path


def cgroup2_mount() -> Path:
    """Where cgroup2 is mounted: /sys/fs/cgroup, or .../unified on hybrid hosts."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise RuntimeError("cgroup2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup")


def own_cgroup() -> Path:
    """This process's folder in the cgroup2 tree."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return cgroup2_mount() / line[3:].lstrip("/")
    raise RuntimeError("this process is in no cgroup2 tree")


def kubepods(root: Path, driver: str) -> Path:
    return root / ("kubepods.slice" if driver == "systemd" else "kubepods")


def pod_cgroup(root: Path, driver: str, qos: str, uid: str) -> Path:
    """Guaranteed pods stand directly below kubepods, the others below their class."""
    base = kubepods(root, driver)
    if driver == "systemd":
        prefix = "kubepods" if qos == "guaranteed" else f"kubepods-{qos}"
        parent = base if qos == "guaranteed" else base / f"{prefix}.slice"
        return parent / f"{prefix}-pod{uid.replace('-', '_')}.slice"
    return (base if qos == "guaranteed" else base / qos) / f"pod{uid}"


def container_cgroup(pod: Path, driver: str, container_id: str) -> Path:
    return pod / (f"cri-containerd-{container_id}.scope" if driver == "systemd" else container_id)


def pids(folder: Path) -> list[int]:
    """Every process in the folder and below."""
    found = []
    for procs in folder.rglob("cgroup.procs"):
        try:
            found += [int(pid) for pid in procs.read_text().split()]
        except OSError:
            continue
    return found


def kill(folder: Path) -> None:
    """SIGKILL to every process in the folder and below, in one step of the kernel's. Hierarchies of cgroup v1 can't do it."""
    try:
        (folder / "cgroup.kill").write_text("1")
    except (FileNotFoundError, PermissionError):
        return


def remove(folder: Path, timeout=5.0) -> None:
    """Kills what is left in the folder and removes it with everything below."""
    deadline = time.monotonic() + timeout
    while folder.exists():
        kill(folder)
        for path in sorted((p for p in folder.rglob("*") if p.is_dir()), key=lambda p: -len(p.parts)):
            _rmdir(path)
        _rmdir(folder)
        if time.monotonic() > deadline and folder.exists():
            raise TimeoutError(f"{folder} still has processes: {pids(folder)}")
        if folder.exists():
            time.sleep(0.01)


def _rmdir(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return  # busy until the killed processes have left; the caller comes again
