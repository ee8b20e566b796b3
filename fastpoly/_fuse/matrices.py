"""Which elimination an operation of `dense` is."""

from __future__ import annotations

from .eliminations import Elimination
from .pivoting import Permutation, Triangles
from .reflections import Reflected, Reflectors
from .rotations import Diagonal, RightAngles
from .triangles import Solution, UpperFactor

ELIMINATIONS: dict[str, type[Elimination]] = {
    "fastpoly::upper_factor": UpperFactor,
    "fastpoly::solved": Solution,
    "fastpoly::triangles": Triangles,
    "fastpoly::permutation": Permutation,
    "fastpoly::reflectors": Reflectors,
    "fastpoly::reflected": Reflected,
    "fastpoly::diagonalized": Diagonal,
    "fastpoly::at_right_angles": RightAngles,
}
