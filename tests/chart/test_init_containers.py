"""The init containers' scripts, run for real; mounts in a mount namespace of their own."""

import json
import subprocess

import pytest
from render import CHART, one, render


def script(name: str, **values) -> tuple[str, dict]:
    pod = one(render(values=values), "DaemonSet")["spec"]["template"]["spec"]
    container = next(c for c in pod["initContainers"] if c["name"] == name)
    assert container["command"] == ["/bin/sh", "-ec"]
    return container["args"][0], {e["name"]: e["value"] for e in container.get("env", [])}


def test_the_profile_arrives_whole(tmp_path):
    text, environment = script("install-seccomp-profile")
    profile, folder = tmp_path / "profile", tmp_path / "seccomp"
    profile.mkdir()
    folder.mkdir()
    config_map = one(render(), "ConfigMap", "-seccomp")["data"]["seccomp.json"]
    # As the kubelet lays out a ConfigMap: behind links.
    (profile / "..data").mkdir()
    (profile / "..data" / "seccomp.json").write_text(config_map)
    (profile / "seccomp.json").symlink_to("..data/seccomp.json")
    (folder / "agent.json").write_text("an older one")
    text = text.replace(" /profile/", f" {profile}/").replace('"/seccomp/', f'"{folder}/')
    for _ in range(2):
        subprocess.run(["/bin/sh", "-ec", text], env={**environment, "PATH": "/usr/bin:/bin"}, check=True, timeout=20)
        assert [path.name for path in folder.iterdir()] == ["agent.json"]
        assert json.loads((folder / "agent.json").read_text()) == json.loads((CHART / "files/seccomp.json").read_text())
    assert not (folder / "agent.json").is_symlink()


@pytest.mark.parametrize("before,mounted", [("umount /sys/fs/bpf", 0), ("true", 1)], ids=["missing", "mounted"])
def test_bpffs_is_mounted_once(before, mounted):
    text, _ = script("mount-bpffs")
    count = "grep -c ' /sys/fs/bpf bpf ' /proc/self/mounts || true"
    steps = f'{before}\n{count}\nsh -ec "$1"\n{count}\nsh -ec "$1"\n{count}'
    apart = ["unshare", "--mount", "--propagation", "private"]
    done = subprocess.run([*apart, "sh", "-ec", steps, "steps", text], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(mounted), "1", "1"]
