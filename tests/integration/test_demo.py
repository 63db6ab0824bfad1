"""The demo as a newcomer meets it: it shows what it promises, and leaves nothing behind however it ends."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from lab import cgroups, processes, state
from lab.agent import binary

DEMO = Path(__file__).resolve().parents[2] / "tools" / "lab" / "demo"


@pytest.fixture
def name():
    chosen = f"t{os.getpid()}-demo"
    yield chosen
    subprocess.run([DEMO, "--down", "--name", chosen], stdout=subprocess.DEVNULL, timeout=30)


def start(name, *arguments, **kwargs):
    return subprocess.Popen([DEMO, "--name", name, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)


def gone(name):
    return not (state.cgroup_root(name).exists() or (state.ROOT / name).exists() or state.bpf_dir(name).exists())


def test_it_shows_the_main_job(name):
    demo = start(name)
    output, errors = demo.communicate(timeout=100)
    assert demo.returncode == 0, output + errors
    rows = {step: re.findall(r"\d+\.\d%|-(?= |$)", line) for line in output.splitlines() if (step := line.split("  ")[0])}
    for step in ("without weir", "agent killed, new connection"):
        assert sorted(rows[step]) == ["-", "-", "100.0%"]
    for step in ("with weir", "agent started again"):
        shares = [float(share.rstrip("%")) for share in rows[step]]
        assert len(shares) == 3 and min(shares) >= 20
    assert gone(name)


def test_kept_it_can_be_explored(name):
    demo = start(name, "--keep")
    output, errors = demo.communicate(timeout=100)
    assert demo.returncode == 0, output + errors
    commands = [line.strip() for line in output.split("Look around:")[1].splitlines() if line.startswith("  ")]
    assert any("weirctl" in command and command.endswith("status") for command in commands)
    for command in commands[:-1]:
        shell = command.endswith("bash")  # a shell: give it something to do
        done = subprocess.run(
            ["bash", "-c", command], input="ip address\n" if shell else "", capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, command + done.stdout + done.stderr
        assert done.stdout, command
    assert commands[-1] == "make demo-down"
    assert subprocess.run([DEMO, "--down", "--name", name], timeout=30).returncode == 0
    assert gone(name)


@pytest.mark.parametrize("number,status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_it_cleans_up(name, number, status):
    demo = start(name)
    for line in demo.stdout:
        if "with weir: the client" in line:
            break
    demo.send_signal(number)
    demo.communicate(timeout=30)
    assert demo.returncode == status
    assert gone(name)


def test_after_a_crash_the_next_run_cleans_up(name):
    demo = start(name)
    for line in demo.stdout:
        if "with weir: the client" in line:
            break
    demo.kill()
    demo.communicate(timeout=30)
    left = cgroups.pids(state.cgroup_root(name))
    assert left
    again = start(name)
    _, errors = again.communicate(timeout=100)
    assert again.returncode == 0, errors
    assert gone(name)
    assert not any(Path(f"/proc/{pid}").exists() for pid in left)


def test_two_at_a_time_are_refused_with_a_reason(name):
    first = start(name)
    processes.wait_until(lambda: (state.ROOT / name / "state.json").exists(), 10, "the first runs")
    second = start(name)
    _, errors = second.communicate(timeout=30)
    assert second.returncode == 1
    assert f"in use by process {first.pid}" in errors
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=30)


def test_what_is_not_so_fails_it(name, tmp_path):
    """With an agent that is none, it says what was expected, and exits non-zero."""
    agent = tmp_path / "weir-agent"
    agent.write_text("#!/bin/sh\necho no luck >&2\nexit 3\n")
    agent.chmod(0o755)
    (tmp_path / "weirctl").symlink_to(binary("weirctl"))
    started = time.monotonic()
    demo = start(name, env={**os.environ, "WEIR_BUILD_DIR": str(tmp_path)})
    _, errors = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "FAILED" in errors and "status 3" in errors and "no luck" in errors
    assert time.monotonic() - started < 20
    assert gone(name)
