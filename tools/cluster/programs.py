"""What a node runs: Kubernetes, etcd and CoreDNS (tools/go_tool), Debian's containerd and runc, and the pause image.

The packages are unpacked below ~/.cache/weir and never installed.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import oci
from cache import CACHE, once

HERE = Path(__file__).resolve().parent
PACKAGES = ["containerd", "runc"]
PAUSE = "localhost/pause:1"
# Installed by packages.txt.
CNI = Path("/usr/lib/cni")


@dataclass(frozen=True)
class Programs:
    folders: list[Path]  # for PATH
    pause: Path  # an OCI archive

    @property
    def path(self) -> str:
        return ":".join([*map(str, self.folders), "/usr/sbin", "/usr/bin", "/sbin", "/bin"])


def provide() -> Programs:
    """Builds and fetches what the cache lacks: Kubernetes, which takes ten minutes, and two packages."""
    built = subprocess.run([HERE.parent / "go_tool", "kubernetes", "coredns"], stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        raise oci.Failed("Kubernetes or CoreDNS could not be built")
    debian = once("containerd", _version("containerd"), _unpack)
    pause = once("pause", "1", _pause)
    return Programs([*map(Path, built.stdout.split()), debian / "usr/bin", debian / "usr/sbin"], pause / "pause.tar")


def _version(package: str) -> str:
    shown = oci.output("apt-cache", "show", "--no-all-versions", package)
    return re.search(r"^Version: (.*)$", shown, re.M)[1]


def _unpack(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="making-", dir=CACHE) as scratch:
        # apt would drop to a user of its own, who may not write here.
        script = 'cd "$1" && shift && apt-get -o APT::Sandbox::User=root download "$@"'
        oci.output("sh", "-c", script, "sh", scratch, *PACKAGES)
        for package in Path(scratch).glob("*.deb"):
            oci.output("dpkg-deb", "--extract", package, folder)


def _pause(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="making-", dir=CACHE) as scratch:
        oci.output("gcc", "-static", "-Os", "-s", "-o", Path(scratch) / "pause", HERE / "pause.c")
        (Path(scratch) / "Dockerfile").write_text('FROM scratch\nCOPY pause /\nENTRYPOINT ["/pause"]\n')
        oci.build(Path(scratch), PAUSE, folder / "pause.tar")
