"""Every example in every docstring of jaxcon runs, and none is overlooked."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import jaxcon

MODULES = [
    "jaxcon",
    *sorted(
        module.name
        for module in pkgutil.walk_packages(jaxcon.__path__, "jaxcon.")
        if not module.name.endswith("__main__")  # to import it is to run it
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    runner, report = doctest.DocTestRunner(verbose=False), []
    for test in doctest.DocTestFinder().find(module, name):
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)
    # doctest passes over what it does not recognise as a function of the module.
    lines = inspect.getsource(module).splitlines()
    assert runner.tries == sum(line.lstrip().startswith(">>> ") for line in lines)
