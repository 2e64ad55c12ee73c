"""Compiled code: elements (one path, one time), loops (over what), targets (where). Imports numba and itself only."""
