"""The specification in plain NumPy: slow, obvious, no cleverness. Every kernel is compared with it.

The stream, for path p, time position j and noise stream s:

    key     = (seed mod 2**32, seed div 2**32)
    counter = (p mod 2**32, p div 2**32, b, s)                    -> words r0 r1 r2 r3 of Philox4x32-10
    float32:  b = j div 4;  z[4b], z[4b+1] from (r0, r1);  z[4b+2], z[4b+3] from (r2, r3)
    float64:  b = j div 2;  z[2b], z[2b+1] from (r0 + 2**32 r1, r2 + 2**32 r3)
    z_even = sqrt(-2 ln u) cos(2 pi v),  z_odd = sqrt(-2 ln u) sin(2 pi v)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Words = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def philox(counter: Any, key: tuple[int, int]) -> Words:
    """Philox4x32-10 of Salmon et al., SC'11: four words (uint64 below 2**32) of a counter of four and a key of two."""
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(c, np.uint64) for c in counter))
    k0, k1 = key
    low, half = np.uint64(2**32 - 1), np.uint64(32)
    for _ in range(10):
        p0 = c0 * np.uint64(0xD2511F53)
        p1 = c2 * np.uint64(0xCD9E8D57)
        c0, c1 = (p1 >> half) ^ c1 ^ np.uint64(k0), p1 & low
        c2, c3 = (p0 >> half) ^ c3 ^ np.uint64(k1), p0 & low
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def uniforms_float32(radius_word: np.ndarray, angle_word: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(u, v) of two 32-bit words, exactly, as float64: the angle's low byte extends u where it is small."""
    k = (radius_word // np.uint64(2)).astype(np.float32)
    byte = ((angle_word % np.uint64(256)).astype(np.float32) + np.float32(0.5)) / np.float32(256)
    u = (k + byte).astype(np.float64) * 2.0**-31
    v = angle_word.astype(np.uint32).view(np.int32) / 2.0**32
    return u, v


def uniforms_float64(radius_word: np.ndarray, angle_word: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(u, v) of two 64-bit words, exactly."""
    u = ((radius_word >> np.uint64(12)).astype(np.float64) + 0.5) / 2.0**52
    v = (angle_word.view(np.int64) >> np.int64(11)) / 2.0**53
    return u, v


def normal_pair(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two normals of two uniforms: Box and Muller, 1958."""
    radius = np.sqrt(-2 * np.log(u))
    return radius * np.cos(2 * np.pi * v), radius * np.sin(2 * np.pi * v)


def normals(
    paths: np.ndarray, n_times: int, seed: int, dtype: str, stream: int = 0, antithetic: bool = False
) -> np.ndarray:
    """z[j, i] for time positions 0..n_times-1 and path numbers `paths` (uint64), evaluated in float64."""
    paths = np.asarray(paths, np.uint64)
    source = paths - paths % np.uint64(2) if antithetic else paths
    rows = []
    for block in range(n_times):
        counter = (source % np.uint64(2**32), source >> np.uint64(32), block, stream)
        r0, r1, r2, r3 = philox(counter, (seed % 2**32, seed // 2**32))
        if dtype == "float32":
            rows += [*normal_pair(*uniforms_float32(r0, r1)), *normal_pair(*uniforms_float32(r2, r3))]
        else:
            half = np.uint64(32)
            rows += normal_pair(*uniforms_float64(r0 | (r1 << half), r2 | (r3 << half)))
        if len(rows) >= n_times:
            break
    z = np.stack(rows[:n_times])
    return np.where(paths % np.uint64(2) == 1, -z, z) if antithetic else z


Step = Callable[[Any, Any, float, float], Any]  # step(x, z, t, dt): the state at t + dt of the states x at t, normals z
Rate = Callable[[Any, float], Any]  # rate(x, t)


def brownian(mu: float, sigma: float) -> Step:
    """DX = mu dt + sigma dW, exactly."""
    return lambda x, z, t, dt: x + (sigma * np.sqrt(dt) * z + mu * dt)


def geometric_brownian(mu: float, sigma: float) -> Step:
    """DX = mu X dt + sigma X dW, exactly."""
    return lambda x, z, t, dt: x * np.exp((mu - sigma**2 / 2) * dt + sigma * np.sqrt(dt) * z)


def ornstein_uhlenbeck(theta: float, mu: float, sigma: float) -> Step:
    """DX = theta (mu - X) dt + sigma dW, exactly."""

    def step(x: Any, z: Any, t: float, dt: float) -> Any:
        variance = dt if theta == 0 else -np.expm1(-2 * theta * dt) / (2 * theta)
        return x * np.exp(-theta * dt) - mu * np.expm1(-theta * dt) + sigma * np.sqrt(variance) * z

    return step


def cox_ingersoll_ross(kappa: float, theta: float, sigma: float) -> Step:
    """DX = kappa (theta - X) dt + sigma sqrt(X) dW by full-truncation Euler; what is seen of a state is `positive`."""
    return euler(lambda x, t: kappa * (theta - positive(x)), lambda x, t: sigma * np.sqrt(positive(x)))


def positive(x: Any) -> Any:
    """Max(x, 0)."""
    return np.maximum(x, 0.0)


def euler(drift: Rate, diffusion: Rate) -> Step:
    """DX = drift(X, t) dt + diffusion(X, t) dW by Euler and Maruyama's scheme."""
    return lambda x, z, t, dt: x + drift(x, t) * dt + diffusion(x, t) * np.sqrt(dt) * z


def milstein(drift: Rate, diffusion: Rate, slope: Rate) -> Step:
    """The same by Milstein's scheme; `slope` is that of the diffusion in x."""
    plain = euler(drift, diffusion)
    return lambda x, z, t, dt: plain(x, z, t, dt) + diffusion(x, t) * slope(x, t) * (z**2 - 1) * dt / 2


def states(step: Step, x0: float, times: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The states (m, n) at `times` after steps with the normals z (m, n), from x0 at time 0, in float64."""
    x, t, rows = np.full(z.shape[1], float(x0)), 0.0, []
    for time, normal in zip(np.asarray(times, np.float64).tolist(), z, strict=True):
        x = step(x, normal, t, time - t)
        t = time
        rows.append(x)
    return np.stack(rows)


def follow(
    step: Step, x0: float, times: np.ndarray, n_paths: int, *, seed: int, dtype: str,
    first_path: int = 0, antithetic: bool = False,
) -> np.ndarray:  # fmt: skip
    """The states (m, n) of `n_paths` paths of the family of a seed."""
    paths = np.arange(n_paths, dtype=np.uint64) + np.uint64(first_path)
    return states(step, x0, times, normals(paths, len(times), seed, dtype, antithetic=antithetic))


def simulate(mu: float, sigma: float, x0: float, times: np.ndarray, n_paths: int, **stream: Any) -> np.ndarray:
    """Brownian paths (m, n): x[j] = x[j-1] + (sigma sqrt(dt[j]) z[j] + mu dt[j]), x[-1] = x0, dt[0] = times[0]."""
    return follow(brownian(mu, sigma), x0, times, n_paths, **stream)


def polynomial(x: np.ndarray, coefficients: Any, center: float = 0.0) -> np.ndarray:
    """sum_p coefficients[p] (x - center)**p, in float64."""
    x = np.asarray(x, np.float64) - center
    return np.sum([c * x**p for p, c in enumerate(coefficients)], axis=0)


def mean_square(x: np.ndarray, lam: Any = 1.0) -> np.ndarray:
    """Lam * mean over the last axis of x**2, in float64."""
    return lam * np.mean(np.asarray(x, np.float64) ** 2, axis=-1)


def mean_square_grad(x: np.ndarray, lam: Any, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients in x and in a per-row lam of sum(weight * mean_square(x, lam)), in float64."""
    x = np.asarray(x, np.float64)
    n = x.shape[-1]
    in_x = (2 / n) * np.broadcast_to(weight * lam, x.shape[:-1])[..., np.newaxis] * x
    return in_x, np.asarray(weight) * np.mean(x**2, axis=-1)


def tree_sum(values: np.ndarray) -> float:
    """The reductions' fixed order of addition, one float64 at a time: what 'the same bits' means.

    Leaves of 1024: lane l adds elements l, l + 128, ... in order; lanes fold by halves. Leaves fold by neighbours.
    """
    leaves = []
    for start in range(0, len(values), 1024):
        lanes = [0.0] * 128
        for i, value in enumerate(values[start : start + 1024]):
            lanes[i % 128] = lanes[i % 128] + float(value)
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [lanes[i] + lanes[i + half] for i in range(half)]
        leaves.append(lanes[0])
    while len(leaves) > 1:
        leaves = [sum(leaves[i : i + 2]) for i in range(0, len(leaves), 2)]
    return leaves[0]
