"""What `fit` warns of: a learning rate that may explode, training that diverged, and lam that has not settled."""

from __future__ import annotations

import math
import warnings

from fastlam.descent import PLAIN, times_power
from fastlam.fit_result import FitResult

UNSETTLED = 1e-3  # of the closed form: how far from it training may end without a word
DIVERGED = 10  # times as far from it as at the start, or as lam is large: a hundredfold in the loss


def unsettled(result: FitResult) -> str | None:
    """Where lam ended, if further from the closed form than rounding and noise explain, and what may bring it there."""
    tolerance = max(UNSETTLED * abs(result.closed_form), 3 * result.stderr)  # NaN: the first
    if not (tolerance or UNSETTLED * abs(result.lam0)) < abs(result.difference) < math.inf:
        return None
    epoch = result.history["epoch"][-1]
    remedies = ["more epochs", *_other_steps(result), "or larger batches if lam jumps from epoch to epoch"]
    return (
        f"not settled by epoch {epoch}: lam = {result.lam:.6g} is {result.difference:+.2g} from the closed form; "
        f"take {', '.join(remedies)}"
    )


def _other_steps(result: FitResult) -> list[str]:
    """Which optimizer or learning rate would be nearer."""
    if result.optimizer not in {plain.__name__ for plain in PLAIN}:
        return ["the optimizer sgd"]
    if result.lr > result.max_stable_lr:
        return [f"a smaller lr ({result.max_stable_lr / 2:.4g} is stable)"]
    return [f"a larger lr ({result.max_stable_lr / 2:.4g} is stable)"] if result.lr < result.max_stable_lr / 2 else []


def warn_if_unstable(lr: float, limit: float, unit: int, stacklevel: int) -> None:
    """Before the first step: of a learning rate above the limit, both over 2**unit."""
    if lr > limit:
        lr, limit = times_power(lr, unit), times_power(limit, unit)
        warnings.warn(
            f"fit: lr = {lr:.4g} is above {limit:.4g}, the largest that gradient descent can take on every batch: "
            f'the training may explode. lr = {limit / 2:.4g} would do, as would lr="auto"',
            stacklevel=stacklevel,
        )


def warn_if_diverged_or_unsettled(result: FitResult, size: float, automatic: bool, stacklevel: int) -> None:
    """After the last: of lam far from the closed form; `size` is that of lam, `automatic` says that lr was "auto"."""
    lam, best, epoch = result.lam, result.closed_form, result.history["epoch"][-1]
    away = [abs(value - best) for value in (result.lam0, *result.history["lam"])]
    if not math.isfinite(lam) or (away[-1] > DIVERGED * max(away[0], size) and away[-1] == max(away)):
        warnings.warn(
            f"fit: training diverged by epoch {epoch}: lam = {lam:.4g}, where the closed form is {best:.4g}; "
            f'take a smaller lr than {result.lr:.4g}, or lr="auto"',
            stacklevel=stacklevel,
        )
    elif automatic and (sentence := unsettled(result)):
        warnings.warn(f"fit: {sentence}", stacklevel=stacklevel)
