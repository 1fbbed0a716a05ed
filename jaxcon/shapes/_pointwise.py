"""Residual at each of many points, from one pass through a network."""

import dataclasses
import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcon import derivatives
from jaxcon._checks import check_array, check_function, check_real, described, inside
from jaxcon.constraints import batch_part
from jaxcon.derivatives import Partial

Apply = Callable[[Any, jax.Array], jax.Array]
APPLY = "(params, x (d,)) -> output"


@dataclasses.dataclass(frozen=True, eq=False)
class Pointwise:
    """Residual at each point, of a network's value and derivatives there.

    Constraints of equal ``apply`` and ``on`` share one evaluation.

    Attributes:
        apply: (params, x (d,)) -> () or (m,).
        on: the points where it is checked (see `jaxcon.shapes`).
        wanted: the quantities it reads, e.g. ``(Value(), Partial((0, 0)))``.
        residual: (x (d,), *quantities wanted) -> the residual at one point.
        change: applied at last to the residuals of all points.
        statement: the claim that the residual is at most zero, in symbols.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> from jaxcon.derivatives import Partial, Value
        >>> grows = jc.shapes.Pointwise(                     # f - f' <= 0
        ...     lambda p, x: jnp.exp(p * x[0]),
        ...     on=None,
        ...     wanted=(Value(), Partial(0)),
        ...     residual=lambda x, f, slope: f - slope,
        ... )
        >>> print(grows(2.0, jnp.zeros((1, 1))))
        [-1.]
    """

    apply: Apply
    on: Any
    wanted: tuple[Any, ...]
    residual: Callable[..., jax.Array]
    change: Callable[[jax.Array], jax.Array] = lambda residual: residual
    statement: str = "r(x) <= 0"

    def __post_init__(self) -> None:
        """Refuses functions that are none, and what is no tuple of quantities."""
        check_function("Pointwise: apply", self.apply, APPLY)
        check_function("Pointwise: residual", self.residual, "(x, *wanted) -> residual")
        check_function("Pointwise: change", self.change, "of all residuals")
        if type(self.wanted) is not tuple or not self.wanted:
            raise TypeError(
                f"Pointwise got wanted={described(self.wanted)}; pass a tuple of "
                "quantities, e.g. (Value(),)"
            )
        for spec in self.wanted:
            derivatives.derivatives(self.apply, spec)

    def __call__(self, params: Any, batch: Any) -> jax.Array:
        """Evaluates the residual at all points."""
        return self.evaluate_jointly([self], params, batch)[0]

    @property
    def key(self) -> Hashable:
        """Key that is equal for constraints that can be evaluated together."""
        # Objects are compared by identity: a user's class may define equality otherwise.
        # A bound method is another object at each access.
        apply: Any = self.apply
        if inspect.ismethod(apply):
            identity = (id(apply.__self__), id(apply.__func__))
        else:
            identity = (id(apply),)
        return identity, self.on if isinstance(self.on, str) else id(self.on)

    def evaluate_jointly(
        self, others: Sequence["Pointwise"], params: Any, batch: Any
    ) -> list[jax.Array]:
        """Evaluates the residuals of several constraints in one pass of the network."""
        points = many(batch_part(self.on, batch))
        # The key holds the type: empty requests of two kinds are equal tuples.
        requested = {_key(spec): spec for one in others for spec in one.wanted}

        def network(x: jax.Array) -> jax.Array:
            with inside("apply"):
                y = self.apply(params, x)
            return check_real("apply returned", y, "one array of floats for one x")

        read = derivatives.derivatives(network, *requested.values())

        def at(x: jax.Array) -> list[jax.Array]:
            found = dict(zip(requested, read(x)))
            return [
                check_real(
                    "residual returned",
                    one.residual(x, *(found[_key(spec)] for spec in one.wanted)),
                    "one array of floats for one x",
                )
                for one in others
            ]

        residuals = derivatives.tiled_vmap(at)(points)
        return [one.change(r) for one, r in zip(others, residuals)]

    def map(self, change: Callable[[jax.Array], jax.Array]) -> "Pointwise":
        """Returns the constraint with changed residuals, e.g. shifted by a margin."""
        return dataclasses.replace(
            self,
            change=lambda r: change(self.change(r)),
            statement=f"{self.statement} (residual changed, e.g. by a margin)",
        )


def _key(spec: Any) -> Hashable:
    """Returns a key that is equal for equal specifications of one type."""
    # The type is part of the key, because empty tuples are all equal.
    parts = tuple(spec)
    if isinstance(spec, Partial) and not isinstance(spec.inputs, tuple):
        parts = ((spec.inputs,),)
    try:
        hash(parts)
    except TypeError:  # it holds arrays
        return type(spec), id(spec)
    return type(spec), parts


def many(points: Any) -> jax.Array:
    """Returns the points of a constraint (n, d), or refuses them."""
    points = check_array("constraint points", points, "(n, d)", finite=None)
    if not jnp.issubdtype(points.dtype, jnp.floating):
        raise TypeError(
            f"constraint points must be floating-point numbers, got {points.dtype}"
        )
    return jnp.asarray(points)


def require_shape(name: str, y: jax.Array, form: str) -> None:
    """Refuses what apply returned, or its derivative, of another number of axes."""
    if y.ndim not in {"()": (0,), "(m,)": (1,), "() or (m,)": (0, 1)}[form]:
        hint = "; write apply(params, x)[0]" if form == "()" and y.shape == (1,) else ""
        raise ValueError(
            f"{name}: apply returned shape {y.shape} for one x; it must return {form}"
            f"{hint}"
        )


def minus(name: str, y: jax.Array, target: Any, x: jax.Array) -> jax.Array:
    """Returns the output less a target, a number or a function of x."""
    if callable(target):
        given = check_array(
            f"{name}: the target", target(x), "of any shape", finite=None
        )
        allowed = (y.shape,)
    else:
        # A constant of any other shape would broadcast: (n,) targets to (n, n) residuals.
        given, allowed = target, (y.shape, ())
    if jnp.shape(given) not in allowed:
        raise ValueError(
            f"{name}: the target has shape {jnp.shape(given)} but the output {y.shape}; "
            "both are of one example"
        )
    return y - jnp.asarray(given)
