"""Where a user's code stands on the stack: the line that a warning shall name."""

import sys
from types import FrameType

OURS = {"fastlam", "torch"}  # which calls us back, through as many frames as it likes


def stacklevel() -> int:
    """That of `warnings.warn`, in the function that asks, for the nearest line outside of fastlam and torch."""
    level = 1
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in OURS:
        level, frame = level + 1, frame.f_back
    return level
