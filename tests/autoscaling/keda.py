"""What KEDA 2 and the horizontal pod autoscaler of Kubernetes do with a ScaledObject of the chart.

KEDA moves a Deployment between 0 and 1; between 1 and its maximum the HPA does, every 15 seconds. With `AverageValue`
it wants `ceil(value / target)` pods, unless value and pods differ by no more than its tolerance. Its behaviour then
limits how fast it goes: the stabilisation window (the least of what was wanted upwards, the most downwards), policies.
Sources: kubernetes pkg/controller/podautoscaler (horizontal.go, replica_calculator.go), keda pkg/scaling/executor.
"""

from dataclasses import dataclass, field
from math import ceil
from typing import Any

SYNC_SECONDS = 15.0
TOLERANCE = 0.1


# The ScaledObject of a pool with `scale: {min: 0, max: 100}`, as far as it decides; test_chart.py compares.
BEHAVIOR: dict[str, Any] = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "policies": [
            {"type": "Percent", "value": 100, "periodSeconds": 60},
            {"type": "Pods", "value": 8, "periodSeconds": 60},
        ],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 180,
        "policies": [
            {"type": "Percent", "value": 25, "periodSeconds": 60},
            {"type": "Pods", "value": 8, "periodSeconds": 60},
        ],
    },
}
SCALED_OBJECT: dict[str, Any] = {
    "pollingInterval": 15,
    "cooldownPeriod": 300,
    "minReplicaCount": 0,
    "maxReplicaCount": 100,
    "advanced": {"horizontalPodAutoscalerConfig": {"behavior": BEHAVIOR}},
}


@dataclass(frozen=True)
class Policy:
    """At most so many pods, or percent of them, in a period."""

    kind: str
    value: int
    seconds: float


@dataclass(frozen=True)
class Direction:
    """One direction of `behavior`: its stabilisation window, and policies of which the most or the least counts."""

    window: float
    policies: tuple[Policy, ...]
    select: str = "Max"

    @classmethod
    def of(cls, content: dict[str, Any]) -> "Direction":
        """Read `scaleUp` or `scaleDown` of a ScaledObject."""
        policies = tuple(Policy(each["type"], each["value"], each["periodSeconds"]) for each in content["policies"])
        return cls(content["stabilizationWindowSeconds"], policies, content.get("selectPolicy", "Max"))


@dataclass
class Autoscaler:
    """The ScaledObject of one Deployment, and what it remembers."""

    polling: float
    cooldown: float
    low: int
    high: int
    up: Direction
    down: Direction
    _wanted: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)
    _active_at: float = float("-inf")

    @classmethod
    def of(cls, spec: dict[str, Any]) -> "Autoscaler":
        """Read the `spec` of a ScaledObject."""
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        return cls(
            spec["pollingInterval"],
            spec["cooldownPeriod"],
            spec["minReplicaCount"],
            spec["maxReplicaCount"],
            Direction.of(behavior["scaleUp"]),
            Direction.of(behavior["scaleDown"]),
        )

    def replicas(self, at: float, current: int, value: float) -> int:
        """Return how many pods there are to be at a moment, with so many now and this value of the query."""
        if value > 0:
            self._active_at = at
        # What KEDA itself changes is none of the HPA's: its policies do not count it.
        if current == 0:
            return max(1, self.low) if value > 0 else self.low
        if self.low == 0 and value <= 0 and at - self._active_at >= self.cooldown:
            self._wanted.clear()
            self._changes.clear()
            return 0
        wanted = current if abs(value / current - 1) <= TOLERANCE else ceil(value)
        wanted = min(self.high, max(1, self.low, wanted))
        longest = max(self.up.window, self.down.window)
        self._wanted = [each for each in self._wanted if each[0] > at - longest] + [(at, wanted)]
        if wanted > current:
            wanted = max(current, min(n for since, n in self._wanted if since >= at - self.up.window))
            wanted = min(wanted, current + self._allowed(at, current, self.up, 1))
        elif wanted < current:
            wanted = min(current, max(n for since, n in self._wanted if since >= at - self.down.window))
            wanted = max(wanted, current - self._allowed(at, current, self.down, -1))
        return self._changed(at, current, wanted)

    def _allowed(self, at: float, current: int, direction: Direction, sign: int) -> int:
        """Return by how many pods the policies let it change now."""
        rooms = []
        for policy in direction.policies:
            recent = sum(change * sign for since, change in self._changes if since > at - policy.seconds)
            recent = max(0, recent)
            start = current - sign * recent
            most = policy.value if policy.kind == "Pods" else ceil(start * policy.value / 100)
            rooms.append(max(0, most - recent))
        return max(rooms) if direction.select == "Max" else min(rooms)

    def _changed(self, at: float, current: int, wanted: int) -> int:
        longest = max(policy.seconds for each in (self.up, self.down) for policy in each.policies)
        self._changes = [each for each in self._changes if each[0] > at - longest]
        if wanted != current:
            self._changes.append((at, wanted - current))
        return wanted
