"""Every example in every docstring of jaxcon runs, and none is overlooked."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "jaxcon"


def prompts(text):
    """The number of lines of a source file that an example consists of."""
    return sum(line.lstrip().startswith(">>> ") for line in text.splitlines())


def examples():
    """The names of the modules whose source has an example, read without an import."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if prompts(path.read_text(encoding="utf-8")):
            yield ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


@pytest.mark.parametrize("name", list(examples()))
def test_docstring_examples_print_what_they_say(name):
    module = importlib.import_module(name.removesuffix(".__init__"))
    runner, report = doctest.DocTestRunner(verbose=False), []
    for test in doctest.DocTestFinder().find(module, module.__name__):
        test.globs = {}  # as in a reader's own file: an example imports what it uses
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)
    # doctest passes over what it does not recognise as a function of the module.
    assert runner.tries == prompts(inspect.getsource(module))


def test_docstring_examples_are_found_all_over_the_package():
    rooms = {name.split(".")[1] for name in examples()}
    assert rooms > {"derivatives", "optimality", "layers", "projections", "training"}
