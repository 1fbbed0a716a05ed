"""Good calls of comparisons, reports and tables, to be altered one by one."""

import tempfile
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcon as jc
from jaxcon import tabular


def of(**given):
    """A function that returns these arguments."""
    return lambda: dict(given)


@cache
def folder():
    """A folder of this process."""
    return Path(tempfile.mkdtemp())


@cache
def table_file():
    """A table of two columns."""
    path = folder() / "table.csv"
    lines = [f"{i},{i * i / 100}" for i in range(30)]
    path.write_text("\n".join(["x,y", *lines, ""]))
    return path


@cache
def table():
    """The table."""
    return tabular.read_csv(table_file())


@cache
def scaled():
    """Problem, scaling and parameters of its fit."""
    made, scaling = tabular.problem(
        table(), "y", tabular.Rules(increasing=("x",)), tabular.Settings(steps=2)
    )
    return made, scaling, made.init(jax.random.key(0))


@cache
def problem():
    """A problem of one number."""
    return jc.Problem(
        init=lambda key: {"w": jnp.ones(1)},
        apply=lambda params, x: params["w"] @ x,
        loss=lambda apply, params, batch: jnp.mean(
            jax.vmap(lambda x: apply(params, x))(batch["points"]) ** 2
        ),
        constraints=lambda apply: jc.Constraints(
            inequality={"rises": jc.shapes.increasing(apply, 0, on="points")}
        ),
        batch={"points": jnp.ones((3, 1))},
        score=lambda apply, params: {"w": params["w"][0]},
        lower=jnp.zeros(1),
        upper=jnp.ones(1),
    )


@cache
def method():
    """A method."""
    return jc.methods.lagrangian(optax.sgd(0.1), rate=0.1)


@cache
def evaluations():
    """The method, evaluated on the problem."""
    return tuple(jc.compare(problem(), {"one": method()}, steps=2, num_random=8))


CURVE = jc.report.Curve(*[np.linspace(0.0, 1.0, 5)] * 3)
ROWS = [{"method": "one", "loss": 0.5}]
RULES = {
    "increasing": ("x",),
    "lower": 0.0,
    "upper": 10.0,
    "lipschitz": 5.0,
}


def figure(name):
    """Makes the path of a figure."""
    return folder() / f"{name}.png"


GOOD = {
    "compare": lambda: {
        "problem": problem(),
        "methods": {"one": method()},
        "steps": 1,
        "factors": (10.0,),
        "seed": 1,
        "num_random": 4,
    },
    "comparison.train": lambda: {
        "problem": problem(),
        "method": method(),
        "steps": 1,
        "seed": 1,
        "progress": False,
    },
    "comparison.Evaluator": lambda: {"problem": problem(), "num_random": 4, "seed": 1},
    "report.rows": lambda: {"outcomes": evaluations()},
    "report.summary": lambda: {"outcomes": evaluations()},
    "report.plot_trade_off": lambda: {
        "outcomes": evaluations(),
        "path": figure("trade-off"),
    },
    "report.plot_curves": lambda: {
        "x": np.linspace(0.0, 1.0, 5),
        "curves": {"one": CURVE},
        "names": ("x", "y"),
        "path": figure("curve"),
    },
    "report.markdown": of(rows=ROWS),
    "report.write_csv": lambda: {"rows": ROWS, "path": folder() / "rows.csv"},
    "report.csv_text": of(text="=1"),
    "report.new_figure": of(width=3.0, height=2.0),
    "tabular.read_csv": lambda: {"path": table_file(), "columns": ("x", "y")},
    "tabular.check": lambda: {
        "table": table(),
        "target": "y",
        "rules": tabular.Rules(**RULES),
        "settings": tabular.Settings(),
    },
    "tabular.problem": lambda: {
        "table": table(),
        "target": "y",
        "rules": tabular.Rules(**RULES),
        "settings": tabular.Settings(),
    },
    "tabular.Rules": of(**RULES),
    "tabular.Settings": of(
        steps=2, width=4, depth=2, seed=1, held_out=0.2, margin=0.1, strength=1.0
    ),
    "tabular.constraint_points": of(d=2),
    "tabular.places": lambda: {"scaling": scaled()[1], "name": "x", "num": 5},
    "tabular.curve": lambda: {
        "scaling": scaled()[1],
        "params": scaled()[2],
        "name": "x",
    },
    "tabular.held_out_rows": lambda: {"rows": 30, "settings": tabular.Settings()},
    "tabular.init_network": lambda: {"key": jax.random.key(0), "sizes": (1, 4, 1)},
}

# Values that an argument may have.
FREE = {
    "report.csv_text": {"text": {"'a'", "'zzz'", "''"}},
    "tabular.read_csv": {"path": {"all"}},
    "report.plot_trade_off": {"path": {"'a'"}},
    "report.plot_curves": {"path": {"'a'"}},
    "report.write_csv": {"path": {"'a'"}},
}

# What else names an argument in a message: a rule or a setting stands under its flag.
NAMES = {
    "compare": ["method 'a'"],
    "tabular.read_csv": ["column"],
    "tabular.check": ["column"],
    "tabular.problem": ["column"],
    "tabular.places": ["column"],
    "tabular.curve": ["column"],
}


def use(name, made, given):
    """Uses the result of a call as its reader would."""
    if name == "tabular.Rules":
        tabular.check(table(), "y", made, tabular.Settings())
    if name == "tabular.Settings":
        tabular.check(table(), "y", tabular.Rules(), made)
    return made
