"""The gRPC clients of the matrix, a stack each, built from clients/ and the package registries into the cache
(tools/cache.py): a folder's name ends in a sum of its sources, which name the version of everything that is fetched."""

import hashlib
import importlib.machinery
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from cache import CACHE, once

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parents[1] / "tools"
PYTHON = "/usr/bin/python3"
# Seconds for one: tonic and what it needs takes minutes on one slow core.
LIMIT = 1500
COPY_JARS = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def go_tool():
    """tools/go_tool as a module."""
    loader = importlib.machinery.SourceFileLoader("go_tool", str(TOOLS / "go_tool"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("go_tool", loader))
    sys.modules["go_tool"] = module  # its dataclasses look themselves up
    loader.exec_module(module)
    return module


def interop() -> Path:
    """The folder of grpc-go's interoperability client and server."""
    built = subprocess.run([TOOLS / "go_tool", "grpc-interop"], stdout=subprocess.PIPE, text=True, timeout=LIMIT, check=True)
    return Path(built.stdout.strip())


def go(work: Path, done: Path) -> None:
    tool = go_tool()
    compiler = tool.go_for(tool.TOOLS["grpc-interop"])
    run(compiler, "build", "-mod=readonly", "-o", done / "matrix", ".", cwd=work, env=tool.environment(work / "go"))


def python(work: Path, done: Path) -> None:
    run(PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", done / "lib", "--requirement", work / "requirements.txt")
    shutil.copy(work / "client.py", done)


def node(work: Path, done: Path) -> None:
    run("npm", "ci", "--silent", "--ignore-scripts", cwd=work)
    shutil.copytree(work, done, dirs_exist_ok=True)


def java(work: Path, done: Path) -> None:
    run("mvn", "--quiet", "--batch-mode", COPY_JARS, f"-DoutputDirectory={done}/jars", cwd=work)
    run("javac", "-cp", f"{done}/jars/*", "-d", done / "classes", work / "MatrixClient.java")


def rust(work: Path, done: Path) -> None:
    run("cargo", "build", "--quiet", "--locked", "--release", cwd=work)
    shutil.copy(work / "target" / "release" / "matrix-client", done)


def cpp(work: Path, done: Path) -> None:
    run("g++", "-std=c++17", "-O1", "-o", done / "client", work / "client.cpp", "-Wl,--copy-dt-needed-entries",
        "-lgrpc++", "-lgrpc", "-labsl_synchronization", "-labsl_time", "-lcrypto")  # fmt: skip


STACKS: dict[str, Callable[[Path, Path], None]] = {made.__name__: made for made in (go, python, node, java, rust, cpp)}


def run(*argv, **more) -> None:
    subprocess.run([str(a) for a in argv], check=True, stdout=sys.stderr, timeout=LIMIT, **more)


def built(stack: str) -> Path:
    """The folder of a stack's client, built if need be."""
    source = HERE / "clients" / stack
    files = sorted(path for path in source.rglob("*") if path.is_file())
    sources = hashlib.sha256(b"".join(path.name.encode() + b"\0" + path.read_bytes() for path in files))

    def make(done: Path) -> None:
        print(f"matrix: building the {stack} client (once)", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="building-", dir=CACHE) as scratch:
            STACKS[stack](shutil.copytree(source, Path(scratch) / "work"), done)

    return once(f"matrix-{stack}", sources.hexdigest()[:12], make)


def build(stack: str) -> None:
    interop() if stack == "interop" else built(stack)


def stack_of(client: str) -> str:
    """A client is a stack's, or one of grpc-java's two transports."""
    return "java" if client in ("netty", "okhttp") else client


def client(name: str) -> tuple[list, dict]:
    """Its command and environment."""
    folder = built(stack_of(name))
    match name:
        case "go":
            return [folder / "matrix", "client"], {}
        case "python":
            return [PYTHON, folder / "client.py"], {"PYTHONPATH": str(folder / "lib")}
        case "node":
            return ["node", folder / "client.js"], {}
        case "netty" | "okhttp":
            return ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{folder}/classes:{folder}/jars/*", "MatrixClient", name], {}
        case "rust":
            return [folder / "matrix-client"], {}
        case _:
            return [folder / "client"], {}
