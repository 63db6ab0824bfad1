"""The image: a valid archive, what its labels promise, and inside it all that runs and nothing else."""

import gzip
import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BINARIES = ["/usr/local/bin/weir-agent", "/usr/local/bin/weirctl"]
# Bytes on the wire. Four fifths are Debian's; weir's own layer is 2 MB.
COMPRESSED_LIMIT = 50e6
OWN_LAYER_LIMIT = 5e6


def paths(image):
    """Every path of the image, as seen inside, with its status."""
    for folder, folders, files in os.walk(image.rootfs):
        for name in folders + files:
            path = Path(folder, name)
            yield f"/{path.relative_to(image.rootfs)}", path.lstat()


def group(name: str) -> set[str]:
    """The packages of one group of packages.txt."""
    found = next(g for g in (REPOSITORY / "packages.txt").read_text().split("\n\n") if g.startswith(f"# {name}"))
    return {line for line in found.splitlines() if line and not line.startswith("#")}


def test_layout(image, version):
    """As the OCI image layout has it: digests and sizes of all blobs, and no blob that nothing names."""
    assert json.loads((image.layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index, manifest = image.index, image.manifest
    assert (index["schemaVersion"], manifest["schemaVersion"]) == (2, 2)
    [described] = index["manifests"]
    assert described["annotations"]["io.containerd.image.name"] == f"localhost/weir:{version}"
    named = [described, manifest["config"], *manifest["layers"]]
    assert sorted(p.name for p in image.layout.glob("blobs/sha256/*")) == sorted(image.blob(d).name for d in named)


def test_layers_are_those_of_the_configuration(image):
    contents = [gzip.decompress(image.blob(layer).read_bytes()) for layer in image.manifest["layers"]]
    assert [f"sha256:{hashlib.sha256(c).hexdigest()}" for c in contents] == image.config["rootfs"]["diff_ids"]


def test_what_it_runs(image):
    config = image.config["config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["/usr/local/bin/weir-agent"], ["node"])
    assert config.get("User", "") in ("", "0")
    assert image.config["os"] == "linux"


def test_labels(image, version):
    labels = image.config["config"]["Labels"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    expected = {
        "title": "weir",
        "source": "https://github.com/weir/weir",
        "version": version,
        "revision": commit.stdout.strip(),
        "licenses": "Apache-2.0 AND (GPL-2.0-only OR Apache-2.0)",
        "base.name": "docker.io/library/debian:12-slim",
    }
    assert {name: labels.get(f"org.opencontainers.image.{name}") for name in expected} == expected
    assert labels["org.opencontainers.image.description"]


def test_size(image):
    sizes = [layer["size"] for layer in image.manifest["layers"]]
    assert sum(sizes) < COMPRESSED_LIMIT
    assert sizes[-1] < OWN_LAYER_LIMIT


def test_the_top_layer_is_what_was_installed(image):
    installed = REPOSITORY / "build" / "image" / "root"
    expected = {f"/{path.relative_to(installed)}" for path in installed.rglob("*")}
    assert set(image.layers[-1]) == expected
    assert set(BINARIES) <= expected


@pytest.mark.parametrize("binary", BINARIES)
def test_libraries(image, binary):
    """All are there, and a library that nothing brings is named with what to do."""
    found = image.run("ldd", binary).stdout
    missing = [line.split()[0] for line in found.splitlines() if "not found" in line]
    assert not missing, f"add the packages of {missing} to the group Run of packages.txt"
    assert "libbpf.so.1" in found


def test_no_package_is_there_in_vain(image):
    """Each library of the group Run is one that the binaries ask for."""
    needed = "".join(image.run("ldd", binary).stdout for binary in BINARIES)
    libraries = {line.split("=>")[1].split()[0] for line in needed.splitlines() if "=>" in line}
    owners = image.run("dpkg", "--search", *(os.path.basename(path) for path in libraries)).stdout
    assert group("Run") - {"ca-certificates"} <= {line.split(":")[0] for line in owners.splitlines()}


def test_versions(image, version):
    assert image.run("weir-agent", "--version").stdout.strip() == version
    # There is no agent to ask: it says its own version, and where it looked.
    said = image.run("weirctl", "version", check=False)
    assert version in said.stdout + said.stderr


def test_the_chart_finds_its_commands(image):
    """Init containers and helm tests of charts/weir have no image of their own."""
    commands = "bash cp getent grep mktemp mount mv sed sh sort tail timeout tr".split()
    assert image.run("sh", "-c", 'for c; do command -v "$c" || echo "no $c"; done', "sh", *commands).stdout.count("no ") == 0


def test_certificates(image):
    roots = (image.rootfs / "etc/ssl/certs/ca-certificates.crt").read_text()
    assert roots.count("BEGIN CERTIFICATE") > 50


def test_nothing_to_build_with(image):
    tools = ["cc", "gcc", "g++", "c++", "clang", "clang-14", "ld", "as", "make", "ninja", "cmake", "git", "bpftool", "pkg-config"]
    folders = image.run("sh", "-c", "echo $PATH").stdout.strip().split(":")
    assert [t for t in tools for f in folders if (image.rootfs / f.lstrip("/") / t).exists()] == []
    suffixes = (".h", ".hpp", ".a", ".o", ".c", ".cpp", ".cmake", ".pc")
    # Perl, which is essential in Debian, names its own headers.
    assert [p for p, status in paths(image) if p.endswith(suffixes) and stat.S_ISREG(status.st_mode) and "/perl" not in p] == []
    installed = set(image.run("dpkg-query", "--show", "--showformat", "${Package}\n").stdout.split())
    assert "libssl3" in installed
    assert not (group("Build") & installed)
    assert [package for package in installed if package.endswith("-dev")] == []


def test_nothing_is_setuid(image):
    special = stat.S_ISUID | stat.S_ISGID
    assert [p for p, status in paths(image) if stat.S_ISREG(status.st_mode) and status.st_mode & special] == []
    # What a user could change, root would run.
    writable = [p for p, status in paths(image) if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IWOTH]
    assert writable == []


def test_nothing_is_left_of_making_it(image):
    folders = ("/var/lib/apt/lists/", "/var/cache/apt/", "/var/log/", "/tmp/")
    # Locks are empty.
    assert [p for p, status in paths(image) if p.startswith(folders) and stat.S_ISREG(status.st_mode) and status.st_size] == []


def test_every_time_is_the_same(image):
    """Neither the hour of the build nor that of a check-out shows: the same input gives the same bytes."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    assert {int(status.st_mtime) for p, status in paths(image) if stat.S_ISREG(status.st_mode)} == {epoch}
