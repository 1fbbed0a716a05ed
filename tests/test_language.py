"""The summaries of all docstrings and the public names of all modules."""

import ast
import importlib
import inspect
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

PACKAGE = Path(__file__).parent.parent / "jaxcon"

FORBIDDEN = set(
    "What Whether How Where Who Whose When Those This Same Says".split()  # and "The same"
)
PRICES = {"price", "prices", "priced"}
# Words in s that are no verbs: a summary of a function may not begin with them.
PLURALS = set(
    """
    Batches Bounds Coefficients Columns Constraints Derivatives Entries Errors Estimates
    Fields Gradients Indices Inputs Its Limits Loss Midpoints Multipliers Names Numbers
    Options Pairs Parameters Params Paths Penalties Points Readings Residuals Rows Shapes
    Shares Signs Sizes Slopes Steps Terms This Values Violations Weights Zeros
    """.split()
)
LONGEST = 500


class Summary(NamedTuple):
    """The first line of one docstring, and where it stands."""

    path: Path
    line: int
    kind: str
    name: str
    text: str

    @property
    def words(self):
        return [word.strip("`*.,:;()[]\"'") for word in self.text.split()]

    def __str__(self):
        return f"{self.path}:{self.line} {self.name}: {self.text}"


def files():
    return sorted(PACKAGE.rglob("*.py"))


def is_property(node):
    for decorator in node.decorator_list:
        name = ast.unparse(decorator).split(".")[-1].split("(")[0]
        if name in {"property", "cached_property", "setter", "getter", "deleter"}:
            return True
    return False


def kind_of(node):
    if isinstance(node, ast.Module):
        return "module"
    if isinstance(node, ast.ClassDef):
        return "class"
    return "property" if is_property(node) else "function"


def summaries_of(path):
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, documented) or ast.get_docstring(node) is None:
            continue
        name = getattr(node, "name", "module")
        if name != "__dir__":
            first = ast.get_docstring(node).split("\n")[0]
            line = getattr(node, "lineno", 1)
            yield Summary(named(path), line, kind_of(node), name, first)


def named(path):
    return path.relative_to(PACKAGE.parent) if path.is_relative_to(PACKAGE) else path


@cache
def summaries():
    return [summary for path in files() for summary in summaries_of(path)]


def listed(offenders):
    """The offenders by line, after their number in each room."""
    offenders = list(offenders)
    rooms = Counter(
        str(each).split(":")[0].split("/")[1].removesuffix(".py") for each in offenders
    )
    return "\n".join(
        [f"{len(offenders)} in {dict(sorted(rooms.items()))}", *map(str, offenders)]
    )


def assert_none(offenders):
    offenders = list(offenders)
    assert not offenders, listed(offenders)


def begins_with_forbidden(summary):
    return summary.words[0] in FORBIDDEN or summary.words[:2] == ["The", "same"]


def is_verb(word):
    return word.endswith("s") and word not in PLURALS


def begins_with_no_verb(summary):
    return summary.kind == "function" and not is_verb(summary.words[0])


def prices(summary):
    return bool(PRICES & {word.lower() for word in summary.words})


def test_summaries_begin_with_no_forbidden_word():
    assert_none(filter(begins_with_forbidden, summaries()))


def test_summaries_of_functions_begin_with_a_verb():
    assert_none(filter(begins_with_no_verb, summaries()))


def test_summaries_of_classes_and_modules_begin_with_no_verb():
    functions = [each for each in summaries() if each.kind == "function"]
    verbs = {each.words[0] for each in functions if is_verb(each.words[0])}
    begun = [each for each in summaries() if each.words[0] in verbs]
    assert_none(each for each in begun if each.kind == "class")
    # "Runs of a solver" is a noun in a module's summary, "Adds it up" is not.
    modules = [each for each in begun if each.kind == "module"]
    assert_none(each for each in modules if each.words[1:2] != ["of"])


def test_summaries_speak_of_penalties_and_not_of_prices():
    assert_none(filter(prices, summaries()))


def test_summaries_that_break_a_rule_are_all_seen(tmp_path):
    # The laws above hold of nothing if the summaries are not seen.
    path = tmp_path / "module.py"
    path.write_text(
        '''"""Whether a module."""
class A:
    """The same of a class."""
    @property
    def b(self):
        """Where a property."""
    @cached_property
    def c(self):
        """Noun of a property."""
    def d(self):
        """Noun of a method."""
        def e():
            """Values of a nested function."""
    async def f(self):
        """Returns `price`, which is right but for one word."""
    def __dir__(self):
        """Noun."""
    @jax.jit
    def _g(self):
        """Says
        something."""
'''
    )
    every = {summary.name: summary for summary in summaries_of(path)}
    assert set(every) == {"module", "A", "b", "c", "d", "e", "f", "_g"}
    assert {n for n, s in every.items() if begins_with_forbidden(s)} == {
        *("module", "A", "b", "_g")
    }
    assert {n for n, s in every.items() if begins_with_no_verb(s)} == {"d", "e"}
    assert {n for n, s in every.items() if prices(s)} == {"f"}


def public_modules():
    """The dotted names of all modules without a leading underscore on their way."""
    for path in files():
        *above, last = path.relative_to(PACKAGE.parent).with_suffix("").parts
        parts = above if last == "__init__" else [*above, last]
        if not any(part.startswith("_") for part in parts):
            yield named(path), ".".join(parts)


def test_modules_list_their_public_names():
    offenders = []
    for path, name in public_modules():
        module = importlib.import_module(name)
        names = getattr(module, "__all__", None)
        if names is None:
            offenders.append(f"{path}:1 has no __all__")
            continue
        if missing := [each for each in names if not hasattr(module, each)]:
            offenders.append(f"{path}:1 lists {missing}, which do not exist")
        if dir(module) != sorted(names):
            offenders.append(f"{path}:1 shows by dir() more or less than it lists")
    assert_none(offenders)


def test_files_have_at_most_500_lines():
    lengths = {path: len(path.read_text().splitlines()) for path in files()}
    assert_none(
        f"{named(path)}:{length} lines"
        for path, length in lengths.items()
        if length > LONGEST
    )


def test_functions_do_not_have_the_name_of_their_module():
    offenders = []
    for path, name in public_modules():
        module, last = importlib.import_module(name), name.split(".")[-1]
        # Several derivatives at once are `jaxcon.derivatives.derivatives`: the package
        # stays what `import jaxcon.derivatives` gives.
        own = getattr(module, last, None)
        if inspect.isroutine(own) and last != "derivatives":
            offenders.append(f"{path}:1 has the function {own.__name__}")
        package, _, _ = name.rpartition(".")
        if not package:
            continue
        if not isinstance(getattr(importlib.import_module(package), last), ModuleType):
            offenders.append(f"{path}:1 is hidden by {package}.{last}")
    assert_none(offenders)
