"""Does jaxcon's default, with nothing tuned, beat tuned peers on their own ground?"""

from benchmarks.versus._hand_problems import PROBLEMS as PROBLEMS_BY_HAND

__all__ = ["PROBLEMS_BY_HAND"]
