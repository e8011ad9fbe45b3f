"""The table of rooms, held by walking the imports."""

import ast
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "models": set(),
    "data": set(),
    "metrics": set(),
    "train": {"models", "data", "metrics"},
    "fairness": {"train", "models", "data", "metrics"},
    "configs": {"models", "train", "data", "fairness"},
    "zoo": {"models", "data", "metrics", "train", "fairness", "configs", "benchmarks"},
    "benchmarks": {"models", "data", "metrics", "train", "fairness", "configs", "zoo"},
}


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def rooms_imported(path: Path) -> set[str]:
    """Rooms that a file of the package imports, relative imports resolved by hand."""
    package = ("parley", *path.relative_to(ROOT).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            whole = base + (node.module.split(".") if node.module else [])
            names = [whole] if len(whole) > 1 else [[*whole, a.name] for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "parley" and len(name) > 1 and name[1] in MAY_IMPORT:
                found.add(name[1])
            if name[0] in MAY_IMPORT:
                pytest.fail(f"{path}:{node.lineno} imports {name[0]} absolutely: a second copy")
    return found


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_what_the_table_allows(room: str):
    for path in sources(room):
        extra = rooms_imported(path) - MAY_IMPORT[room] - {room}
        assert not extra, f"{path} imports {extra}"


def test_the_walk_sees_relative_imports():
    assert "losses" not in MAY_IMPORT
    assert rooms_imported(ROOT / "train" / "loop.py") >= {"data"}
    assert rooms_imported(ROOT / "train" / "step.py") >= {"data", "models"}


def test_packages_listed_are_the_folders_that_have_an_init():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*__init__.py"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    folders = {Path(p).parent.as_posix() for p in tracked}
    assert {"parley" if f == "." else f"parley.{f.replace('/', '.')}" for f in folders} == set(
        listed
    )


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("requirements.lock", "jax"),
        ("meetings.lock", "meeteval"),
        ("docs.lock", "zensical"),
    ],
)
def test_the_locks_have_hashes_one_version_and_no_address(name: str, package: str):
    lock = (ROOT / name).read_text()
    assert "://" not in lock
    assert "--index" not in lock
    assert "--hash=sha256:" in lock
    assert sum(line.startswith(f"{package}==") for line in lock.splitlines()) == 1


def test_rooms_load_when_they_are_asked_for():
    import parley

    for room in MAY_IMPORT:
        assert getattr(parley, room).__name__ == f"parley.{room}"
    with pytest.raises(AttributeError, match="no attribute 'rooms'"):
        _ = parley.rooms


def test_files_stay_readable():
    for room in MAY_IMPORT:
        for path in sources(room):
            assert len(path.read_text().splitlines()) <= 500, f"{path} is more than one thing"
