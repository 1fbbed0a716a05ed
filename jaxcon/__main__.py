"""`python -m jaxcon`: the command."""

from jaxcon.cli import main

main()
