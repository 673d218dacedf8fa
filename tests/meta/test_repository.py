"""What may stand at the top of the repository, and what no file in it may say."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.meta.source import REPOSITORY

TOP_LEVEL = frozenset(
    {".ci", ".gitignore", "LICENSE", "Makefile", "README.md", "benchmarks", "constraints.txt", "docs", "fxq", "pyproject.toml", "tests"}
)

# in pieces, so that this file doesn't hold what it looks for
_MACHINE_FOLDERS = "|".join(("home", "root", "tmp", "work", "opt", "Users"))
MACHINE_PATH = re.compile(rf"(?<![\w.)\]}}>$<*/-])/(?:{_MACHINE_FOLDERS})(?![\w.-])")


def tracked_files(root: Path) -> list[str]:
    """Paths below root that git has, with / between folders."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True)
    return [name for name in listed.stdout.split("\0") if name]


def strangers(names: Iterable[str]) -> list[str]:
    """Names at the top level that are not in TOP_LEVEL."""
    return sorted({name.partition("/")[0] for name in names} - TOP_LEVEL)


def machine_paths(root: Path, names: Iterable[str]) -> list[str]:
    """Lines of text files that name a folder of somebody's machine."""
    return [
        f"{name}:{number}"
        for name in names
        for number, line in enumerate(_text(root / name).splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]


def _text(path: Path) -> str:
    """A file's text; "" for a file that isn't text or that is deleted and not yet committed."""
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, FileNotFoundError):
        return ""


def declared(pyproject: str) -> list[str]:
    """Names of all packages that pyproject.toml depends on, those of the extras and of the build too."""
    tomllib = pytest.importorskip("tomllib", reason="in the standard library from Python 3.11 on")
    content = tomllib.loads(pyproject)
    project = content["project"]
    extras = [name for names in project.get("optional-dependencies", {}).values() for name in names]
    requirements = [*project["dependencies"], *extras, *content["build-system"]["requires"]]
    return sorted({re.split(r"[^\w-]", requirement)[0] for requirement in requirements})


def undecided(pyproject: str, decisions: str) -> list[str]:
    """Dependencies without a row `| name | replaces | why |` in the decisions."""
    rows = set(re.findall(r"^\| *`?([\w-]+)`? *\|", decisions, flags=re.MULTILINE))
    return [name for name in declared(pyproject) if name not in rows]


def unpinned(pyproject: str, constraints: str) -> list[str]:
    """Dependencies without an exact version in constraints.txt. What builds the package is not installed with it."""
    pins = {name.lower() for name in re.findall(r"^([\w-]+)==\S+$", constraints, flags=re.MULTILINE)}
    return [name for name in declared(pyproject) if name.lower() not in pins | {"setuptools"}]


def _decisions() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "docs" / "decisions").glob("*.md")))


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("needs the git repository")
    return tracked_files(REPOSITORY)


def test_top_level(tracked: list[str]) -> None:
    assert strangers(tracked) == []


def test_no_machine_paths(tracked: list[str]) -> None:
    assert machine_paths(REPOSITORY, tracked) == []


def test_every_dependency_has_its_decision() -> None:
    assert undecided((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"), _decisions()) == []


def test_every_dependency_is_pinned() -> None:
    constraints = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    assert unpinned((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"), constraints) == []


def test_stranger_is_found(tmp_path: Path) -> None:
    for name in ("setup.py", "fxq/api.py", "scripts/run.sh", "untracked"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "setup.py", "fxq", "scripts"], cwd=tmp_path, check=True)
    assert strangers(tracked_files(tmp_path)) == ["scripts", "setup.py"]


@pytest.mark.parametrize("folder", ["home", "root", "tmp", "work", "opt", "Users"])
def test_machine_path_is_found(tmp_path: Path, folder: str) -> None:
    (tmp_path / "a.md").write_text(f"one\nread '/{folder}/me/x'\ncd /{folder}\n")
    (tmp_path / "b.bin").write_bytes(b"\xff\xfe/" + folder.encode())
    assert machine_paths(tmp_path, ["a.md", "b.bin", "gone.md"]) == ["a.md:2", "a.md:3"]


def test_other_slashes_are_fine(tmp_path: Path) -> None:
    text = "https://example.org/work/a, read/work, </root>, ./tmp/a, $HOME/opt/x, a/tmp, 1/optimum, */work, /workers, ${x}/tmp"
    (tmp_path / "a.md").write_text(text)
    assert machine_paths(tmp_path, ["a.md"]) == []


PYPROJECT = """
[build-system]
requires = ["setuptools>=77"]
[project]
dependencies = ["torch>=2.6", "numpy"]
[project.optional-dependencies]
test = ["pytest-xdist", "other[extra]"]
"""


def test_undecided_dependency_is_found() -> None:
    decisions = "| package | replaces |\n|---|---|\n| torch | x |\n| `pytest-xdist` | x |\n| setuptools | x |\nnumpy"
    assert undecided(PYPROJECT, decisions) == ["numpy", "other"]


def test_unpinned_dependency_is_found() -> None:
    assert unpinned(PYPROJECT, "torch==2.13.0\nnumpy>=2\nPytest-xdist==3.8.0\n") == ["numpy", "other"]
