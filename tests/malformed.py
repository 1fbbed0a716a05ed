"""A generator of malformed calls over the public interface, and what becomes of each.

Each good call of `_malformed_*.GOOD` is altered in one argument at a time. What the
argument must refuse follows from the good value's type: a number, a whole number, text, a
function, a transform, constraints, an array, a tree. A refusal is one line that names the
argument or the user's function. ``python -m tests.malformed`` prints the counts.
"""

import collections
import inspect
import re
import signal
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcon as jc
from tests import (
    _malformed_certify,
    _malformed_core,
    _malformed_ensembles,
    _malformed_layers,
    _malformed_optimality,
    _malformed_tables,
)

TABLES = (
    _malformed_certify,
    _malformed_core,
    _malformed_layers,
    _malformed_optimality,
    _malformed_tables,
    _malformed_ensembles,
)
SECONDS = 30  # after which a call hangs

NAN, INF = float("nan"), float("inf")


class Case(NamedTuple):
    """A malformed call.

    Attributes:
        name: of the function, below jaxcon.
        argument: the one that is malformed.
        label: of what it is given.
        value: that.
    """

    name: str
    argument: str
    label: str
    value: Any

    def __str__(self):
        return f"{self.name}({self.argument}={self.label})"


ANYTHING = {
    "None": None,
    "object": object(),
    "'a'": "a",
    "b'a'": b"a",
    "1j": 1j,
    "set": {1},
    "type": dict,
    "Exception": ValueError("no value"),
}
NUMBER = {
    **ANYTHING,
    "True": True,
    "nan": NAN,
    "-inf": -INF,
    "[1.0]": [1.0],
    "{}": {},
    "array (2,)": jnp.ones(2),
    "array bool": jnp.array(True),
    "NumPy nan": np.float32(NAN),
    "lambda": lambda *_, **__: 1.0,
    "'1.0'": "1.0",
}
WHOLE = {**NUMBER, "1.5": 1.5, "2.0": 2.0, "inf": INF, "array float": jnp.array(2.0)}
TEXT = {**ANYTHING, "'zzz'": "zzz", "''": "", "1": 1, "['a']": ["a"], "True": True}
FUNCTION = {
    **{label: value for label, value in ANYTHING.items() if label != "type"},
    "1.0": 1.0,
    "[]": [],
    "{}": {},
    "array": jnp.ones(2),
}
TRANSFORM = {
    **ANYTHING,
    "0.1": 0.1,
    "optax.adam": optax.adam,
    "{}": [],
    "lambda": lambda *_, **__: None,
    "schedule": optax.constant_schedule(0.1),
}
CONSTRAINTS = {
    **ANYTHING,
    "dict": {"h": lambda p, b: p},
    "list": [lambda p, b: p],
    "lambda": lambda p, b: p,
    "kinds None": jc.Constraints(None, None),  # pyright: ignore
    "entry None": jc.Constraints({"h": None}),
    "entry text": jc.Constraints({}, {"g": "a"}),
    "entry list": jc.Constraints([1.0]),  # pyright: ignore
    "name 1": jc.Constraints({1: jnp.ones(())}),  # pyright: ignore
    "both kinds": jc.Constraints({"g": jnp.ones(())}, {"g": jnp.ones(())}),
}
ARRAY = {
    "object": object(),
    "'a'": "a",
    "set": {1},
    "lambda": lambda *_, **__: 1.0,
    "['a']": ["a"],
    "None": None,
    "complex": jnp.array([1j, 1j]),
    "ragged": [[1.0], [1.0, 2.0]],
}
TREE = {"object": object(), "'a'": "a", "lambda": lambda *_, **__: 1.0, "set": {1}}
MAPPING = {**ANYTHING, "1.0": 1.0, "['a']": ["a"], "{'a': object}": {"a": object()}}
SEQUENCE = {**ANYTHING, "['a']": ["a"], "[None]": [None], "[object]": [object()]}
OWN = {**ANYTHING, "{}": {}, "[]": [], "1.0": 1.0, "lambda": lambda *_, **__: None}
RETURNS = {
    "of no argument": lambda: 1.0,
    "of ten arguments": lambda a, b, c, d, e, f, g, h, i, j: 1.0,
    "-> None": lambda *_, **__: None,
    "-> text": lambda *_, **__: "a",
    "-> list": lambda *_, **__: [1.0],
    "-> dict": lambda *_, **__: {"a": 1.0},
    "-> object": lambda *_, **__: object(),
    "-> True": lambda *_, **__: jnp.array(True),
    "-> 1": lambda *_, **__: jnp.array(1),
    "-> 1j": lambda *_, **__: jnp.array(1j),
    "-> (2, 1)": lambda *_, **__: jnp.ones((2, 1, 3)),
    "raises KeyError": lambda *_, **__: {}["missing"],
    "raises AttributeError": lambda *_, **__: None.shape,  # pyright: ignore
    "raises ZeroDivisionError": lambda *_, **__: 1 / 0,
    "if of a tracer": lambda p=1.0, *_, **__: (
        1.0 if jax.tree.leaves(p)[0].sum() > 0 else 2.0
    ),
}


def kind_of(value):
    """Returns what an argument like this must refuse."""
    if isinstance(value, jc.Constraints):
        return CONSTRAINTS
    if isinstance(value, optax.GradientTransformation):
        return TRANSFORM
    if isinstance(value, bool):
        return {}
    if isinstance(value, int):
        return WHOLE
    if isinstance(value, float):
        return NUMBER
    if isinstance(value, str):
        return TEXT
    if isinstance(value, (jax.Array, np.ndarray)):
        return {} if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else ARRAY
    if isinstance(value, dict):
        return MAPPING
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return SEQUENCE
    if callable(value) and not hasattr(value, "_fields"):
        return FUNCTION
    return OWN


def function_of(name):
    """Returns the public function of a dotted name."""
    for table in TABLES:
        if name in getattr(table, "CALLS", {}):
            return table.CALLS[name]
    found = jc
    for part in name.split("."):
        found = getattr(found, part)
    return found


def cases():
    """Lists all malformed calls."""
    found = []
    for table in TABLES:
        free = getattr(table, "FREE", {})
        functions = getattr(table, "FUNCTIONS", {})
        for name, make in table.GOOD.items():
            for argument, value in make().items():
                allowed = free.get(name, {})
                allowed = (
                    allowed.get(argument, ())
                    if isinstance(allowed, dict)
                    else ("all",) * (argument in allowed)
                )
                if "all" in allowed:
                    continue
                wrong = dict(kind_of(value))
                if (name, argument) in functions:
                    wrong |= RETURNS
                if optional(name, argument):
                    wrong.pop("None", None)
                found += [
                    Case(name, argument, label, bad)
                    for label, bad in wrong.items()
                    if label not in allowed
                ]
    return found


def optional(name, argument):
    """Returns whether None is an argument's default."""
    parameters = inspect.signature(function_of(name)).parameters
    return argument in parameters and parameters[argument].default is None


class Hangs(BaseException):
    """A call that does not end."""


def outcome(case):
    """Makes a malformed call.

    Returns:
        "named", "unnamed", "traceback", "silent" or "hangs", and the message.
    """
    table = next(table for table in TABLES if case.name in table.GOOD)
    given = table.GOOD[case.name]()
    words = [case.argument, case.argument.replace("_", "-")]  # a setting's flag
    words += [*getattr(table, "NAMES", {}).get(case.name, ())]
    words += getattr(table, "FUNCTIONS", {}).get((case.name, case.argument), [])
    if isinstance(given[case.argument], jc.Constraints):
        words += ["'h'", "'g'", "constraint"]  # an entry is named, not the argument

    given[case.argument] = case.value

    def late(*_):
        raise Hangs

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = function_of(case.name)(**given)
            use = getattr(table, "use", None)
            if use is not None:
                use(case.name, made, given)
        return "silent", ""
    except Hangs:
        return "hangs", ""
    except Exception as error:
        return judged(error, words)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judged(error, words):
    """Returns "named", "unnamed" or "traceback" of an exception, and its message."""
    notes = " ".join(getattr(error, "__notes__", []))
    text = f"{error} {notes}".strip()
    message = f"{type(error).__name__}: {text}"
    ours = isinstance(error, (TypeError, ValueError, ImportError))
    if not ours and "raised in" not in notes:
        return "traceback", message
    if "\n" in str(error).strip() and "raised in" not in notes:
        return "traceback", message
    named = any(re.search(rf"(?<!\w){re.escape(word)}", text) for word in words)
    return ("named" if named else "unnamed"), message


def report(seed=0, count=None):
    """Makes calls and prints what is not named.

    Args:
        seed: of a sample.
        count: of the sample; all of them unless given.

    Returns:
        The number of calls by outcome.
    """
    chosen = cases()
    if count is not None:
        order = np.random.default_rng(seed).permutation(len(chosen))[:count]
        chosen = [chosen[place] for place in order]
    counts = collections.Counter()
    for case in chosen:
        found, message = outcome(case)
        counts[found] += 1
        if found != "named":
            print(f"{found}: {case}: {' '.join(message.split())[:200]}")
    print(dict(counts), "of", len(chosen))
    return counts


if __name__ == "__main__":
    report()
