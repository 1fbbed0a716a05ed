"""Never breaks the rule: networks and outputs that obey for any parameters.

A `Network` is three pure functions, ``init(key)``, ``apply(params, x)`` of one example and
``certificate(params)``; an `Output` is called on one output, ``output(y)``, and a
`Construction` wraps any ``apply(params, x)``. ``network.then(output)`` puts them together
and keeps count of what still holds; ``check`` tries to break it. None needs flax:
``module`` makes an nnx module of a network, ``functional`` a pure function of any module.
"""

from jaxcon.layers._certificates import Certificate as Certificate
from jaxcon.layers._certificates import Gap as Gap
from jaxcon.layers._certificates import Guarantee as Guarantee
from jaxcon.layers._check import Check as Check
from jaxcon.layers._check import check as check
from jaxcon.layers._flax import functional as functional
from jaxcon.layers._flax import module as module
from jaxcon.layers._networks import Construction as Construction
from jaxcon.layers._networks import Network as Network
from jaxcon.layers._networks import Output as Output
from jaxcon.layers._networks import free as free
from jaxcon.layers._networks import output as output
