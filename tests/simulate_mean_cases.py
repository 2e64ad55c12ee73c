"""What the tests of simulate_mean share: processes, times, and what says the same of paths that are stored."""

import numpy as np
import torch

import fastlam
from fastlam import one_pass

PROCESS = fastlam.Brownian(mu=0.3, sigma=0.7, x0=1.5)
TIMES = np.array([0.5, 1.0, 2.0])
TORCH_TIMES = torch.from_numpy(TIMES)
SEED = 2**63 + 5  # both words of the key
VALUES = {  # parameters with which every derivative is well away from 0
    fastlam.Brownian: (0.3, 0.7, 1.5),
    fastlam.OrnsteinUhlenbeck: (1.2, 0.4, 0.6, 1.5),
    fastlam.GeometricBrownian: (0.1, 0.4, 1.2),
}


def irregular_times(m):
    return np.cumsum(np.random.default_rng(3).uniform(0.01, 0.5, m))


def leaf(value, dtype=torch.float64):
    return torch.tensor(value, dtype=dtype, requires_grad=True)


def leaves(kind):
    """A process of this kind whose parameters are all differentiable, and these."""
    tensors = [leaf(value) for value in VALUES[kind]]
    return kind(*tensors), tensors


def mean_square(process, times=TORCH_TIMES, lam=1.0, n_paths=500, **names):
    """A small sound call."""
    return fastlam.simulate_mean_square(process, times, n_paths, lam, **{"seed": 3, **names})


def spy_on_launches(monkeypatch):
    """A list to which each launch of the kernel adds the positions of the derivatives that it computes."""
    launches = []
    launch = one_pass._Launch.__init__

    def spy(self, name, dynamics, payoff, theta, wanted, *others):
        launches.append(wanted)
        launch(self, name, dynamics, payoff, theta, wanted, *others)

    monkeypatch.setattr(one_pass._Launch, "__init__", spy)
    return launches
