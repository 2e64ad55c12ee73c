"""What `calibrate` found, as a record that can be written."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fastlam.result_json import as_json, fields_of


@dataclass(frozen=True, eq=False)
class CalibrationResult:
    """What `calibrate` found.

    Attributes
    ----------
    estimates : dict of float or None
        By name of what was learned; None for a parameter that the targets do not identify.
    stderr : dict of float
        Standard errors, roots of the diagonal of `s**2 (J^T J)^-1`, with s**2 the sum of squared residuals over
        (times - rank): the residuals taken as independent and of one variance. Infinite for a parameter that is not
        identified; NaN where there are no more times than parameters.
    monte_carlo_stderr : dict of float
        What the estimates would spread with other paths; infinite for a parameter that is not identified. It comes on
        top of `stderr` where the targets are not themselves means over these paths.
    identified : bool
        Whether the targets, as far as so many paths can tell, identify all that was learned.
    unidentified : list of str
        What they do not, in words: a sentence for each direction in which the parameters move and k does not.
    rank, condition : int, float
        How many directions are identified; and the condition of the Jacobian, its columns scaled to length 1.
    start, fixed : dict of float
        Where the learned parameters began, and the values of the others, lam among the ones or the others.
    loss, validation_loss : float
        Mean squared residual on the training paths, `[0, n_paths)` of the seed's family, and on `[n_paths, 2 n_paths)`.
    converged, iterations
        Whether the search ended where the parameters can do no more about the residuals, and its accepted steps.
    process, n_paths, seed, antithetic, dtype
        What it ran with; `process` as text, with its first parameters.
    times, targets, fitted, residuals : arrays, shape (m,), float64
        t, k, the model on the training paths, and k less the model.
    seconds : dict
        Spent on `search`, and on `check`: identification, errors and validation.

    Examples
    --------
    >>> import fastlam, json, numpy as np
    >>> times = np.arange(1, 51) / 50
    >>> k = 0.25 * (1 + 0.3**2 * times)
    >>> process = fastlam.Brownian(sigma=1.0, x0=1.0)
    >>> result = fastlam.calibrate(process, times, k, learn=("lam", "sigma"), antithetic=True)
    >>> result.identified, result.rank, result.fixed
    (True, 2, {'mu': 0.0, 'x0': 1.0})
    >>> {name: round(value, 2) for name, value in result.estimates.items()}
    {'lam': 0.25, 'sigma': 0.3}
    >>> json.loads(result.to_json())["estimates"] == result.estimates
    True
    """

    estimates: dict[str, float | None]
    stderr: dict[str, float]
    monte_carlo_stderr: dict[str, float]
    identified: bool
    unidentified: list[str]
    rank: int
    condition: float
    start: dict[str, float]
    fixed: dict[str, float]
    loss: float
    validation_loss: float
    converged: bool
    iterations: int
    process: str
    n_paths: int
    seed: int
    antithetic: bool
    dtype: str
    times: np.ndarray = field(repr=False)
    targets: np.ndarray = field(repr=False)
    fitted: np.ndarray = field(repr=False)
    residuals: np.ndarray = field(repr=False)
    seconds: dict[str, float]

    def to_json(self) -> str:
        """All fields by their names, as JSON; what is not finite becomes null."""
        return as_json(fields_of(self))
