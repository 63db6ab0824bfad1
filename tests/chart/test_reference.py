"""docs/reference.md has what the agent's sources and the chart have, and nothing else."""

import re

import pytest
import yaml
from agent_sources import annotations, bypass_reasons, families, flags, log_keys, response_flags
from render import CHART, REPOSITORY

PAGE = (REPOSITORY / "docs/reference.md").read_text()


def section(title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)[1]


def rows(text: str) -> list[list[str]]:
    """The cells of all tables, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for i, row in enumerate(cells) if not row[0].startswith("---") and not (i + 1 < len(cells) and cells[i + 1][0] == "---")]


def quoted(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)


def test_metrics():
    tables = rows(section("Metrics"))
    documented = [name for row in tables for name in quoted(row[0]) if name.startswith(("weir_", "istio_"))]
    assert len(documented) == len(set(documented))
    assert set(documented) == set(families())
    for row in tables:
        for name in (n for n in quoted(row[0]) if n in families()):
            assert ("histogram" in row[1]) == families()[name], name
            assert not name.endswith("_total") or "counter" in row[1], name
    assert {quoted(row[0])[0] for row in tables if len(row) == 2} == bypass_reasons()


def test_flags():
    documented = [name for row in rows(section("Flags of the agent")) for name in quoted(row[0])]
    assert len(documented) == len(set(documented))
    assert set(documented) == set(flags())
    # As the page says.
    for flag, variable in flags().items():
        assert variable == (None if flag == "--config" else "WEIR_" + flag[2:].upper().replace("-", "_")), flag


def test_values_that_set_flags():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for row in rows(section("Flags of the agent")):
        for path in quoted(row[2]):
            value = values
            for key in path.split("."):
                assert key in value, path
                value = value[key]


def test_labels_and_annotations():
    assert annotations() <= set(quoted(section("Labels and annotations")))
    assert len(annotations()) > 8


def test_response_flags():
    text = section("Response flags")
    documented = [name for row in rows(text) for name in quoted(row[0]) if name != "-"]
    assert sorted([*documented, "FI", "DI"]) == sorted(response_flags())


def test_access_log():
    documented = [name for row in rows(section("Access log")) for name in quoted(row[0])]
    # Its addresses and such are one row each, but for what only JSON has.
    assert documented == log_keys()


@pytest.mark.parametrize("page", ["README.md", "charts/weir/README.md", "docs/reference.md"])
def test_links(page):
    here = REPOSITORY / page
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", here.read_text()):
        assert target.startswith("http") or (here.parent / target).exists(), target
