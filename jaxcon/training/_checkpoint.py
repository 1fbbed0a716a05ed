"""Checkpoints of a run."""

from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp


class Checkpoint:
    """Folder of checkpoints kept by orbax, or none."""

    def __init__(self, place: Any):
        self.manager = place
        self.owned = isinstance(place, (str, Path))
        if self.owned:
            self.manager = _manager(Path(place))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.owned:
            self.manager.close()

    @property
    def place(self) -> Any:
        """The folder; None without one."""
        return None if self.manager is None else self.manager.directory

    def restore(self, fresh: Any) -> Any:
        """Returns what was saved last, or `fresh` where there is nothing."""
        if self.manager is None or (step := self.manager.latest_step()) is None:
            return fresh
        import orbax.checkpoint as ocp

        plain = jax.tree.map(_plain, fresh)
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, plain)
        place = f"the checkpoint of step {step} in {self.manager.directory}"
        try:
            parts = ocp.args.Composite(shapes=ocp.args.JsonRestore())
            theirs = self.manager.restore(step, args=parts).shapes
        except (ValueError, KeyError, FileNotFoundError):
            raise ValueError(f"{place} is none of jaxcon.fit's") from None
        ours = _shapes(plain)
        for name in [*ours, *theirs]:
            is_, wanted = theirs.get(name, "nothing"), ours.get(name, "nothing")
            if is_ != wanted:
                raise ValueError(
                    f"{place} is of another shape than this run: it has {is_} for "
                    f"{name}, this run {wanted}; resume with what it was saved from, or "
                    "save elsewhere"
                )
        parts = ocp.args.Composite(reached=ocp.args.StandardRestore(like))
        reached = self.manager.restore(step, args=parts).reached
        return jax.tree.map(_as, fresh, reached)

    def save(self, reached: Any, force: bool = False) -> None:
        """Saves what a run reached, if it is time or `force` is set."""
        if self.manager is None:
            return
        import orbax.checkpoint as ocp

        step = int(reached[0].step)
        if step != self.manager.latest_step():
            parts = ocp.args.Composite(
                reached=ocp.args.StandardSave(jax.tree.map(_plain, reached)),
                shapes=ocp.args.JsonSave(_shapes(jax.tree.map(_plain, reached))),
            )
            self.manager.save(step, args=parts, force=force)
        if force:
            self.manager.wait_until_finished()


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
    # Orbax fails in a background thread on a relative path, and says nothing.
    return ocp.CheckpointManager(folder.resolve(), options=options)
