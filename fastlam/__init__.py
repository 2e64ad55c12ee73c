"""Differentiable Monte Carlo on diffusions at the speed of the hardware."""

from fastlam.montecarlo import mean_square, mean_square_value_and_grad, simulate
from fastlam.autograd import LambdaModel
from fastlam.processes import Brownian

__all__ = ["Brownian", "LambdaModel", "mean_square", "mean_square_value_and_grad", "simulate"]
