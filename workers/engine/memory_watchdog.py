"""Replace a growing process between two takes, before the kernel's out-of-memory killer ends it during one."""

from collections.abc import Callable

from workers.engine.meter import resident_bytes

# Renders after which a process has its full size: kernels are loaded, caches are filled, arenas are grown.
SETTLING_TAKES = 3


class MemoryGrowth:
    """Watches the resident memory of this process from take to take.

    The size after the third take is the base; when a later take ends above `factor` times the base and at least
    `least_bytes` above it, the process shall be replaced. A newly loaded model resets the base.
    """

    def __init__(
        self, *, factor: float = 1.5, least_bytes: int = 1 << 30, measure: Callable[[], int] = resident_bytes
    ) -> None:
        self.factor = factor
        self.least_bytes = least_bytes
        self._measure = measure
        self._takes = 0
        self._base = 0

    def reset(self) -> None:
        """Forget the base: another model was loaded."""
        self._takes = self._base = 0

    def is_too_large(self) -> bool:
        """Record that a take has ended, and return whether the process shall be replaced now."""
        self._takes += 1
        size = self._measure()
        if self._takes <= SETTLING_TAKES:
            self._base = max(self._base, size)
            return False
        return size > self._base * self.factor and size - self._base > self.least_bytes
