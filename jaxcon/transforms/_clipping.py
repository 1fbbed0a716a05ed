"""Gradient and residual clipping, and counts of its activations."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon._checks import (
    check_function,
    check_number,
    check_real,
    check_type,
    inside,
)
from jaxcon._dtypes import largest
from jaxcon.constraints import Constraint, mapped
from jaxcon.transforms._entries import as_transform
from jaxcon.transforms._terms import (
    GradientTerms,
    by_factors,
    norm,
    precision,
    remembered,
    total,
)


class ClipState(NamedTuple):
    """State of a counted clip.

    Attributes:
        memory: of the clip itself.
        fired: the number of calls at which it changed its input, int32 () by its name.
    """

    memory: Any
    fired: dict[str, jax.Array]


def never(name: str, memory: Any) -> ClipState:
    """Returns the state of a clip that has not fired yet.

    Args:
        name: of its count.
        memory: of the clip.

    Returns:
        The state.
    """
    return ClipState(memory, {name: jnp.zeros((), jnp.int32)})


def count_on(state: ClipState, memory: Any, flag: jax.Array) -> ClipState:
    """Adds one more call to the state of a clip.

    Args:
        state: before it.
        memory: of the clip, after it.
        flag: whether it changed its input, boolean ().

    Returns:
        The state.
    """
    return ClipState(memory, {name: n + flag for name, n in state.fired.items()})


def fired(states: Any) -> dict[str, jax.Array]:
    """Counts the calls at which clips changed their inputs.

    Args:
        states: of transforms, any pytree.

    Returns:
        A number of shape () by the clip's name, followed by the constraint's or "the loss"
        where each of them has one: "global norm", "global norm: circle".
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
    """Counts in ``info.clipped`` the steps at which a clip changed its input.

    The clips of jaxcon are counted without it; those of optax are counted if they are
    wrapped in it. In `fit`'s history, ``result.history.clipped[name].mean()`` is the share
    of steps at which the clip fired.

    Args:
        name: of the clip there; in a dual transform, "dual " before it.
        clip: any optax transform that returns its input where it does not clip.

    Returns:
        `clip`, with its count in its state.

    Raises:
        TypeError: `clip` is no optax transform, or `name` no text.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> clip = jc.counted("global norm", optax.clip_by_global_norm(1.0))
        >>> _, state = clip.update(jnp.array([0.0, 2.0]), clip.init(jnp.zeros(2)))
        >>> print(state.fired)
        {'global norm': Array(1, dtype=int32)}
    """
    check_type("name", name, str, "text")
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
    """Makes a clip of the global norm to a limit that depends on past norms.

    Args:
        name: of its count.
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
        # One infinite norm would stay in the memory for ever; and a norm of zero, as of a
        # constraint that has not been active yet, does not predict later norms.
        memory = remembered(after, state.memory, jnp.isfinite(size) & (size > 0))
        # A norm that is NaN exceeds no limit, and passes on to the check for NaN.
        above = size > highest
        factor = jnp.where(above, highest / size, 1.0)
        updates = jax.tree.map(lambda u: (u * factor).astype(u.dtype), updates)
        return updates, count_on(state, memory, above)

    return optax.GradientTransformationExtraArgs(init, update)


class PercentileMemory(NamedTuple):
    """Memory of `clip_by_percentile`.

    Attributes:
        threshold: C, the running percentile, ().
        begun: whether there was a norm before, boolean ().
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

    This is AutoClip's rule, with one number in place of the whole history. C falls where a
    norm is below it and rises where one is above, until p percent of them are below. Over
    T steps the share that passes unclipped is :math:`p / 100 - \log(C_T / C_0) / \eta T`
    for any norms. C begins at the first norm, which passes. It follows norms that shrink
    during training, at most by the factor :math:`e^{-\eta}` a step. Norms of zero are
    ignored.

    Args:
        percentile: p, in (0, 100): the percentage of gradients that pass unclipped.
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
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> clip = jc.clip_by_percentile(50.0)
        >>> state = clip.init(jnp.zeros(2))
        >>> _, state = clip.update(jnp.array([3.0, 4.0]), state)
        >>> print(clip.update(jnp.array([0.0, 50.0]), state)[0].round(2))   # C = 5 e^-0.025
        [0.   4.88]
    """
    check_number("percentile", percentile, above=0, below=100)
    check_number("rate", rate, above=0)

    def limit(size: jax.Array, memory: Any) -> tuple[jax.Array, Any]:
        highest = jnp.where(memory.begun, memory.threshold, size)
        move = jnp.exp(-rate * ((size <= highest) - percentile / 100))
        # A threshold of zero would never rise.
        range_ = jnp.finfo(highest.dtype)
        after = jnp.clip(highest * move, range_.tiny, range_.max)
        return highest, PercentileMemory(after, jnp.array(True))

    return _by_norm(
        "percentile", lambda zero: PercentileMemory(zero, jnp.array(False)), limit
    )


class ZScoreMemory(NamedTuple):
    """Memory of `clip_by_z_score`.

    Attributes:
        mean: of past norms, ().
        variance: of past norms, ().
        seen: the number of past norms, at most the warm-up's, int32 ().
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

    This is ZClip: the farther out a norm is, the lower is its limit. The clipped norm then
    enters the running mean, :math:`\mu \leftarrow \alpha \mu + (1 - \alpha) \|g\|`, and,
    with the same weight, the variance about the new mean. The first norms, from which both
    are computed, pass unclipped; norms of zero are ignored. :math:`\sigma` is at least a
    tenth of :math:`\mu`: if the norms were all equal, without noise, a norm that differs is
    no outlier yet.

    Args:
        limit: z0 > 0, in standard deviations.
        decay: alpha, the weight of the past, in (0, 1).
        warmup: the number of first norms, at least 2.

    Returns:
        A transform of any gradients, counted as "z-score".

    Raises:
        ValueError: the limit is not positive, the decay not in (0, 1), or the warm-up has
            fewer than two norms.

    References:
        Kumar, Owen, Chowdhury and Güra, ZClip: Adaptive Spike Mitigation for LLM
        Pre-Training (2025).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> clip = jc.clip_by_z_score(warmup=2)
        >>> state = clip.init(jnp.zeros(1))
        >>> for norm in (1.0, 3.0):                                   # mean 2, deviation 1
        ...     _, state = clip.update(jnp.array([norm]), state)
        >>> print(clip.update(jnp.array([12.0]), state)[0])           # z = 10
        [2.625]
    """
    check_number("limit", limit, above=0, finite=False)
    check_number("decay", decay, above=0, below=1)
    check_number("warmup", warmup, least=2, whole=True)

    def highest(size: jax.Array, memory: Any) -> tuple[jax.Array, Any]:
        mean, variance, seen = memory
        deviation = jnp.maximum(jnp.sqrt(variance), mean / 10)
        ready = seen >= warmup
        z = (size - mean) / jnp.where(ready, deviation, 1)
        outlier = ready & (z > limit)
        most = mean + limit**2 / z * deviation
        most = jnp.where(outlier, most, largest(size.dtype))
        left = jnp.minimum(size, most)
        # The first norms have equal shares in mean and variance.
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
    r"""Clips the gradient of all constraints to a multiple of the loss's.

    .. math::
        g_c \leftarrow g_c \min\left(1, \frac{\kappa \|\nabla f\|}{\|g_c\|}\right), \qquad
        g_c = \sum_i \lambda_i \nabla g_i

    for the ``per_term=`` of an order: the gradients of constraints cannot dominate the
    loss's, however large they become. At a KKT point the two parts have equal norms: with
    :math:`\kappa > 1` the point is kept; with less, training ends elsewhere (see
    `jaxcon.transforms`). Training does not leave an infeasible point with
    :math:`\nabla f = 0`, and it leaves its neighbourhood the more slowly, the nearer to it
    it begins.

    Args:
        ratio: kappa > 0; above 1 unless a constraint may stay violated.

    Returns:
        A transform over `GradientTerms` of gradients, counted as "constraints".

    Raises:
        ValueError: the ratio is not positive.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> bound = jc.bound_constraints()
        >>> h = jc.Constraints({"h": jnp.array([0.0, 9.0])})
        >>> gradients = jc.GradientTerms(jnp.array([1.0, 0.0]), h)
        >>> bounded, _ = bound.update(gradients, bound.init(gradients))
        >>> print(bounded.constraints.equality["h"])
        [0. 2.]
    """
    check_number("ratio", ratio, above=0, finite=False)
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
    r"""Clips the residual of a constraint and leaves its gradient unchanged.

    .. math::
        \tilde h = \min(\max(h, -c), c), \qquad \nabla_\theta \tilde h = \nabla_\theta h

    The part of one outlying point in its multiplier, and in the gradient under a penalty,
    is bounded but not zero: this is the influence function of Huber's penalty
    (`penalties.huber` has it for a loss). Residuals of size up to c do not change.
    Violations are reported as clipped.

    Args:
        constraint: (params, batch) -> residual, () or (n,).
        limit: c > 0, in the residual's units.

    Returns:
        A constraint; it still shares its pass through a network with others of
        `jaxcon.shapes`.

    Raises:
        TypeError: `constraint` is no function; when traced, its residual is not real.
        ValueError: the limit is not positive.

    References:
        Huber, Robust Estimation of a Location Parameter (1964), for the influence.

    Example:
        >>> import jax, jaxcon as jc
        >>> near = jc.clip_residual(lambda x, _: x - 1.0, limit=2.0)
        >>> print(near(9.0, None), jax.grad(near)(9.0, None))
        2.0 1.0
    """
    check_function("constraint", constraint, "(params, batch) -> residual")
    check_number("limit", limit, above=0, finite=False)

    def change(residual: jax.Array) -> jax.Array:
        # The difference carries the gradient, and is exactly zero.
        clipped = jax.lax.stop_gradient(jnp.clip(residual, -limit, limit))
        return clipped + (residual - jax.lax.stop_gradient(residual))

    return mapped("clip_residual", constraint, change)


def clip_each_example(
    loss: Callable[[Any, Any], jax.Array], max_norm: float
) -> Callable[[Any, Any], jax.Array]:
    r"""Returns a mean loss whose gradient is the mean of the examples' clipped gradients.

    .. math::
        \nabla \tilde f = \frac{1}{n} \sum_i \nabla f_i
            \min\left(1, \frac{c}{\|\nabla f_i\|}\right)

    by `optax.per_example_global_norm_clip`: no example moves the parameters by more than
    c / n. It needs all n gradients at once, n times the memory of the parameters, and it
    biases the solution (see `jaxcon.transforms`).

    Args:
        loss: (params, one example) -> ().
        max_norm: c > 0, in loss units per parameter unit.

    Returns:
        A loss (params, batch) -> () whose value is the plain mean; the batch is a pytree
        of arrays with n examples each.

    Raises:
        TypeError: `loss` is no function.
        ValueError: the norm is not positive.

    References:
        Abadi et al., Deep Learning with Differential Privacy (2016), Algorithm 1, without
        the noise.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> loss = jc.clip_each_example(lambda p, y: 0.5 * (p - y) ** 2, max_norm=1.0)
        >>> print(jax.grad(loss)(0.0, jnp.array([0.5, 90.0])))         # -(0.5 + 1) / 2
        -0.75
    """
    check_function("loss", loss, "(params, one example) -> ()")
    check_number("max_norm", max_norm, above=0, finite=False)

    def one(params: Any, example: Any) -> jax.Array:
        label = "the loss of clip_each_example"
        with inside(label):
            value = loss(params, example)
        value = check_real(f"{label} returned", value, "one real number ()")
        if value.shape != ():
            raise ValueError(
                f"{label} returned shape {value.shape}; it must be one number () for one "
                "example"
            )
        return value

    def mean(params: Any, batch: Any) -> jax.Array:
        each = jax.vmap(jax.value_and_grad(one), in_axes=(None, 0))
        values, gradients = each(jax.lax.stop_gradient(params), batch)
        leaves, structure = jax.tree.flatten(gradients)
        sums: Any = optax.per_example_global_norm_clip(leaves, max_norm)[0]
        slope = structure.unflatten([leaf / len(values) for leaf in sums])
        # This is linear in the parameters: zero here, with the gradient `slope`.
        moved = jax.tree.map(lambda p: p - jax.lax.stop_gradient(p), params)
        return jnp.mean(values) + optax.tree.vdot(slope, moved)

    return mean
