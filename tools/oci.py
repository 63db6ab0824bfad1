"""OCI images from Dockerfiles with neither a daemon nor a registry: buildah, on a base made of Debian's packages by mmdebstrap.

What both made is kept below ~/.cache/weir/image. All times inside an image are $SOURCE_DATE_EPOCH (0), so that the same input
gives the same bytes.
"""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

CACHE = Path(os.environ.get("WEIR_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weir") / "image"
BASE = "docker.io/library/debian:12-slim"
# So that Debian's security updates come in: seconds.
BASE_LIFETIME = 7 * 24 * 3600
# As Debian's own slim images leave out what only people read, but for the licences.
EXCLUDED = ["/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*"]
INCLUDED = ["/usr/share/doc/*/copyright"]
SEARCH_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
EPOCH = os.environ.get("SOURCE_DATE_EPOCH", "0")


class Failed(Exception):
    """What went wrong, for people."""


def output(*command, **environment) -> str:
    arguments = [str(c) for c in command]
    done = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode != 0:
        raise Failed(f"{' '.join(arguments)}: exit {done.returncode}\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout.strip()


def build(context: Path, reference: str, archive: Path, *arguments: str) -> None:
    """Builds the Dockerfile of the folder `context` and writes the image as an OCI archive. `arguments` are buildah's."""
    options = ["--quiet", "--layers", "--pull-never", "--format", "oci", "--timestamp", EPOCH, "--tag", reference]
    with _locked():
        _provide_base()
        _replace(reference, lambda: _buildah("build", *options, *arguments, context))
        _write(reference, archive)


def _buildah(*arguments) -> str:
    # vfs and chroot: they need no file system and no namespace that a container in CI could not have.
    store = ["--root", CACHE / "storage", "--runroot", CACHE / "run", "--storage-driver", "vfs"]
    return output("buildah", *store, *arguments, BUILDAH_ISOLATION="chroot")


@contextmanager
def _locked():
    """One at a time in the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _image_id(reference: str) -> str:
    """Empty if there is none."""
    images = json.loads(_buildah("images", "--json", "--no-trunc"))
    return next((image["id"] for image in images if reference in (image["names"] or [])), "")


def _replace(reference: str, make) -> None:
    """Gives the reference a new image, and the disk space of the one before back."""
    before = _image_id(reference)
    make()
    if before and before != _image_id(reference):
        _buildah("rmi", "--force", before)


def _provide_base() -> None:
    made = CACHE / "base"
    if _image_id(BASE) and made.exists() and time.time() - made.stat().st_mtime < BASE_LIFETIME:
        return
    print(f"image: making {BASE} (once a week)", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="base-", dir=CACHE) as scratch:
        root = Path(scratch) / "base.tar"
        output(
            *("mmdebstrap", "--quiet", "--variant=minbase", "--include=usr-is-merged"),
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED),
            *(f"--dpkgopt=path-include={pattern}" for pattern in INCLUDED),
            *("bookworm", root),
            SOURCE_DATE_EPOCH=EPOCH,
        )
        container = _buildah("from", "scratch")
        try:
            _buildah("add", container, root, "/")
            _buildah("config", "--env", SEARCH_PATH, "--cmd", "bash", container)
            _replace(BASE, lambda: _buildah("commit", "--timestamp", EPOCH, container, BASE))
        finally:
            _buildah("rm", container)
    made.touch()


def _write(reference: str, archive: Path) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="layout-", dir=archive.parent) as layout:
        _buildah("push", "--quiet", "--format", "oci", reference, f"oci:{layout}:{reference}")
        index = Path(layout) / "index.json"
        described = json.loads(index.read_text())
        # containerd's importer takes a reference with a registry's name from here.
        described["manifests"][0]["annotations"]["io.containerd.image.name"] = reference
        index.write_text(json.dumps(described, sort_keys=True))
        output(
            *("tar", "--directory", layout, "--sort=name", f"--mtime=@{EPOCH}", "--mode=a=rX,u+w", "--owner=0", "--group=0"),
            *("--numeric-owner", "--create", "--file", f"{archive}.new", "oci-layout", "index.json", "blobs"),
        )
    Path(f"{archive}.new").rename(archive)
