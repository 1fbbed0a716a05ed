"""Clipping that optax lacks, and how often a clip fires."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon.constraints import Constraint, Grouped
from jaxcon.transforms._entries import as_transform, check_number
from jaxcon.transforms._terms import (
    GradientTerms,
    by_factors,
    norm,
    precision,
    remembered,
    total,
)


class ClipState(NamedTuple):
    """What a counted clip remembers.

    Attributes:
        memory: of the clip itself.
        fired: how often it changed what it was given, int32 of shape () by its name.
    """

    memory: Any
    fired: dict[str, jax.Array]


def never(name: str, memory: Any) -> ClipState:
    """The state of a clip that has not fired yet.

    Args:
        name: what it is counted as.
        memory: of the clip.

    Returns:
        The state.
    """
    return ClipState(memory, {name: jnp.zeros((), jnp.int32)})


def count_on(state: ClipState, memory: Any, flag: jax.Array) -> ClipState:
    """The state after one more call.

    Args:
        state: before it.
        memory: of the clip, after it.
        flag: whether it changed what it was given, boolean ().

    Returns:
        The state.
    """
    return ClipState(memory, {name: n + flag for name, n in state.fired.items()})


def fired(states: Any) -> dict[str, jax.Array]:
    """How often clips changed something.

    Args:
        states: of transforms, any pytree.

    Returns:
        A number of shape () by the clip's name, followed by the constraint's or "the loss"
        where there is one for each: "global norm", "global norm: circle".
    """
    found: dict[str, jax.Array] = {}

    def collect(tree: Any, above: tuple[Any, ...]) -> None:
        nodes = jax.tree.leaves_with_path(
            tree, is_leaf=lambda node: isinstance(node, ClipState)
        )
        for path, node in nodes:
            if not isinstance(node, ClipState):
                continue
            path = (*above, *path)
            # States of several terms or constraints stand in dicts by their names.
            owner = [
                str(key.key) if isinstance(key, jax.tree_util.DictKey) else "the loss"
                for key in path
                if isinstance(key, jax.tree_util.DictKey)
                or key == jax.tree_util.GetAttrKey("loss")
            ]
            for name, count in node.fired.items():
                label = ": ".join([name, *owner])
                # Of indexed multipliers there is one for each sample.
                found[label] = jnp.sum(count) + found.get(label, 0)
            collect(node.memory, path)

    collect(states, ())
    return found


def counted(
    name: str, clip: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """Lets ``info.clipped`` say at which steps a clip changed what it was given.

    The clips of jaxcon are counted by themselves; those of optax, wrapped in this. In
    `fit`'s history, ``result.history.clipped[name].mean()`` is how often it fired.

    Args:
        name: what it is called there; in a dual transform, "dual " before it.
        clip: any optax transform that returns what it is given where it has nothing to do.

    Returns:
        The same transform.

    Raises:
        TypeError: `clip` is no optax transform.

    Example:
        >>> clip = counted("global norm", optax.clip_by_global_norm(1.0))
        >>> _, state = clip.update(jnp.array([0.0, 2.0]), clip.init(jnp.zeros(2)))
        >>> print(fired(state))
        {'global norm': Array(1, dtype=int32)}
    """
    inner = as_transform("clip", clip)

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        after, memory = inner.update(updates, state.memory, params, **extra)
        changed = [
            jnp.any((new != old) & ~(jnp.isnan(new) & jnp.isnan(old)))
            for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(updates))
        ]
        flag = jnp.any(jnp.stack(changed)) if changed else jnp.array(False)
        return after, count_on(state, memory, flag)

    return optax.GradientTransformationExtraArgs(
        lambda params: never(name, inner.init(params)), update
    )


def _by_norm(
    name: str,
    begin: Callable[[jax.Array], Any],
    limit: Callable[..., tuple[jax.Array, Any]],
) -> optax.GradientTransformationExtraArgs:
    """A clip of the global norm to a limit that depends on past norms.

    Args:
        name: what it is counted as.
        begin: zero of the norm's dtype -> memory.
        limit: (norm, memory) -> the largest norm that may pass, and the memory if the
            norm is finite.

    Returns:
        The transform.
    """

    def init(params: Any) -> Any:
        return never(name, begin(jnp.zeros((), precision(params))))

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        del params, extra
        size = norm(updates)
        highest, after = limit(size, state.memory)
        # One infinite norm would be remembered for ever; and a norm of zero, as of a
        # constraint that has not been active yet, says nothing of those to come.
        memory = remembered(after, state.memory, jnp.isfinite(size) & (size > 0))
        # A norm that is NaN is above nothing, and goes on to who looks for it.
        above = size > highest
        factor = jnp.where(above, highest / size, 1.0)
        updates = jax.tree.map(lambda u: (u * factor).astype(u.dtype), updates)
        return updates, count_on(state, memory, above)

    return optax.GradientTransformationExtraArgs(init, update)


class PercentileMemory(NamedTuple):
    """What `clip_by_percentile` remembers.

    Attributes:
        threshold: C, the running percentile, ().
        begun: whether there was a norm to begin with, boolean ().
    """

    threshold: jax.Array
    begun: jax.Array


def clip_by_percentile(
    percentile: float = 10.0, rate: float = 0.05
) -> optax.GradientTransformationExtraArgs:
    r"""Clips the global norm to a running percentile of the norms before it.

    .. math::
        g \leftarrow g \min\left(1, \frac{C}{\|g\|}\right), \qquad
        \log C \leftarrow \log C - \eta \left( 1_{\|g\| \le C} - \tfrac{p}{100} \right)

    AutoClip's rule, with one number in place of the whole history: C falls where a norm
    is below it and rises where one is above, until p percent of them are below. Over T
    steps the share that passes unclipped is :math:`p / 100 - \log(C_T / C_0) / \eta T`,
    whatever the norms were. C begins at the first norm, which passes; it forgets, so it
    follows norms that shrink as training goes on, at most by the factor
    :math:`e^{-\eta}` a step. Norms of zero are passed over.

    Args:
        percentile: p, in (0, 100): how many of 100 gradients are to pass unclipped.
        rate: eta > 0, of the logarithm of C.

    Returns:
        A transform of any gradients, counted as "percentile".

    Raises:
        ValueError: the percentile is not in (0, 100), or the rate not positive.

    References:
        Seetharaman et al., AutoClip: Adaptive Gradient Clipping for Source Separation
        Networks (2020), which keeps all norms; Andrew et al., Differentially Private
        Learning with Adaptive Clipping (2021), section 2.1, for the update.

    Example:
        >>> clip = clip_by_percentile(50.0)
        >>> state = clip.init(jnp.zeros(2))
        >>> _, state = clip.update(jnp.array([3.0, 4.0]), state)
        >>> print(clip.update(jnp.array([0.0, 50.0]), state)[0].round(2))   # C = 5 e^-0.025
        [0.   4.88]
    """
    check_number("percentile", percentile, "in (0, 100)", lambda p: 0 < p < 100)
    check_number("rate", rate, "> 0", lambda rate: rate > 0)

    def limit(size: jax.Array, memory: Any) -> tuple[jax.Array, Any]:
        highest = jnp.where(memory.begun, memory.threshold, size)
        move = jnp.exp(-rate * ((size <= highest) - percentile / 100))
        # A threshold of zero never would rise.
        range_ = jnp.finfo(highest.dtype)
        after = jnp.clip(highest * move, range_.tiny, range_.max)
        return highest, PercentileMemory(after, jnp.array(True))

    return _by_norm(
        "percentile", lambda zero: PercentileMemory(zero, jnp.array(False)), limit
    )


class ZScoreMemory(NamedTuple):
    """What `clip_by_z_score` remembers.

    Attributes:
        mean: of past norms, ().
        variance: of past norms, ().
        seen: how many there were, up to those to begin with, int32 ().
    """

    mean: jax.Array
    variance: jax.Array
    seen: jax.Array


def clip_by_z_score(
    limit: float = 2.5, decay: float = 0.97, warmup: int = 25
) -> optax.GradientTransformationExtraArgs:
    r"""Clips the global norm where it is an outlier among the norms before it.

    .. math::
        z = \frac{\|g\| - \mu}{\sigma}, \qquad
        \|g\| \leftarrow \mu + \frac{z_0^2}{z}\, \sigma \quad \text{where } z > z_0

    ZClip: the farther out, the lower it is clipped to. What is left of a norm then enters
    the running mean, :math:`\mu \leftarrow \alpha \mu + (1 - \alpha) \|g\|`, and the
    variance likewise about the new mean. The first norms, of which both are taken,
    pass as they are; norms of zero are passed over. :math:`\sigma` counts as a tenth of
    :math:`\mu` at least: where norms were all alike, without noise, none that differs
    is an outlier yet.

    Args:
        limit: z0 > 0, in standard deviations.
        decay: alpha, how much of the past is kept, in (0, 1).
        warmup: how many norms to begin with, at least 2.

    Returns:
        A transform of any gradients, counted as "z-score".

    Raises:
        ValueError: the limit is not positive, the decay not in (0, 1), or there are fewer
            than two norms to begin with.

    References:
        Kumar, Owen, Chowdhury and Güra, ZClip: Adaptive Spike Mitigation for LLM
        Pre-Training (2025).

    Example:
        >>> clip = clip_by_z_score(warmup=2)
        >>> state = clip.init(jnp.zeros(1))
        >>> for norm in (1.0, 3.0):                                   # mean 2, deviation 1
        ...     _, state = clip.update(jnp.array([norm]), state)
        >>> print(clip.update(jnp.array([12.0]), state)[0])           # z = 10
        [2.625]
    """
    check_number("limit", limit, "> 0", lambda limit: limit > 0)
    check_number("decay", decay, "in (0, 1)", lambda decay: 0 < decay < 1)
    check_number("warmup", warmup, "at least 2", lambda warmup: warmup >= 2)

    def highest(size: jax.Array, memory: Any) -> tuple[jax.Array, Any]:
        mean, variance, seen = memory
        deviation = jnp.maximum(jnp.sqrt(variance), mean / 10)
        ready = seen >= warmup
        z = (size - mean) / jnp.where(ready, deviation, 1)
        outlier = ready & (z > limit)
        most = jnp.where(outlier, mean + limit**2 / z * deviation, jnp.inf)
        left = jnp.minimum(size, most)
        # Of the first norms, each has the same share in mean and variance.
        share = jnp.where(ready, 1 - decay, 1 / (seen + 1.0))
        moved = mean + share * (left - mean)
        about = jnp.where(ready, (left - moved) ** 2, (left - mean) * (left - moved))
        spread = (1 - share) * variance + share * about
        return most, ZScoreMemory(moved, spread, jnp.minimum(seen + 1, warmup))

    return _by_norm(
        "z-score",
        lambda zero: ZScoreMemory(zero, zero, jnp.zeros((), jnp.int32)),
        highest,
    )


def bound_constraints(ratio: float = 2.0) -> optax.GradientTransformationExtraArgs:
    r"""Keeps the gradient of all constraints below a multiple of the loss's.

    .. math::
        g_c \leftarrow g_c \min\left(1, \frac{\kappa \|\nabla f\|}{\|g_c\|}\right), \qquad
        g_c = \sum_i \lambda_i \nabla g_i

    for the ``per_term=`` of an order: constraints that explode cannot make the parameters
    forget the loss. At a KKT point the two parts have equal norms: with
    :math:`\kappa > 1` it is kept; with less, training ends elsewhere (see
    `jaxcon.transforms`). A point that violates a constraint is not left where
    :math:`\nabla f = 0`: the slower, the nearer to it training begins.

    Args:
        ratio: kappa > 0; above 1 unless a constraint may be given up.

    Returns:
        A transform over `GradientTerms` of gradients, counted as "constraints".

    Raises:
        ValueError: the ratio is not positive.

    Example:
        >>> import jaxcon as jc
        >>> bound = jc.bound_constraints()
        >>> h = jc.Constraints({"h": jnp.array([0.0, 9.0])})
        >>> gradients = jc.GradientTerms(jnp.array([1.0, 0.0]), h)
        >>> bounded, _ = bound.update(gradients, bound.init(gradients))
        >>> print(bounded.constraints.equality["h"])
        [0. 2.]
    """
    check_number("ratio", ratio, "> 0", lambda ratio: ratio > 0)
    name = "constraints"

    def factors(
        updates: GradientTerms, state: Any, values: Any
    ) -> tuple[jax.Array, Any]:
        del values
        loss, *parts = updates.entries()
        most = ratio * norm(loss)
        theirs = norm(total(parts)) if parts else jnp.zeros_like(most)
        above = theirs > most
        factor = jnp.where(above, most / theirs, 1.0)
        found = [jnp.ones_like(factor), *[factor] * len(parts)]
        return jnp.stack(found), count_on(state, (), above)

    return by_factors(lambda *_: never(name, ()), factors)


def clip_residual(constraint: Constraint, limit: float) -> Constraint:
    r"""A constraint whose residual is clipped, and whose gradient is not.

    .. math::
        \tilde h = \min(\max(h, -c), c), \qquad \nabla_\theta \tilde h = \nabla_\theta h

    What one outlying point adds to its multiplier, and to the gradient under a penalty, is
    bounded, yet it is still pulled: the influence of Huber's price
    (`penalties.huber` is that for a loss). Where the constraint is met, and c around it,
    nothing changes. Violations are reported as clipped.

    Args:
        constraint: (params, batch) -> residual, () or (n,).
        limit: c > 0, in the residual's units.

    Returns:
        A constraint; it still shares its pass through a network with others of
        `jaxcon.shapes`.

    Raises:
        ValueError: the limit is not positive.

    References:
        Huber, Robust Estimation of a Location Parameter (1964), for the influence.

    Example:
        >>> import jaxcon as jc
        >>> near = jc.clip_residual(lambda x, _: x - 1.0, limit=2.0)
        >>> print(near(9.0, None), jax.grad(near)(9.0, None))
        2.0 1.0
    """
    check_number("limit", limit, "> 0", lambda limit: limit > 0)

    def change(residual: jax.Array) -> jax.Array:
        # The difference carries the gradient, and is exactly zero.
        clipped = jax.lax.stop_gradient(jnp.clip(residual, -limit, limit))
        return clipped + (residual - jax.lax.stop_gradient(residual))

    if isinstance(constraint, Grouped):
        return constraint.map(change)
    return lambda params, batch: change(constraint(params, batch))


def clip_each_example(
    loss: Callable[[Any, Any], jax.Array], max_norm: float
) -> Callable[[Any, Any], jax.Array]:
    r"""A mean loss whose gradient is the mean of each example's, clipped.

    .. math::
        \nabla \tilde f = \frac{1}{n} \sum_i \nabla f_i
            \min\left(1, \frac{c}{\|\nabla f_i\|}\right)

    by `optax.per_example_global_norm_clip`: no example moves the parameters by more than
    c / n. It needs all n gradients at once, n times the memory of the parameters, and it
    moves the answer (see `jaxcon.transforms`).

    Args:
        loss: (params, one example) -> ().
        max_norm: c > 0, in loss units per parameter unit.

    Returns:
        A loss (params, batch) -> () whose value is the plain mean; the batch is a pytree
        of arrays with n examples each.

    Raises:
        ValueError: the norm is not positive.

    References:
        Abadi et al., Deep Learning with Differential Privacy (2016), Algorithm 1, without
        the noise.

    Example:
        >>> import jaxcon as jc
        >>> loss = jc.clip_each_example(lambda p, y: 0.5 * (p - y) ** 2, max_norm=1.0)
        >>> print(jax.grad(loss)(0.0, jnp.array([0.5, 90.0])))         # -(0.5 + 1) / 2
        -0.75
    """
    check_number("max_norm", max_norm, "> 0", lambda norm: norm > 0)

    def mean(params: Any, batch: Any) -> jax.Array:
        each = jax.vmap(jax.value_and_grad(loss), in_axes=(None, 0))
        values, gradients = each(jax.lax.stop_gradient(params), batch)
        leaves, structure = jax.tree.flatten(gradients)
        sums: Any = optax.per_example_global_norm_clip(leaves, max_norm)[0]
        slope = structure.unflatten([leaf / len(values) for leaf in sums])
        # Linear in the parameters: zero here, with the slope that is wanted.
        moved = jax.tree.map(lambda p: p - jax.lax.stop_gradient(p), params)
        return jnp.mean(values) + optax.tree.vdot(slope, moved)

    return mean
