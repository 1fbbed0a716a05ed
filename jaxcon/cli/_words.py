"""Lines of the command on stderr."""

import sys


def say(message: str) -> None:
    """Prints one line on stderr.

    Args:
        message: what to say; control characters in it are escaped.
    """
    print(f"jaxcon: {printable(message)}", file=sys.stderr)


def printable(text: str) -> str:
    """Escapes what would break a line, or steer a terminal.

    Args:
        text: e.g. with the name of a file.

    Returns:
        The text on one line.
    """
    return "".join(
        letter if letter.isprintable() else repr(letter)[1:-1] for letter in text
    )
