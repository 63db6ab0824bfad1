"""What the agent's sources say that it has: metrics, flags, response flags, keys of objects.

    families()     {name of a metric: whether it is a histogram}
    series()       names under which Prometheus has them
    flags()        {flag: its environment variable, or none}
"""

import re

from render import REPOSITORY

USERSPACE = REPOSITORY / "userspace"
# A name, then what it is for.
FAMILY = re.compile(r'"((?:weir|istio)_[a-z0-9_]+)",\s*"')
HISTOGRAM = re.compile(r'FamilyOf \w+\("(\w+)",[^;]*?MetricType::Histogram\)')


def sources() -> str:
    return "\n".join(path.read_text() for path in sorted(USERSPACE.rglob("*.cpp")))


def families() -> dict[str, bool]:
    text = sources()
    histograms = set(HISTOGRAM.findall(text))
    names = set(FAMILY.findall(text))
    assert len(names) > 50 and len(histograms) > 2 and histograms <= names
    stats = re.findall(r'^    \{"([a-z_]+)",\s*"', (REPOSITORY / "include/weir/admin_api.h").read_text(), re.M)
    assert len(stats) > 10
    names |= {f"weir_bpf_{name}_total" for name in stats if not name.startswith("bypass_")}
    return {name: name in histograms for name in names}


def series() -> set[str]:
    found = families()
    return {n for n, histogram in found.items() if not histogram} | {
        n + part for n, histogram in found.items() if histogram for part in ("_bucket", "_sum", "_count")
    }


def bypass_reasons() -> set[str]:
    return set(re.findall(r'^    \{"bypass_([a-z_]+)"', (REPOSITORY / "include/weir/admin_api.h").read_text(), re.M))


def flags() -> dict[str, str | None]:
    text = (USERSPACE / "flags.cpp").read_text()
    found = {}
    for call in re.split(r"\bapp\.(?=add_option|set_config)", text)[1:]:
        variable = re.search(r'envname\("(\w+)"\)', call)
        found[re.search(r'"(--[a-z-]+)"', call)[1]] = variable and variable[1]
    assert len(found) > 25
    return found


def response_flags() -> list[str]:
    names = re.search(r"kNames = \{([^}]*)\}", (USERSPACE / "telemetry/rpc.cpp").read_text())[1]
    return re.findall(r'"(\w+)"', names)


def log_keys() -> list[str]:
    """Of the access log's JSON, in its order."""
    keys = re.findall(r'line\.(?:text|number|null|address)\("(\w+)"', (USERSPACE / "telemetry/log_record.cpp").read_text())
    return list(dict.fromkeys(keys))


def annotations() -> set[str]:
    """Keys of weir's own and of Istio's on objects."""
    text = sources()
    return set(re.findall(r'"((?:weir\.dev|traffic\.sidecar\.istio\.io|service\.istio\.io)/[A-Za-z-]+)"', text))
