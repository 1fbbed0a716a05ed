"""Entry point of `python -m jaxcon`."""

from jaxcon.cli import main

main()
