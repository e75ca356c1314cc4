"""The compiled kernels, where they are: a plan made into a program that runs.

Without a compiler at installation there is no `_kernels` module; everything then runs dense.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Literal

import numpy as np

from sslprune.errors import ArchitectureError
from sslprune.runtime.plan import AverageStep, ConvStep, MaxPoolStep, Place, Plan, SplitStep

VARIABLE = "SSLPRUNE_ISA"
"""Forces a set of instructions: avx512, avx2, neon or scalar."""


Paths = Literal["fastest", "sparse", "short_strips", "dense"] | Sequence[Any]
"""Which way convolutions are computed: the fastest, found out by timing; one way; or each step's of another program."""


def isas() -> tuple[str, ...]:
    """The sets of instructions that this build and machine can run, best first; none without the compiled kernels."""
    module = _module()
    return () if module is None else tuple(module.isas())


def chosen_isa() -> str | None:
    """The set that is used: the best, or what the environment asks for; None without the compiled kernels.

    Raises:
        ArchitectureError: The environment asks for one that cannot run here.
    """
    usable = isas()
    if not usable:
        return None
    wanted = os.environ.get(VARIABLE, usable[0])
    if wanted not in usable:
        raise ArchitectureError(
            f"{VARIABLE}={wanted}: this machine cannot run these instructions.", f"Usable: {', '.join(usable)}."
        )
    return wanted


def program(plan: Plan, *, isa: str | None = None, paths: Paths = "fastest") -> Any:
    """A plan in the kernels' hands.

    Args:
        plan: What to run.
        isa: The set of instructions, one of `isas()`; the chosen one by default.
        paths: Whether convolutions skip zeros ("sparse", or "short_strips" of a plane at once) or not ("dense"), all
            alike or as `ways` of a program of the same steps says; by default what a short timing of each finds to be
            the fastest. The results are the same to the last bit.

    Returns:
        An object with `run(images, results, threads)` (float32 [N, image], [N, result], C order; N a
        multiple of the plan's lanes), `times(images)` (seconds a step) and `ways` (how each step is computed).
    """
    image, result = plan.image, plan.steps[-1].target
    module: Any = _module()
    made = module.Program(plan.floats, _dense(image), _dense(result), plan.lanes, isa or chosen_isa())
    for step in plan.steps:
        source, target = _numbers(step.source), _numbers(step.target)
        match step:
            case ConvStep():
                residual = None if step.residual is None else _numbers(step.residual)
                taps = step.channel, step.starts, step.offsets, step.values, step.bias, step.scale, step.shift
                made.convolve(source, target, residual, *taps, step.activation)
            case SplitStep():
                made.split(source, target, step.stride, [number for phase in step.phases for number in phase])
            case MaxPoolStep():
                made.max_pool(source, target, step.kernel, step.stride, step.padding, step.dilation)
            case AverageStep():
                made.average(source, target)
    if paths == "fastest":
        made.tune(np.random.default_rng(0).standard_normal(_dense(image) * plan.lanes, np.float32))
    else:
        way = getattr(module.Way, paths) if isinstance(paths, str) else None
        made.choose(list(paths) if way is None else [way] * len(plan.steps))
    return made


def _module() -> Any | None:
    try:
        return import_module("sslprune.runtime._kernels")
    except ImportError:
        return None


def _dense(place: Place) -> int:
    return place.channels * place.geometry.plane


def _numbers(place: Place) -> tuple[int, int, int, int, int, int, int]:
    shape = place.geometry
    return place.start, place.channels, shape.height, shape.width, shape.pitch, shape.plane, shape.lanes
