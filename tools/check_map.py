"""Fail where CONTRIBUTING.md's map and the code have drifted apart, or a file names a place on one person's machine.

The map is one line for each module: "- `sslprune/masks.py`: ...". A room's `__init__.py` goes by the room's name:
"- `sslprune/prune/`: ...".

Run: python tools/check_map.py [CHECKOUT]
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

MAP_LINE = re.compile(r"^- `([^`]+)`: \S", re.MULTILINE)
# /home/someone is nobody's: examples and tests may use it.
HOME = re.compile(r"(?<![\w.~-])/(?:home|mnt|root|Users|work|workspace)/(?!someone\b)[\w.-]+")
OUTSIDE = re.compile(r"\.\./\w[\w/.-]*")


def map_problems(root: Path) -> Iterator[str]:
    """What is missing from the map, said twice in it, or no longer there."""
    described = Counter(MAP_LINE.findall((root / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    for name in modules(root):
        if described[name] != 1:
            yield f"CONTRIBUTING.md: {described[name]} lines for `{name}` where one must be: - `{name}`: what it is for"
    for name in described:
        if name.startswith("sslprune/") and not (root / name).exists():
            yield f"CONTRIBUTING.md: `{name}` is on the map but not in the package"


def modules(root: Path) -> list[str]:
    """Every module's name on the map, sorted."""
    paths = (path.relative_to(root) for path in (root / "sslprune").rglob("*.py"))
    return sorted(f"{path.parent.as_posix()}/" if path.name == "__init__.py" else path.as_posix() for path in paths)


def place_problems(root: Path) -> Iterator[str]:
    """Absolute paths of somebody's machine, and paths that only `.ci/run` may know."""
    for_ci_alone = set(OUTSIDE.findall((root / ".ci/run").read_text(encoding="utf-8")))
    for name in tracked(root):
        try:
            text = (root / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        places = set(HOME.findall(text))
        if name != ".ci/run":
            places |= {place for place in for_ci_alone if place in text}
        for place in sorted(places):
            yield f"{name}: names a place outside of the project: {place}"


def tracked(root: Path) -> list[str]:
    """The files that are or could be committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return sorted(filter(None, listed.split("\0")))


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    problems = [*map_problems(root), *place_problems(root)]
    print("\n".join(problems) or "The map and the code agree.", file=sys.stderr if problems else sys.stdout)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
