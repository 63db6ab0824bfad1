"""What an agent has resident, for tests of what it holds and gives back."""

import re
from pathlib import Path

from lab.agent import Agent


class UncachedAgent(Agent):
    """Without malloc's cache of freed blocks for each thread: a few hundred blocks, in other pages after each burst,
    each of which keeps its page resident. That alone moves the RSS by up to 7 %."""

    @property
    def argv(self):
        return ["env", "GLIBC_TUNABLES=glibc.malloc.tcache_count=0", *super().argv]


class Peak:
    """How much more than now an agent has resident at most, from now on."""

    def __init__(self, agent):
        self.before = agent.resident_kib()
        self._process = Path(f"/proc/{agent.pid}")
        (self._process / "clear_refs").write_text("5")  # VmHWM begins anew

    def growth_kib(self) -> int:
        return int(re.search(r"VmHWM:\s+(\d+)", (self._process / "status").read_text())[1]) - self.before
