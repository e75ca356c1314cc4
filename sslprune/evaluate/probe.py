"""The linear probe: multinomial logistic regression on standardised features, its penalty chosen on held-out images.

Minimises mean cross entropy + l2 / 2 * |weight|^2 (bias free) by L-BFGS over the whole set, float32. In scikit-learn's
terms C = 1 / (l2 * N). With 50,000 x 1,024 features all of it takes about half a minute on two cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sslprune.errors import DatasetError
from sslprune.evaluate.labelled import check_features, class_names, hold_out, label_tensor
from sslprune.models.head import Probe

__all__ = ["L2_GRID", "Probe", "fit"]

L2_GRID = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)

_LAST_WITHOUT_GAIN = 2
_CONSTANT = 1e-6
_ROWS = 8192
_TOLERANCE = 1e-4
_MOST_PRECONDITIONED = 8192


@torch.inference_mode(False)
def fit(
    train_x: Tensor,
    train_y: Tensor,
    *,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    l2_grid: Sequence[float] = L2_GRID,
    max_iterations: int = 200,
) -> Probe:
    """Fit a linear probe; computed where the features lie, equal input gives an equal probe.

    Mean and deviation are those of the training features (a feature that varies by less than 1e-6 of its size is
    constant and is only centred). A tenth of each class is held out; `l2` walks down the grid, each solution the start
    of the next, until two values in a row bring no better held-out accuracy; the best (the larger at a draw) is fitted
    again to all training images.

    Args:
        train_x: Float [N,D].
        train_y: Integers [N] from 0.
        classes: Class names in label order; None names them "0", "1", ...
        seed: Decides which images are held out.
        l2_grid: Penalties to try, each positive.
        max_iterations: Of the solver, for one value.

    Returns:
        The probe, on the CPU.

    Raises:
        DatasetError: Shapes do not fit, a feature is not finite, there is one class only or no two images of a class,
            or the grid has no positive values.
    """
    x = check_features(train_x)
    y = label_tensor(train_y, len(x))
    names = class_names(y, classes)
    if not l2_grid or not all(0 < l2 < float("inf") for l2 in l2_grid):
        raise DatasetError(f"l2_grid {tuple(l2_grid)} has no positive values only.", "Give for example (1e-1, 1e-3).")
    rest, held = hold_out(y, seed)

    # One copy of the features, held-out rows last: the part to tune on is its beginning.
    order = torch.cat([rest, held]).to(x.device)
    mean, std = _moments(x)
    x = x[order].sub_(mean).div_(std)
    y = y.to(x.device)[order]
    gram = _gram(x)
    chosen = _tune(x, y, len(rest), len(names), sorted(l2_grid, reverse=True), gram, max_iterations)
    solution = _solve(x, y, chosen.l2, chosen.solution, gram, max_iterations)
    return Probe(
        mean=mean.cpu(),
        std=std.cpu(),
        weight=solution.weight.cpu(),
        bias=solution.bias.cpu(),
        l2=chosen.l2,
        classes=names,
        held_out=chosen.accuracy,
        converged=solution.converged,
    )


@dataclass(frozen=True, eq=False)
class _Solution:
    weight: Tensor
    bias: Tensor
    converged: bool


@dataclass(frozen=True, eq=False)
class _Choice:
    l2: float
    accuracy: float
    solution: _Solution


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    # In float64: a constant feature must deviate by nothing, and not by float32's rounding of its mean.
    mean = x.mean(0, dtype=torch.float64)
    square = torch.zeros_like(mean)
    for rows in x.split(_ROWS):
        square += (rows.double() - mean).square_().sum(0)
    std = (square / len(x)).sqrt_()
    size = torch.linalg.vector_norm(x, ord=float("inf"), dim=0).double()
    return mean.float(), torch.where(std > _CONSTANT * size, std, 1.0).float()


def _tune(
    x: Tensor, y: Tensor, tuning: int, classes: int, grid: Sequence[float], gram: Tensor | None, max_iterations: int
) -> _Choice:
    solution = _Solution(x.new_zeros(classes, x.shape[1]), x.new_zeros(classes), True)
    best: _Choice | None = None
    without_gain = 0
    for l2 in grid:
        solution = _solve(x[:tuning], y[:tuning], l2, solution, gram, max_iterations)
        guesses = F.linear(x[tuning:], solution.weight, solution.bias).argmax(1)
        accuracy = float((guesses == y[tuning:]).double().mean() * 100)
        if best is None or accuracy > best.accuracy:
            best, without_gain = _Choice(l2, accuracy, solution), 0
        else:
            without_gain += 1
        if without_gain == _LAST_WITHOUT_GAIN:
            break
    assert best is not None
    return best


def _solve(x: Tensor, y: Tensor, l2: float, start: _Solution, gram: Tensor | None, max_iterations: int) -> _Solution:
    factor = _preconditioner(gram, l2, len(start.bias))
    # The solver sees weight @ factor, for which the objective is nearly round.
    turned = (start.weight if factor is None else start.weight @ factor).clone().requires_grad_()
    bias = start.bias.clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [turned, bias],
        max_iter=max_iterations,
        max_eval=2 * max_iterations,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=_TOLERANCE,
        tolerance_change=1e-6,
    )

    def turned_back() -> Tensor:
        if factor is None:
            return turned
        weight: Tensor = torch.linalg.solve_triangular(factor, turned, upper=False, left=False)
        return weight.contiguous()  # or the product in the backward pass takes seven times as long

    def loss() -> Tensor:
        solver.zero_grad()
        weight = turned_back()
        value = F.cross_entropy(F.linear(x, weight, bias), y) + l2 / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    steps = solver.state[turned]
    converged = steps["n_iter"] < max_iterations and steps["func_evals"] < 2 * max_iterations
    return _Solution(turned_back().detach(), bias.detach(), bool(converged))


def _gram(x: Tensor) -> Tensor | None:
    if x.shape[1] > _MOST_PRECONDITIONED:
        return None
    rows = x[:: max(1, len(x) // _MOST_PRECONDITIONED)]
    gram: Tensor = (rows.T @ rows).double() / len(rows)
    return gram


def _preconditioner(gram: Tensor | None, l2: float, classes: int) -> Tensor | None:
    """The Cholesky factor of the objective's Hessian at equally likely classes, without the coupling between classes.

    It only steers the solver, so a part of the rows will do for `gram`; the minimum is the same with any factor.
    """
    if gram is None:
        return None
    hessian = gram / classes * (1 - 1 / classes)
    # Beyond float32's rounding of the products, so that there always is a factor.
    hessian.diagonal().add_(l2 + 1e-6 * hessian.trace())
    factor: Tensor = torch.linalg.cholesky(hessian)
    return factor.float()
