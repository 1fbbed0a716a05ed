"""Imports run one way, optional libraries wait until they are needed."""

import ast
import json
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "jaxcon"

# A room imports rooms of earlier lines only.
ORDER = [
    {"_stacking", "_checks", "_dtypes", "_programs"},
    {
        "_display",
        "constraints",
        "penalties",
        "projections",
        "derivatives",
    },
    {"shapes", "points", "multipliers", "identifiability"},
    {"lagrangians", "domains"},
    {"optimality", "selection", "transforms", "layers", "certify"},
    {"primal_dual"},
    {"diagnosis"},
    {"training", "methods"},
    {"comparison"},
    {"report"},
    {"tabular", "ensembles"},
    {"examples", "estimators"},
    {"cli"},
    {"__init__", "__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}

# These import even less than their rank would let them.
ONLY = {
    "shapes": {"_checks", "constraints", "derivatives"},
    "points": {"_checks", "constraints", "derivatives"},
    "multipliers": {"_checks", "constraints"},
    "identifiability": {"_checks", "constraints", "derivatives"},
    "lagrangians": {
        "_checks",
        "_dtypes",
        "_stacking",
        "constraints",
        "multipliers",
    },
    "optimality": {
        "_checks",
        "_display",
        "constraints",
        "lagrangians",
        "multipliers",
    },
    "selection": {"_checks", "constraints"},
    "transforms": {
        "_checks",
        "_dtypes",
        "constraints",
        "derivatives",
        "lagrangians",
        "projections",
    },
    "methods": {
        "_checks",
        "constraints",
        "lagrangians",
        "penalties",
        "primal_dual",
        "transforms",
    },
    "domains": {"_checks", "points"},
    "layers": {
        "_checks",
        "_display",
        "derivatives",
        "domains",
        "points",
        "projections",
    },
    "certify": {
        "_checks",
        "_display",
        "_programs",
        "constraints",
        "derivatives",
        "shapes",
    },
    "diagnosis": {
        "_checks",
        "_display",
        "constraints",
        "lagrangians",
        "multipliers",
        "optimality",
        "primal_dual",
        "transforms",
    },
}

# Imported inside functions, so that who does not use them need not have them.
OPTIONAL = {"matplotlib", "orbax", "tqdm", "pandas", "sklearn", "scipy", "safetensors"}

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    """jaxcon/derivatives/_checks.py -> derivatives; jaxcon/optimality.py -> optimality."""
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
            # `from jaxcon import optimality` may import a module by its last name.
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


def named(path):
    return str(path.relative_to(PACKAGE))


def upward(path):
    """The sentences that say which of a file's imports run against the order."""
    room, others = room_of(path), set(rooms_imported(path))
    if room not in RANK:
        yield f"{named(path)} belongs to no room"
        return
    for other in sorted(others):
        if RANK[other] >= RANK[room]:
            yield f"{named(path)} imports {other}, which is not above {room}"
        elif other not in ONLY.get(room, RANK):
            yield f"{named(path)} imports {other}; {room} may {sorted(ONLY[room])}"


def test_imports_run_one_way():
    assert not [sentence for path in FILES for sentence in upward(path)]


def test_imports_allowed_are_of_earlier_rooms():
    for room, others in ONLY.items():
        assert max(RANK[other] for other in others) < RANK[room]


def too_early(path):
    """The sentences that say which optional libraries a file imports, and should not."""
    tree, room = parse(path), room_of(path)
    now = {
        name.split(".")[0]
        for statement in at_import_time(tree)
        for name in imported(statement, path)
    }
    ever = {name.split(".")[0] for name in imported(tree, path)}
    # An estimator is a class of scikit-learn's; `import jaxcon` imports none.
    for name in sorted(
        now & (OPTIONAL - ({"sklearn"} if room == "estimators" else set()))
    ):
        yield f"{named(path)} imports {name} before it is needed"
    never = {"chex"}
    never |= {"flax"} if room != "layers" else set()
    never |= {"optax"} if room == "derivatives" else set()
    for name in sorted(ever & never):
        yield f"{named(path)} imports {name}"


def test_imports_of_optional_libraries_wait():
    assert not [sentence for path in FILES for sentence in too_early(path)]


# What a file at the place of the constraints would import, and the complaints about it.
SOURCES = {
    "import jaxcon.optimality": ({"optimality"}, 1),
    "from jaxcon.optimality import KKT": ({"optimality"}, 1),
    "from jaxcon import optimality, training": ({"optimality", "training"}, 2),
    "from . import training": ({"training"}, 1),
    "from .primal_dual import Info": ({"primal_dual"}, 1),
    "import jaxcon as jc": ({"__init__"}, 1),
    "from jaxcon import fit": ({"__init__"}, 1),
    "def f():\n    from jaxcon import report": ({"report"}, 1),
    "def f():\n    import matplotlib": (set(), 0),
    "import jax": (set(), 0),
    "import matplotlib.pyplot": (set(), 1),
    "import flax": (set(), 1),
    "def f():\n    import chex": (set(), 1),
}


def test_imports_are_all_seen(tmp_path, monkeypatch):
    # The laws above hold of nothing if the imports are not seen.
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    path = tmp_path / "constraints.py"
    for source, (rooms, complaints) in SOURCES.items():
        path.write_text(source)
        assert set(rooms_imported(path)) == rooms, source
        assert len([*upward(path), *too_early(path)]) == complaints, source
        statements = list(at_import_time(ast.parse(source)))
        assert len(statements) == (0 if source.startswith("def") else 1), source


def test_import_of_jaxcon_changes_no_setting_and_loads_no_extra():
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
