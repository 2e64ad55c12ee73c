"""Differentiable Monte Carlo on diffusions at the speed of the hardware."""

from fastlam.autograd import LambdaModel
from fastlam.calibrate import calibrate
from fastlam.calibration_result import CalibrationResult
from fastlam.diffusion import Diffusion
from fastlam.fit import fit
from fastlam.fit_result import FitResult
from fastlam.functionals import Functional, PathFunctional, Polynomial, Square
from fastlam.means import mean, simulate_mean, simulate_mean_square
from fastlam.paths import simulate
from fastlam.processes import Brownian, CoxIngersollRoss, GeometricBrownian, OrnsteinUhlenbeck, Process
from fastlam.squares import mean_square, mean_square_value_and_grad
from fastlam.warmup import warmup

__all__ = [
    "Brownian",
    "CalibrationResult",
    "CoxIngersollRoss",
    "Diffusion",
    "FitResult",
    "Functional",
    "GeometricBrownian",
    "LambdaModel",
    "OrnsteinUhlenbeck",
    "PathFunctional",
    "Polynomial",
    "Process",
    "Square",
    "calibrate",
    "fit",
    "mean",
    "mean_square",
    "mean_square_value_and_grad",
    "simulate",
    "simulate_mean",
    "simulate_mean_square",
    "warmup",
]
