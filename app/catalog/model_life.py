"""The life of a model: since when it is deprecated, when it retires, and what replaces it."""

from datetime import datetime

from pydantic import AwareDatetime, Field

from app.catalog.engine_facts import StrictTable


class ModelLife(StrictTable):
    """When a model ends. Times have an offset, as `2027-03-01T00:00:00Z`."""

    deprecated_at: AwareDatetime | None = Field(None, description="From then on another model should be ordered.")
    retires_at: AwareDatetime | None = Field(None, description="From then on orders are refused; accepted jobs go on.")
    replaced_by: str = Field("", description="Id of the model to order instead.")

    def is_retired(self, at: datetime) -> bool:
        """Return whether the model accepts no orders at this moment (aware)."""
        return self.retires_at is not None and self.retires_at <= at

    def life_problems(self, model_id: str) -> list[str]:
        """Return what is wrong about the dates and the successor, by themselves."""
        problems = []
        if self.deprecated_at and self.retires_at and self.retires_at < self.deprecated_at:
            message = f"retires_at must not be before deprecated_at ({self.deprecated_at.isoformat()})"
            problems.append(message)
        if self.replaced_by and self.deprecated_at is None and self.retires_at is None:
            problems.append("replaced_by needs deprecated_at or retires_at")
        if self.replaced_by == model_id:
            problems.append("replaced_by must name another model")
        return problems
