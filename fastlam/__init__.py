"""Differentiable Monte Carlo on diffusions at the speed of the hardware."""

from fastlam.autograd import LambdaModel
from fastlam.fit import fit
from fastlam.fit_result import FitResult
from fastlam.montecarlo import mean_square, mean_square_value_and_grad, simulate, warmup
from fastlam.processes import Brownian, Process

__all__ = [
    "Brownian",
    "FitResult",
    "LambdaModel",
    "Process",
    "fit",
    "mean_square",
    "mean_square_value_and_grad",
    "simulate",
    "warmup",
]
