"""The README's code runs as printed, and its commands are those that exist."""

import re
from pathlib import Path

import jax
import numpy as np

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


def test_readme_code_runs_and_does_what_it_says(capsys):
    names = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    out = capsys.readouterr().out
    printed = out.splitlines()
    assert float(printed[0].split()[0]) > 0.85  # R² of the estimator; noise leaves 0.94
    loss, fall = re.search(r"^loss (\S+), steepest fall (\S+)", out, re.M).groups()
    assert float(loss) < 0.06  # the noise's variance is 0.04
    assert float(fall) == 0.0
    # `check` found nothing that breaks a layer, and `identify` what no data can tell.
    assert printed.count("True") == 1
    assert re.search("^not determined by these data.*only λ μ.2 and λ σ.2", out, re.M)
    # One slope for each of the 40 inputs, from three network libraries.
    assert printed[-3:] == ["(40,)"] * 3
    # By central differences the fitted function rises too.

    x = np.linspace(-1, 1, 101, dtype=np.float32)[:, None]
    net, params = names["net"], names["result"].state.params
    values = jax.vmap(net, (None, 0))(params, x)
    assert np.all(np.diff(values) > 0)


def test_readme_example_is_twenty_five_lines():
    for block in BLOCKS[:2]:
        assert len([line for line in block.splitlines() if line.strip()]) <= 25


def test_docs_of_state_run_in_three_libraries(capsys):
    text = (Path(__file__).parent.parent / "docs" / "state.md").read_text()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, "state.md", "exec"), names)
    assert capsys.readouterr().out.split() == ["True"] * 5


def test_readme_two_commands_are_there():
    assert 'pip install -e ".[cli]" && jaxcon fit\n' in README
    assert 'pip install -e ".[test]" && pytest\n' in README
