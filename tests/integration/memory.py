"""What an agent has resident at most."""

import re
from pathlib import Path


class Peak:
    """How much more than now an agent has resident at most, from now on."""

    def __init__(self, agent):
        self.before = agent.resident_kib()
        self._process = Path(f"/proc/{agent.pid}")
        (self._process / "clear_refs").write_text("5")  # VmHWM begins anew

    def growth_kib(self) -> int:
        return int(re.search(r"VmHWM:\s+(\d+)", (self._process / "status").read_text())[1]) - self.before
