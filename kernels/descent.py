"""Descent on the one number lam, by the steps of torch.optim's SGD and Adam at their defaults.

Spec: fastlam.descent.TorchDescent, which takes the same steps through torch.optim, 60 times slower.
"""

import math

import numpy as np
from numba import carray, njit, types

from .memory import pointer

F64 = np.float64
I = types.int64  # noqa: E741


@njit(inline="always")
def sgd(lam, grad, lr, step, memory):
    """Return lam after a step of gradient descent."""
    return lam - lr * grad


@njit(inline="always")
def adam(lam, grad, lr, step, memory):
    """Return lam after a step of Adam (Kingma and Ba, 2015); memory: the two moments, decaying by 0.9 and 0.999."""
    memory[0] += (grad - memory[0]) * (1 - 0.9)
    memory[1] = memory[1] * 0.999 + (1 - 0.999) * grad * grad
    size = math.sqrt(memory[1]) / math.sqrt(1 - 0.999**step) + 1e-8
    return lam - lr / (1 - 0.9**step) * (memory[0] / size)


def make_epoch(update):
    """An epoch of batches of (lam s - k)**2 in the given order; state: lam, steps done, memory. Gives the mean loss."""

    def epoch(s, k, order, count, batch_size, lr, state):
        means, targets = carray(pointer(s, F64), (count,)), carray(pointer(k, F64), (count,))
        positions, now = carray(pointer(order, np.int64), (count,)), carray(pointer(state, F64), (4,))
        total = 0.0
        for start in range(0, count, batch_size):
            stop = min(start + batch_size, count)
            grad = 0.0
            for place in range(start, stop):
                j = positions[place]
                residual = now[0] * means[j] - targets[j]
                grad += 2 / (stop - start) * residual * means[j]
                total += residual * residual
            now[1] += 1
            now[0] = update(now[0], grad, lr, now[1], now[2:])
        return total / count

    return epoch, types.float64(I, I, I, I, I, types.float64, I)
