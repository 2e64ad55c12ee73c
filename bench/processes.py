"""The diffusions and the numbers that benchmarks share."""

from __future__ import annotations

import fastlam

MU, SIGMA, DT = 0.05, 0.2, 1 / 250
LAM, X0 = 0.25, 0.3
PROCESSES = {  # what makes each of its parameters by name
    "Brownian": (fastlam.Brownian, {"mu": MU, "sigma": SIGMA, "x0": X0}),
    "GeometricBrownian": (fastlam.GeometricBrownian, {"mu": MU, "sigma": SIGMA, "x0": X0}),
    "OrnsteinUhlenbeck": (fastlam.OrnsteinUhlenbeck, {"theta": 2.0, "mu": MU, "sigma": SIGMA, "x0": X0}),
    "CoxIngersollRoss": (fastlam.CoxIngersollRoss, {"kappa": 2.0, "theta": 0.04, "sigma": SIGMA, "x0": 0.04}),
    "Diffusion": (lambda **p: fastlam.Diffusion("mu", "sigma", p), {"mu": MU, "sigma": SIGMA, "x0": X0}),
}
