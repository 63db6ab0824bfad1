"""tools/setup: each missing prerequisite is one sentence with its remedy, at once."""

import os
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SETUP = REPOSITORY / "tools" / "setup"
MOUNTS = "sysfs /sys sysfs rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"


def machine(root: Path, btf=True, mounts=MOUNTS, io_uring="0") -> Path:
    """A root folder that looks like a machine to the checks."""
    (root / "sys/kernel/btf").mkdir(parents=True)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/sys/kernel").mkdir(parents=True)
    if btf:
        (root / "sys/kernel/btf/vmlinux").touch()
    (root / "proc/self/mounts").write_text(mounts)
    if io_uring is not None:
        (root / "proc/sys/kernel/io_uring_disabled").write_text(io_uring + "\n")
    return root


def check(root: Path, kernel="6.1.0-37-amd64", prefix=()) -> subprocess.CompletedProcess:
    environment = {**os.environ, "WEIR_SETUP_ROOT": str(root), "WEIR_SETUP_KERNEL": kernel}
    return subprocess.run(
        [*prefix, str(SETUP), "--check"], env=environment, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize("kernel", ["6.1.0-37-amd64", "6.18.44", "7.0.0-rc1"])
def test_a_complete_machine_passes_in_silence(tmp_path, kernel):
    done = check(machine(tmp_path), kernel)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# name, what the machine is like, kernel, words of the sentence
LACKING = [
    ("old kernel", {}, "5.10.0-28-amd64", ["6.1 or newer", "5.10.0-28-amd64", "boot a newer kernel"]),
    ("nearly new enough", {}, "6.0.19", ["6.1 or newer"]),
    ("no BTF", {"btf": False}, "6.1.0", ["type information", "CONFIG_DEBUG_INFO_BTF=y"]),
    ("no cgroup2", {"mounts": "cgroup /sys/fs/cgroup/pids cgroup rw 0 0\n"}, "6.1.0", ["cgroup2 is not mounted", "mount -t cgroup2"]),
    ("io_uring off", {"io_uring": "2"}, "6.1.0", ["io_uring is disabled", "sysctl -w kernel.io_uring_disabled=0"]),
]


@pytest.mark.parametrize("facts,kernel,words", [c[1:] for c in LACKING], ids=[c[0] for c in LACKING])
def test_what_is_missing_is_one_sentence(tmp_path, facts, kernel, words):
    done = check(machine(tmp_path, **facts), kernel)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    for word in words:
        assert word in done.stderr


def test_io_uring_for_root_only_is_enough(tmp_path):
    assert check(machine(tmp_path, io_uring="1")).returncode == 0


def test_everything_missing_is_said_at_once(tmp_path):
    done = check(machine(tmp_path, btf=False, mounts="", io_uring="2"), "4.19.0")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 4


def test_not_root(tmp_path):
    # The repository may lie where others can't read: the script is read from standard input instead.
    machine(tmp_path)
    for folder in [tmp_path, *tmp_path.parents[:-2]]:
        folder.chmod(0o755)
    script = SETUP.read_text().replace('cd "$(dirname "$0")/.."', "cd /")
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--clear-groups", "bash", "-s", "--", "--check"],
        input=script, env={**os.environ, "WEIR_SETUP_ROOT": str(tmp_path), "WEIR_SETUP_KERNEL": "6.1.0"},
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "setup: root is needed (BPF programs, network namespaces): run the same command with sudo.\n"


def test_the_package_list_is_sorted_out():
    groups = (REPOSITORY / "packages.txt").read_text().split("\n\n")
    lines = [(group.startswith("# Matrix"), line) for group in groups for line in group.splitlines() if not line.startswith("#")]
    names = [name for optional, name in lines if not optional]
    assert len(lines) == len({name for _, name in lines})
    assert len(names) < len(lines), "the group Matrix is installed by --matrix alone"
    known = subprocess.run(["dpkg-query", "-W", "-f", "${Package}\n"], capture_output=True, text=True).stdout.split()
    assert set(names) <= set(known)
