"""tests/matrix: what makes a row fail, and the cache that its clients are built into."""

import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "tools"), str(REPOSITORY / "tests" / "matrix")]

import cache  # noqa: E402
from grpc_rows import chance, unlike  # noqa: E402
from report import Outcome, summary, write_junit  # noqa: E402
from row import BALANCED, LEARNED, RELAYED, Declared, Row, Step, differences, digest, wrong  # noqa: E402

DIRECT = [Step("get", 0, "1"), Step("fail", 22, "no", expected=22), Step("echo", 0, "hello", known="hello")]
ROW = Row("redis", Declared("grpc-x"), "redis", lambda end: None, BALANCED)


@pytest.mark.parametrize(
    "weir,says",
    [
        (DIRECT, []),
        ([Step("get", 0, "2"), *DIRECT[1:]], ["get: directly exit 0, '1'; through weir exit 0, '2'"]),
        ([DIRECT[0], Step("fail", 0, "no", expected=22), DIRECT[2]], ["fail: directly exit 22, 'no'; through weir exit 0, 'no'"]),
        (DIRECT[:2], ["other steps: ['get', 'fail', 'echo'] directly, ['get', 'fail'] through weir"]),
    ],
    ids=["same", "other output", "other status", "a step is missing"],
)
def test_what_differs(weir, says):
    assert differences(DIRECT, weir) == says


def test_a_direct_run_that_fails_proves_nothing():
    assert wrong(DIRECT) == []
    assert wrong([Step("get", 1, "refused")]) == ["get: directly exit 1 (expected 0), 'refused'"]
    assert wrong([Step("echo", 0, "bye", known="hello")]) == ["echo: directly exit 0 (expected 0), 'bye'"]
    assert summary(DIRECT) == "3 of 3"
    assert summary([Step("get", 1, "refused")]) == "0 of 1"


def test_long_output_is_compared_by_its_sum():
    assert digest(b" short\n") == "short"
    assert digest(b"\0" * 1000) != digest(b"\0" * 999 + b"\1")
    assert digest(b"\xff").startswith("1 bytes, sha256 ")


def test_rows_have_names_of_their_own():
    ports = [Declared("grpc-x"), Declared("grpc-x", ipv6=True), Declared("grpc-x", "h2c", ipv6=True)]
    rows = [*(Row("redis", port, "redis", lambda end: None, BALANCED) for port in ports), Row("redis", ports[0], "redis", lambda end: None, LEARNED)]
    assert [row.name for row in rows[1:]] == ["redis, port grpc-x (IPv6)", "redis, port grpc-x (h2c, IPv6)", "redis, port grpc-x, as shipped"]
    assert len({row.key for row in rows}) == len(rows)
    assert [Declared(name).as_http2 for name in ("grpc", "grpc-x", "http2", "http", "tcp-x", "api-port")] == [True, True, True, False, False, False]


def test_junit(tmp_path):
    write_junit(tmp_path / "reports" / "matrix.xml", [Outcome(ROW, DIRECT, DIRECT), Outcome(ROW, failures=["differs"])])
    text = (tmp_path / "reports" / "matrix.xml").read_text()
    assert text.count("<testcase") == 2
    assert text.count("<failure") == 1
    assert 'name="redis, port grpc-x"' in text


def test_a_version_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CACHE", tmp_path)
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "tool").touch()

    assert cache.once("tool", "1", make) == cache.once("tool", "1", make) == tmp_path / "tool-1"
    assert len(made) == 1
    assert (tmp_path / "tool-1" / "tool").exists()
    cache.once("tool", "2", make)
    assert len(made) == 2


def test_what_could_not_be_made_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CACHE", tmp_path)
    with pytest.raises(ZeroDivisionError):
        cache.once("tool", "1", lambda folder: 1 / 0)
    assert [path.name for path in tmp_path.iterdir()] == ["tool.lock"]


def ended(side, **codes):
    return SimpleNamespace(side=side, notes=[], deadlines=Counter({code[1:]: count for code, count in codes.items()}))


@pytest.mark.parametrize(
    "client,direct,weir,handled,fails",
    [
        ("go", {"_4": 20}, {"_4": 20}, BALANCED, False),
        ("python", {"_4": 15, "_1": 5}, {"_4": 20}, BALANCED, False),
        ("python", {"_4": 15, "_1": 5}, {"_4": 19, "_1": 1}, BALANCED, True),
        ("python", {"_4": 15, "_1": 5}, {"_4": 12, "_1": 8}, RELAYED, False),
        ("python", {"_4": 20}, {"_1": 20}, RELAYED, True),
    ],
    ids=["as directly", "better", "the reset is passed on", "about as often", "always"],
)
def test_how_calls_end_at_their_deadlines(client, direct, weir, handled, fails):
    assert bool(unlike(client, False, ended(1, **direct), ended(2, **weir), handled)) == fails


def test_the_chance_that_both_sides_are_alike():
    assert chance(0, 0) == 1
    assert chance(5, 5) > 0.5
    assert chance(0, 10) == pytest.approx(2**-10)
