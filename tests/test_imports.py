"""Imports run one way, optional libraries wait until they are needed."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "jaxcon"

# A room imports rooms of earlier lines only.
ORDER = [
    {"constraints", "penalties", "projections", "derivatives"},
    {"shapes", "points", "lagrangian", "multipliers", "identify"},
    {"kkt", "selection", "transforms", "layers", "certify"},
    {"primal_dual"},
    {"diagnosis"},
    {"training", "ways"},
    {"comparison"},
    {"report"},
    {"tabular"},
    {"examples", "estimator"},
    {"runs"},
    {"cli"},
    {"__init__", "__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}

# These import even less than their rank would let them.
ONLY = {
    "shapes": {"constraints", "derivatives"},
    "points": {"constraints", "derivatives"},
    "lagrangian": {"constraints", "penalties"},
    "multipliers": {"constraints", "penalties"},
    "identify": {"constraints", "derivatives"},
    "kkt": {"constraints", "lagrangian"},
    "selection": {"constraints"},
    "transforms": {"constraints", "lagrangian", "projections"},
    "ways": {"constraints", "penalties", "primal_dual", "transforms"},
    "layers": {"derivatives", "points", "projections"},
    "certify": {"constraints", "derivatives"},
    "diagnosis": {"constraints", "primal_dual"},
}

# Imported inside functions, so that who does not use them need not have them.
OPTIONAL = {"matplotlib", "tyro", "orbax", "tqdm", "pandas", "sklearn", "scipy"}

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    """jaxcon/derivatives/_checks.py -> derivatives; jaxcon/kkt.py -> kkt."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree, path):
    """Absolute dotted names of all that a piece of a module imports."""
    package = ("jaxcon", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            )
            module = ".".join(filter(None, [base, node.module]))
            # `from jaxcon import kkt` may import a module by its last name.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def at_import_time(tree):
    """The statements that run when the module is imported: none inside functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        yield from at_import_time(node)


def parse(path):
    return ast.parse(path.read_text())


def rooms_imported(path):
    """The rooms of jaxcon that a file imports, anywhere in it, its own left out."""
    for name in imported(parse(path), path):
        top, *rest = name.split(".")
        if top != "jaxcon":
            continue
        # A name from the front door that is no room belongs to the front door.
        room = rest[0] if rest and rest[0] in RANK else "__init__"
        if room != room_of(path):
            yield room


files = pytest.mark.parametrize(
    "path", FILES, ids=lambda p: str(p.relative_to(PACKAGE))
)


@files
def test_every_file_has_a_room(path):
    assert room_of(path) in RANK


@files
def test_imports_run_one_way(path):
    room = room_of(path)
    wrong = {other for other in rooms_imported(path) if RANK[other] >= RANK[room]}
    assert not wrong, f"{room} must not import {sorted(wrong)}"
    beyond = set(rooms_imported(path)) - ONLY.get(room, set(RANK))
    assert not beyond, f"{room} imports {sorted(beyond)}; it may {sorted(ONLY[room])}"


def test_the_allowances_are_of_earlier_rooms():
    for room, others in ONLY.items():
        assert max(RANK[other] for other in others) < RANK[room]


@files
def test_optional_libraries_wait(path):
    now = {
        name.split(".")[0]
        for statement in at_import_time(parse(path))
        for name in imported(statement, path)
    }
    ever = {name.split(".")[0] for name in imported(parse(path), path)}
    # The command is nothing without tyro, and says so in one line where it is absent.
    assert not now & OPTIONAL - ({"tyro"} if room_of(path) == "cli" else set())
    assert "chex" not in ever
    if room_of(path) != "layers":
        assert "flax" not in ever
    if room_of(path) == "derivatives":
        assert "optax" not in ever


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import jaxcon.kkt", {"kkt"}),
        ("from jaxcon.kkt import KKT", {"kkt"}),
        ("from jaxcon import kkt, training", {"kkt", "training"}),
        ("from . import training", {"training"}),
        ("from .primal_dual import Info", {"primal_dual"}),
        ("import jaxcon as jc", {"__init__"}),
        ("from jaxcon import fit", {"__init__"}),
        ("def f():\n    from jaxcon import report", {"report"}),
        ("import jax", set()),
    ],
)
def test_the_reader_itself(tmp_path, monkeypatch, source, found):
    # The laws above hold of nothing if the imports are not seen.
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "constraints.py").write_text(source)
    assert set(rooms_imported(tmp_path / "constraints.py")) == found
    statements = list(at_import_time(ast.parse(source)))
    assert len(statements) == (0 if source.startswith("def") else 1)


def test_importing_jaxcon_changes_no_setting_and_loads_no_extra():
    # In a process of its own, since this one has loaded and set everything already.
    source = """
import json, sys
import jax, optax
before, modules = dict(jax.config.values), set(sys.modules)
import jaxcon
changed = [k for k, v in jax.config.values.items() if before.get(k, "unset") != v]
print(json.dumps([changed, sorted(set(sys.modules) - modules)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    changed, loaded = json.loads(done.stdout)
    assert changed == []
    assert "jaxcon.training" in loaded
    extras = OPTIONAL | {"flax", "chex", "scipy.stats"}
    assert [n for n in loaded if n in extras or n.split(".")[0] in extras] == []
