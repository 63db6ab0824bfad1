"""The same manifests in both: weir by a Service of the lab, Envoy by a listener of its own; one client pod for each."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from pair import Pair  # noqa: E402


@pytest.fixture(scope="module")
def pair(lab):
    return Pair(lab)
