"""Starting processes in a network namespace and a cgroup, and ending them by pid."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# The namespace is entered first, so that whoever watches the cgroup never sees a
# process of a pod in the node's namespace. nsenter, not `ip netns exec`: the latter
# remounts /sys and hides bpffs and the cgroup tree.
_ENTER = 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"'


class CommandFailed(Exception):
    """A command that had to succeed did not; the message has its output."""


def netns_of(pid: int) -> str:
    return f"/proc/{pid}/ns/net"


def enter_argv(argv: list[str], netns: str | None = None, cgroup: Path | None = None) -> list[str]:
    """argv as run inside a network namespace (a path) and a cgroup (a folder)."""
    result = list(argv)
    if cgroup is not None:
        result = ["sh", "-c", _ENTER, "sh", str(cgroup), *result]
    if netns is not None:
        result = ["nsenter", f"--net={netns}", *result]
    return result


def spawn(argv, netns=None, cgroup=None, log: Path | None = None, env=None, **kwargs) -> subprocess.Popen:
    """Starts a process; its output goes to `log` unless stdout or stderr are given."""
    sink = open(log, "ab") if log is not None else None
    try:
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        kwargs.setdefault("stdout", sink if sink else subprocess.DEVNULL)
        kwargs.setdefault("stderr", sink if sink else subprocess.DEVNULL)
        # A session of its own: Ctrl-C reaches the lab's owner only, which then ends things in order.
        return subprocess.Popen(
            enter_argv(argv, netns, cgroup),
            env={**os.environ, **(env or {})},
            start_new_session=True,
            **kwargs,
        )
    finally:
        if sink:
            sink.close()


def run(argv, netns=None, cgroup=None, input=None, timeout=30.0, check=True, env=None):
    """Runs a command to its end and returns the CompletedProcess (text)."""
    done = subprocess.run(
        enter_argv(argv, netns, cgroup),
        input=input,
        stdin=None if input is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    )
    if check and done.returncode != 0:
        raise CommandFailed(f"{' '.join(map(str, argv))}: exit {done.returncode}\n{done.stdout}{done.stderr}".rstrip())
    return done


def open_socket(netns: str) -> socket.socket:
    """A TCP socket of another network namespace. It stays there; the thread that entered it does not outlive this call."""

    def make() -> socket.socket:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(netns) as namespace:
            if libc.setns(namespace.fileno(), 0) != 0:
                raise OSError(ctypes.get_errno(), f"setns {netns}")
        return socket.socket()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()


def stop(process: subprocess.Popen, timeout=5.0, first=signal.SIGTERM) -> int:
    """Ends a process, by SIGKILL if `first` is not enough, and returns its exit status."""
    if process.poll() is None:
        process.send_signal(first)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait(10)


def wait_until(condition, timeout: float, what: str, interval=0.01):
    """Returns the first true value of condition(); TimeoutError names `what` otherwise."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so after {timeout:g} s")
        time.sleep(interval)
