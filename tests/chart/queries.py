"""The queries of the dashboard and of the alerts, and what each asks of which metric.

    queries()            all, as Query(place, text, shown)
    labels_of(query)     {metric: labels that it has to have}
"""

import json
import re
from dataclasses import dataclass

import yaml
from render import CHART

SELECTOR = re.compile(r"\b((?:weir|istio)_[a-z0-9_]+)\s*(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)\s*(?=(.?))")


@dataclass(frozen=True)
class Query:
    place: str
    text: str
    shown: frozenset = frozenset()  # labels that a legend or an annotation shows of the result


def queries() -> list[Query]:
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    found = [
        Query(panel["title"], target["expr"], frozenset(re.findall(r"\{\{\s*(\w+)\s*\}\}", target.get("legendFormat", ""))))
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]
    found += [Query(v["name"], v["query"]["query"]) for v in dashboard["templating"]["list"] if v["type"] == "query"]
    for group in yaml.safe_load((CHART / "files/rules.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            shown = re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"]))
            found.append(Query(rule["alert"], rule["expr"], frozenset(shown)))
    assert len(found) > 40
    return found


def names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",") if name.strip()}


def balanced(text: str, start: int) -> str:
    """From the parenthesis at `start` to the one that closes it."""
    depth = 0
    for end in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return text[start : end + 1]
    raise ValueError(f"parentheses of {text}")


def labels_of(query: Query) -> dict[str, set[str]]:
    needed: dict[str, set[str]] = {}
    for metric, selectors in SELECTOR.findall(query.text):
        needed.setdefault(metric, set()).update(re.findall(r"([a-z_]+)\s*(?:=~|!=|!~|=)\s*\"", selectors))
    for grouping in GROUPING.finditer(query.text):
        # sum by (labels) (what they are of); on (labels) is about both sides.
        by = grouping[0].startswith("by")
        scope = balanced(query.text, grouping.end()) if by and grouping[2] == "(" else query.text
        for metric, _ in SELECTOR.findall(scope):
            needed[metric] |= names(grouping[1])
    if variable := re.fullmatch(r"label_values\((.*), (\w+)\)", query.text):
        for metric in needed:
            needed[metric].add(variable[2])
    return needed


def grouped_by(query: Query) -> set[str]:
    return {name for grouping in GROUPING.finditer(query.text) for name in names(grouping[1])}
