"""Process of its own for the cells, so that one that dies fails alone."""

import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as Late
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from benchmarks.versus._lanes import LANES


class Worker:
    """Process that runs cells, and is replaced where it dies or takes too long."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def run(self, lane: str, problem: str, seconds: float, *rest: Any) -> list[Any]:
        """Runs a cell.

        Args:
            lane: its name.
            problem: its name.
            seconds: that it may take.
            *rest: the other arguments of `cell`.

        Returns:
            Its rows; one with "failed" where there are none.
        """
        named = {"lane": lane, "problem": problem}
        absent = LANES[lane].missing()
        if absent:
            return [named | {"failed": f"{absent} is not installed"}]
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, get_context("spawn"))
        try:
            return self._pool.submit(_cell, lane, problem, *rest).result(seconds)
        except BrokenProcessPool:
            self.close()
            return [named | {"failed": "the process died"}]
        except Late:
            self.close()
            return [named | {"failed": f"not done after {seconds:.0f} s"}]
        except Exception as error:
            reason = str(error).splitlines()[:1] or [""]
            return [named | {"failed": f"{type(error).__name__}: {reason[0][:120]}"}]

    def close(self) -> None:
        """Ends the process."""
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _cell(*arguments: Any) -> list[Any]:
    from benchmarks.versus._run import cell

    warnings.simplefilter("ignore")
    return cell(*arguments)
