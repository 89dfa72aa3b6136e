"""The retention that an order asks for: how long its film and its inputs are kept after its end."""

from pydantic import BaseModel, ConfigDict, Field

# Shorter, and nobody could download the film.
FILM_SECONDS_MIN = 60


class Retention(BaseModel):
    """Seconds after the job's end. What is absent is kept as long as the account's membership says, at most."""

    model_config = ConfigDict(extra="forbid")

    film: int | None = Field(None, ge=FILM_SECONDS_MIN, description="The film, its pictures and its clips.")
    inputs: int | None = Field(
        None, ge=0, description="Every file that the order brings or names by id; none is kept longer than without it."
    )
