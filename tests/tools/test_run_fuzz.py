"""tools/run_fuzz: the corpus that is kept between runs, and what is said of a crash."""

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "run_fuzz"

# Stands in for a libFuzzer target: finds an input more with each run; its merge keeps every other one.
TARGET = """#!/usr/bin/python3
import pathlib, sys, time
flags = [a for a in sys.argv[1:] if a.startswith("-")]
folders = [pathlib.Path(a) for a in sys.argv[1:] if not a.startswith("-")]
if "-merge=1" in flags:
    for path in sorted(folders[1].iterdir())[::2]:
        (folders[0] / path.name).write_bytes(path.read_bytes())
    sys.exit()
(folders[0] / str(time.monotonic_ns())).write_text("x" * 10)
print("stat::number_of_executed_units: 42", file=sys.stderr)
if "crashing" in sys.argv[0]:
    prefix = next(f for f in flags if f.startswith("-artifact_prefix=")).partition("=")[2]
    pathlib.Path(prefix + "crash-abc").write_text("boom")
    sys.exit(77)
"""


@pytest.fixture
def run_fuzz(tmp_path):
    loader = importlib.machinery.SourceFileLoader("run_fuzz", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_fuzz", loader))
    sys.modules["run_fuzz"] = module
    loader.exec_module(module)
    module.CACHE, module.CRASHES, module.REPOSITORY = tmp_path / "cache", tmp_path / "crashes", tmp_path
    return module


def target(tmp_path, name: str) -> Path:
    path = tmp_path / name
    path.write_text(TARGET)
    path.chmod(0o755)
    return path


def test_a_run_goes_on_where_the_last_one_ended(run_fuzz, tmp_path):
    fuzzed = target(tmp_path, "fuzz_x")
    outcomes = [run_fuzz.fuzz(fuzzed, 1) for _ in range(3)]
    assert [o.kept for o in outcomes] == [1, 2, 3]
    assert outcomes[2].message == "fuzz_x: ok, 42 executions, 3 inputs kept"


@pytest.mark.parametrize("limit,value", [("MANY_INPUTS", 6), ("MANY_BYTES", 60)])
def test_a_large_corpus_is_merged(run_fuzz, tmp_path, limit, value):
    setattr(run_fuzz, limit, value)
    fuzzed = target(tmp_path, "fuzz_x")
    assert [run_fuzz.fuzz(fuzzed, 1).kept for _ in range(8)] == [1, 2, 3, 4, 5, 6, 4, 5]
    assert [p.name for p in (tmp_path / "cache" / "fuzz").iterdir() if p.is_dir()] == ["fuzz_x"]


def test_a_corpus_that_stays_large_loses_its_largest(run_fuzz, tmp_path):
    run_fuzz.MANY_BYTES = 100
    corpus = tmp_path / "cache" / "fuzz" / "fuzz_x"
    corpus.mkdir(parents=True)
    for i, size in enumerate([5, 10, 500, 600]):
        (corpus / f"{i:03}").write_text("y" * size)
    run_fuzz.fuzz(target(tmp_path, "fuzz_x"), 1)
    assert sorted(p.stat().st_size for p in corpus.iterdir()) == [5, 10]


def test_a_crash_is_kept_and_explained(run_fuzz, tmp_path):
    outcome = run_fuzz.fuzz(target(tmp_path, "fuzz_crashing"), 1)
    assert outcome.status == 77
    (crash,) = outcome.crashes
    assert crash.read_text() == "boom"
    for part in ("FAILED", str(crash), "to replay it", "tests/fuzz/corpus/fuzz_crashing/"):
        assert part in outcome.message
    # Only what this run has left.
    os.utime(crash, (0, 0))
    assert run_fuzz.crashes_since("fuzz_crashing", 1) == []
