"""Tables of facts: one loop that reports all failing rows, not one test for each row."""

import re
import traceback


def assert_each(rows, check):
    """Asserts what `check(row)` asserts for every row, and reports all that fail.

    Args:
        rows: an iterable of rows, or a dict by name: its keys are the rows.
        check: function of one row that raises AssertionError where the row is wrong.
    """
    failed = []
    for row in rows:
        try:
            check(row)
        except AssertionError:
            failed.append(f"{row!r}:\n{traceback.format_exc(limit=-3)}")
    assert not failed, "\n".join(failed)


def assert_refused(cases, most=10_000):
    """Asserts that every call is refused in one line, and reports all that are not.

    Args:
        cases: triples of a call without arguments, the error that it must raise, and what
            its message or its notes must contain: a regular expression, or a list of
            plain words.
        most: characters that a message may have at the most.
    """
    failed = []
    for row, (call, error, words) in enumerate(cases):
        patterns = [words] if isinstance(words, str) else [*map(re.escape, words)]
        try:
            found = f"returned {call()!r}"
        except Exception as caught:  # one of another kind is reported with the others
            message = str(caught)
            right = isinstance(caught, error) and len(message) <= most
            text = " ".join([message, *getattr(caught, "__notes__", [])])
            if right and all(re.search(pattern, text) for pattern in patterns):
                if "\n" not in message:
                    continue
            found = f"{type(caught).__name__}: {message!r}"
        failed.append(f"row {row}, {error.__name__} with {words!r}: {found}")
    assert not failed, "\n".join(failed)
