"""Build the kernels for a sanitizer, and run on them what could go wrong: memory, undefined behaviour, races.

python tools/sanitize/run.py            # both sanitizers, everything (some minutes)
python tools/sanitize/run.py thread --short

The short form compiles the kernels with the system's compiler into a program without Python (`replay.cpp`), which runs
recorded plans. The long form also builds the Python module (it needs cmake and nanobind) and runs the kernels' own
tests on it, with the sanitizer's library loaded before Python.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CSRC = ROOT / "sslprune/runtime/csrc"
TESTS = {
    "address": ["tests/runtime/test_kernels.py", "tests/runtime/test_random_nets.py"],
    "thread": ["tests/runtime/test_many_threads.py"],
}
_FLAGS = {"address": "-fsanitize=address,undefined -fno-sanitize-recover=all", "thread": "-fsanitize=thread"}
_INSTRUCTIONS = {"kernels_avx2": ["-mavx2", "-mfma"], "kernels_avx512": ["-mavx512f"]}
_ENVIRONMENT = {
    # Python and torch leave what they hold to the process's end. The library is in place before Python, not in it.
    "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "exitcode=66",
    "OMP_NUM_THREADS": "1",
}


def replayed(kind: str, folder: Path, *, nets: int, recorded: Path | None = None) -> None:
    """Compile the program without Python, and run recorded plans in it: all of memory, leaks too, is watched."""
    program, plans = folder / f"replay-{kind}", recorded or folder / "plans.txt"
    sources = [file for file in sorted(CSRC.glob("*.cpp")) if file.name != "module.cpp"]
    with ThreadPoolExecutor(os.cpu_count()) as compilers:
        objects = list(compilers.map(lambda source: _compiled(kind, source, folder), [*sources, HERE / "replay.cpp"]))
    _run([_compiler(), *_FLAGS[kind].split(), *map(str, objects), "-pthread", "-o", str(program)])
    if recorded is None:
        _run([sys.executable, str(HERE / "record.py"), str(plans), "--nets", str(nets)])
    # Who meets whom does not depend on the instructions, and ThreadSanitizer is slow.
    sets = ["1"] if kind == "thread" else []
    _run([*_unshuffled(), str(program), str(plans), *sets], TSAN_OPTIONS="exitcode=66")


def tested(kind: str, folder: Path) -> None:
    """Build the Python module, and run the kernels' tests on it."""
    build = folder / kind
    nanobind = _said([sys.executable, "-m", "nanobind", "--cmake_dir"])
    configure = [f"-DSSLPRUNE_SANITIZE={kind}", f"-DPython_EXECUTABLE={sys.executable}", f"-Dnanobind_DIR={nanobind}"]
    _run(["cmake", "-S", str(ROOT), "-B", str(build), *configure])
    _run(["cmake", "--build", str(build), "--parallel"])
    (module,) = build.glob("_kernels*")
    library = {"address": "libasan.so", "thread": "libtsan.so"}[kind]
    libraries = [_said([_compiler(), f"-print-file-name={name}"]) for name in (library, "libstdc++.so")]
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "preloaded_kernels", *TESTS[kind]]
    _run(
        [*_unshuffled(), *pytest],
        LD_PRELOAD=" ".join(libraries),
        SSLPRUNE_TEST_KERNELS=str(module),
        PYTHONPATH=os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
        **_ENVIRONMENT,
    )


def _compiled(kind: str, source: Path, folder: Path) -> Path:
    target = folder / f"{kind}-{source.stem}.o"
    how = ["-std=c++17", "-O1", "-g1", "-fno-omit-frame-pointer", *_FLAGS[kind].split(), f"-I{CSRC}"]
    if os.uname().machine == "x86_64":
        how += _INSTRUCTIONS.get(source.stem, [])
    _run([_compiler(), *how, "-c", str(source), "-o", str(target)])
    return target


def _compiler() -> str:
    return os.environ.get("CXX", "g++")


def _unshuffled() -> list[str]:
    """ThreadSanitizer of older compilers cannot place its memory where addresses are shuffled far."""
    return ["setarch", "-R"] if sys.platform == "linux" else []


def _run(command: list[str], **environment: str) -> None:
    print("+", *command, flush=True)
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False)
    if done.returncode:
        sys.exit(f"exit code {done.returncode}")


def _said(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="?", choices=list(_FLAGS), help="by default both")
    parser.add_argument("--short", action="store_true", help="only the program without Python, on few plans")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache/sanitize", help="where it is built")
    parser.add_argument("--plans", type=Path, help="recorded before, rather than recorded now")
    args = parser.parse_args()
    args.folder = args.folder.absolute()
    args.folder.mkdir(parents=True, exist_ok=True)
    for kind in [args.kind] if args.kind else list(_FLAGS):
        replayed(kind, args.folder, nets=3 if args.short else 24, recorded=args.plans)
        if not args.short:
            tested(kind, args.folder)
    print("clean")


if __name__ == "__main__":
    main()
