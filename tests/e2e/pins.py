"""What weir has in the kernel: the maps and links that are pinned on the node."""

import json

from lab import processes

SHOW = ["/usr/sbin/bpftool", "--json"]
# Folder of the pins -> what bpftool calls them.
KINDS = {"maps": "map", "links": "link"}


def pinned(node) -> list[str]:
    return node.run("find", "/sys/fs/bpf/weir", "-type", "f", check=False).stdout.split()


def ids(node) -> dict[str, set[int]]:
    """Of the pinned ones, by bpftool's word."""
    pins = pinned(node)
    return {
        kind: {json.loads(node.run(*SHOW, kind, "show", "pinned", pin).stdout)["id"] for pin in pins if f"/{folder}/" in pin}
        for folder, kind in KINDS.items()
    }


def existing(known: dict[str, set[int]]) -> dict[str, set[int]]:
    """Those of ids() that the kernel still has, node or no node; the machine may have other agents."""
    shown = {kind: json.loads(processes.run([*SHOW, kind, "show"]).stdout) for kind in known}
    left = {kind: known[kind] & {entry["id"] for entry in entries} for kind, entries in shown.items()}
    return {kind: some for kind, some in left.items() if some}
