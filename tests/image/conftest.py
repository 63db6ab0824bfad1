"""The archive that `make image` writes, and its file system as a container runtime would unpack it."""

import hashlib
import json
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ARCHIVES = REPOSITORY / "build" / "image"


@dataclass
class Image:
    """An OCI image whose layout lies in a folder."""

    layout: Path
    rootfs: Path
    # Paths that each layer brings or removes, the base first.
    layers: list[list[str]] = field(default_factory=list)

    @property
    def index(self) -> dict:
        return json.loads((self.layout / "index.json").read_text())

    def blob(self, descriptor: dict) -> Path:
        """The descriptor's file, once its size and digest are as described."""
        algorithm, _, digest = descriptor["digest"].partition(":")
        path = self.layout / "blobs" / algorithm / digest
        content = path.read_bytes()
        assert (len(content), hashlib.new(algorithm, content).hexdigest()) == (descriptor["size"], digest)
        return path

    @property
    def manifest(self) -> dict:
        return json.loads(self.blob(self.index["manifests"][0]).read_text())

    @property
    def config(self) -> dict:
        return json.loads(self.blob(self.manifest["config"]).read_text())

    def unpack(self) -> None:
        for descriptor in self.manifest["layers"]:
            blob = str(self.blob(descriptor))
            names = subprocess.run(["tar", "--list", "--file", blob], capture_output=True, text=True, check=True).stdout.splitlines()
            self.layers.append([f"/{name.rstrip('/')}" for name in names])
            # A whiteout says that a file of a layer below is not there any more.
            for whiteout in (Path(name) for name in names if Path(name).name.startswith(".wh.")):
                gone = self.rootfs / whiteout.parent / whiteout.name.removeprefix(".wh.")
                subprocess.run(["rm", "-rf", str(gone)], check=True)
            extract = ["tar", "--extract", "--numeric-owner", "--exclude=.wh.*", "--directory", str(self.rootfs)]
            subprocess.run([*extract, "--file", blob], check=True)

    def run(self, *command, check=True) -> subprocess.CompletedProcess:
        """A command inside, with nothing of this machine's file systems."""
        environment = dict(pair.split("=", 1) for pair in self.config["config"]["Env"])
        return subprocess.run(
            ["chroot", str(self.rootfs), *command], env=environment, capture_output=True, text=True, timeout=20, check=check
        )


@pytest.fixture(scope="session")
def version() -> str:
    """As the built agent says it."""
    agent = REPOSITORY / "build" / "release" / "weir-agent"
    return subprocess.run([str(agent), "--version"], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="session")
def image(tmp_path_factory, version) -> Image:
    made = Image(tmp_path_factory.mktemp("layout"), tmp_path_factory.mktemp("rootfs"))
    with tarfile.open(ARCHIVES / f"weir-{version}.tar") as archive:
        archive.extractall(made.layout)
    made.unpack()
    return made
