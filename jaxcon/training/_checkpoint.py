"""Checkpoints of a run."""

import gc
import hashlib
import json
import math
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.training._fingerprint import difference, hashed

_ELSEWHERE = "resume with what it was saved from, or save elsewhere"
# Seconds in which threads of a read that failed end.
_PATIENCE = 0.2


class _Damaged(Exception):
    """Reason why a checkpoint cannot be used."""


class Checkpoint:
    """Folder of checkpoints kept by orbax, or none."""

    def __init__(self, place: Any):
        self.manager = place
        self.owned = isinstance(place, (str, os.PathLike))
        self.run: Any = None  # fingerprint of the run
        self.failed = -math.inf  # when a file could not be read or written last
        self._open = ExitStack()
        if self.owned:
            self.manager = _manager(Path(place))

    def __enter__(self) -> Self:
        if self.manager is not None:
            self._open.enter_context(_quiet(self))
        return self

    def __exit__(self, *_: Any) -> None:
        with self._open:
            if self.owned:
                # What could not be saved was reported when it was waited for.
                with suppress(Exception):
                    self.manager.close()

    @property
    def place(self) -> Any:
        """The folder; None without one."""
        return None if self.manager is None else self.manager.directory

    def restore(self, fresh: Any, run: Any) -> Any:
        """Returns what was saved last, or `fresh` where there is nothing.

        Args:
            fresh: state, best iterate and level that a run starts with.
            run: its fingerprint, which is saved with it.

        Returns:
            As `fresh`.

        Raises:
            ValueError: what was saved is damaged, or of another run.
        """
        self.run = run
        if self.manager is None or (step := self.manager.latest_step()) is None:
            return fresh
        try:
            about = self._about(step)
            self._check_run(step, about, "plain", "read")
            self._check_shapes(step, about, fresh)
            reached = self._reached(step, about, fresh)
        except _Damaged as damage:
            words = self._words_of_damage(step, damage, fresh)
            self.failed = time.monotonic()
            raise ValueError(words) from None
        # A run also goes on from the state that it reached.
        if not _equal(fresh[0], reached[0]):
            self._check_run(step, about, "start")
        self._check_run(step, about, "data")
        self.run = about["run"]
        return reached

    def save(self, reached: Any, force: bool = False) -> None:
        """Saves what a run reached, if it is time or `force` is set.

        Args:
            reached: state, best iterate and level.
            force: whether to save now, and wait until it is written.

        Raises:
            OSError: it could not be saved, now or the last time.
        """
        if self.manager is None:
            return
        step = int(reached[0].step)
        try:
            if step != self.manager.latest_step():
                if force or self.manager.should_save(step):
                    self._write(step, reached, force)
            if force:
                self.manager.wait_until_finished()
                self._check_written(step)
        except Exception as error:
            self.failed = time.monotonic()
            raise OSError(
                f"the checkpoint of step {step} in {self.place} could not be saved "
                f"({_reason(error)})"
            ) from None

    def _write(self, step: int, reached: Any, force: bool) -> None:
        import orbax.checkpoint as ocp

        plain = jax.tree.map(_plain, reached)
        about = {"shapes": _shapes(plain), "sums": _hashes(plain), "run": self.run}
        parts = ocp.args.Composite(
            reached=ocp.args.StandardSave(plain),
            about=ocp.args.JsonSave(about | {"hash": _hash_of(about)}),
        )
        self.manager.save(step, args=parts, force=force)

    def _check_written(self, step: int) -> None:
        """Refuses a folder that does not hold what was written into it."""
        self.manager.check_for_errors()
        if self.owned:
            self.manager.reload()
            if self.manager.latest_step() != step:
                raise OSError("its folder is not there")

    def _about(self, step: int) -> dict[str, Any]:
        """Reads what a checkpoint holds; it is damaged if that is not what was written."""
        import orbax.checkpoint as ocp

        parts = ocp.args.Composite(about=ocp.args.JsonRestore())
        try:
            about = dict(self.manager.restore(step, args=parts).about)
            written = about.pop("hash")
        except Exception:
            raise _Damaged(
                "its description cannot be read: it is none of jaxcon.fit's, or damaged"
            ) from None
        if written != _hash_of(about):
            raise _Damaged("its description is damaged")
        return about

    def _check_run(self, step: int, about: dict[str, Any], *groups: str) -> None:
        """Refuses a checkpoint of another run."""
        place = f"the checkpoint of step {step} in {self.place}"
        for group in groups:
            found = difference(about["run"], self.run, group)
            if found is not None:
                raise ValueError(f"{place} is of another run ({found}); {_ELSEWHERE}")

    def _check_shapes(self, step: int, about: dict[str, Any], fresh: Any) -> None:
        """Refuses a checkpoint of another structure or of other shapes."""
        place = f"the checkpoint of step {step} in {self.place}"
        ours, theirs = _shapes(jax.tree.map(_plain, fresh)), about["shapes"]
        for name in [*ours, *theirs]:
            is_, wanted = theirs.get(name, "nothing"), ours.get(name, "nothing")
            if is_ != wanted:
                raise ValueError(
                    f"{place} is of another shape than this run: it has {is_} for "
                    f"{name}, this run {wanted}; {_ELSEWHERE}"
                )

    def _reached(self, step: int, about: dict[str, Any], fresh: Any) -> Any:
        """Reads the arrays; they are damaged if they are not what was written."""
        import orbax.checkpoint as ocp

        like = jax.tree.map(
            ocp.utils.to_shape_dtype_struct, jax.tree.map(_plain, fresh)
        )
        parts = ocp.args.Composite(reached=ocp.args.StandardRestore(like))
        try:
            reached = self.manager.restore(step, args=parts).reached
            found = _hashes(reached)
        except Exception:
            raise _Damaged("its arrays cannot be read") from None
        for name, written in about["sums"].items():
            if found.get(name) != written:
                raise _Damaged(f"{name} is not what was saved")
        return jax.tree.map(_as, fresh, reached)

    def _words_of_damage(self, step: int, damage: _Damaged, fresh: Any) -> str:
        """Returns a sentence that names the damage, and what to go on from."""
        text = f"the checkpoint of step {step} in {self.place} is damaged ({damage})"
        folder = Path(self.place) / str(step)
        for older in sorted(self.manager.all_steps(), reverse=True):
            if older < step:
                with suppress(Exception):
                    self._reached(older, self._about(older), fresh)
                    return (
                        f"{text}; that of step {older} is good: delete {folder} to go on "
                        "from it"
                    )
        return f"{text}, and there is no other that is good; save elsewhere"


@contextmanager
def _quiet(checkpoint: Checkpoint) -> Iterator[None]:
    """Keeps to itself what orbax's threads print after one of them failed."""
    before, last = sys.unraisablehook, -math.inf

    def hook(unraisable: Any) -> None:
        nonlocal last
        error = unraisable.exc_value
        # Reads of other arrays that were given up, and are collected now.
        given_up = isinstance(getattr(error, "__cause__", None), GeneratorExit)
        given_up |= str(error).endswith("was never awaited")
        if given_up or str(error) == "Event loop is closed":
            last = time.monotonic()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        if checkpoint.failed > -math.inf:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".* was never awaited")
                gc.collect()
        # Threads of a read or a write that failed end soon after.
        while time.monotonic() < max(last, checkpoint.failed) + _PATIENCE:
            time.sleep(_PATIENCE / 4)
        sys.unraisablehook = before


def _equal(ours: Any, theirs: Any) -> bool:
    """Returns whether two states of one structure are equal to the bit."""
    return _hashes(jax.tree.map(_plain, ours)) == _hashes(jax.tree.map(_plain, theirs))


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def _plain(leaf: Any) -> Any:
    """Returns a random key's numbers, which orbax saves; any other leaf unchanged."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _as(like: Any, leaf: Any) -> Any:
    """Returns numbers as a random key where `like` is one."""
    if not _is_key(like):
        return leaf
    return jax.random.wrap_key_data(leaf, impl=jax.random.key_impl(like))


def _shapes(reached: Any) -> dict[str, str]:
    """Lists what a checkpoint holds, by path, e.g. {".params['w']": "float32[3]"}."""
    leaves = jax.tree_util.tree_leaves_with_path(reached)
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}".replace(" ", "")
        for path, leaf in ((path, jnp.asarray(leaf)) for path, leaf in leaves)
    }


def _hashes(reached: Any) -> dict[str, str]:
    """Lists hashes of the arrays that this process holds all of, by path."""
    return {
        jax.tree_util.keystr(path): hashed(np.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(reached)
        if getattr(leaf, "is_fully_addressable", True)
    }


def _hash_of(about: dict[str, Any]) -> str:
    text = json.dumps(about, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _reason(error: Exception) -> str:
    """Returns the operating system's words for an error, if it has any."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # Tensorstore writes them into its own message.
    words = re.search(r"\[OS error \d+: [A-Z]+ ([^\]\n]+)\]", str(error))
    return words[1] if words else "its files cannot be written"


def _manager(folder: Path) -> Any:
    try:
        import orbax.checkpoint as ocp
    except ImportError:
        raise ImportError(
            "checkpoints need orbax: pip install 'jaxcon[checkpoint]'"
        ) from None
    policies = ocp.checkpoint_managers
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2,
        save_decision_policy=policies.ContinuousCheckpointingPolicy(
            minimum_interval_secs=60
        ),
    )
    try:
        # Orbax fails in a background thread on a relative path, and says nothing.
        path = folder.resolve()
        path.mkdir(parents=True, exist_ok=True)
        return ocp.CheckpointManager(path, options=options)
    except FileExistsError:
        raise ValueError(
            f"checkpoint must be a folder's path; {folder} is a file"
        ) from None
    except Exception as error:
        raise ValueError(
            f"checkpoint: no folder {str(folder)[:200]} can be used ({_reason(error)})"
        ) from None
