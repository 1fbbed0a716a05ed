"""All lanes by name."""

from benchmarks.versus._classical import CLASSICAL
from benchmarks.versus._default import DEFAULT
from benchmarks.versus._hand_lanes import HAND_ALM, HAND_PENALTY
from benchmarks.versus._physics import PHYSICS
from benchmarks.versus._torch_lanes import TORCH

LANES = {
    lane.name: lane
    for lane in (DEFAULT, HAND_ALM, HAND_PENALTY, *TORCH, *PHYSICS, *CLASSICAL)
}
