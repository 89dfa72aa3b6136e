"""Request and response schemas of jobs: the native API's request, and the video object of all APIs."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, computed_field

from app.assets.schemas import Declaration
from app.catalog.prompt_warnings import prompt_warnings
from app.jobs.field_types import (
    FILMS_MAX,
    METADATA_MAX,
    SHOTS_MAX,
    Facts,
    Gain,
    MetadataKey,
    MetadataValue,
    MoneyIn,
    NegativePrompt,
    Prompt,
    Seconds,
    Seed,
    in_one_order,
)
from app.jobs.order_warnings import order_warnings
from app.jobs.retention_request import Retention
from app.jobs.states import JobState


class StrictModel(BaseModel):
    """A request schema: unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid")


class ShotIn(StrictModel):
    """One shot of a storyboard."""

    prompt: Prompt
    seconds: Seconds = 5
    negative_prompt: NegativePrompt | None = None
    first_frame: str | None = Field(
        None, description="Asset id, https URL or data URL of the picture that opens the shot."
    )
    last_frame: str | None = Field(
        None, description="Asset id, https URL or data URL of the picture that ends the shot."
    )
    transition: Literal["cut", "crossfade"] = Field("cut", description="Transition from the previous shot to this one.")


class VideoRequest(StrictModel):
    """An order for a film: one prompt, or a storyboard of shots in one style. Defaults are resolved before pricing."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"prompt": "a red circle moves left on a blue background", "seconds": 5, "resolution": "720P"},
                {
                    "shots": [
                        {"prompt": "a red circle moves left on a blue background", "seconds": 2},
                        {"prompt": "a yellow square bounces on a green background", "seconds": 3},
                    ],
                    "ratio": "16:9",
                    "service_tier": "standard",
                    "max_price": "10.00",
                },
            ]
        },
    )

    model: str = Field(
        "auto", max_length=64, description="A model of GET /v1/models, or auto: the cheapest capable one."
    )
    prompt: Prompt | None = Field(
        None, description="What the film shows; with shots, the style line that each of them begins with."
    )
    shots: list[ShotIn] | None = Field(None, min_length=1, max_length=SHOTS_MAX)
    seconds: Seconds | None = Field(None, description="Whole seconds; default 5.")
    size: str | None = Field(None, max_length=16, description="Width x height in pixels, such as 1280x720.")
    resolution: str | None = Field(None, max_length=8, description="480P, 720P (default) or 1080P.")
    ratio: str | None = Field(
        None, max_length=8, description="16:9 (default), 9:16, 1:1, 4:3, 3:4, or adaptive: that of the first picture."
    )
    negative_prompt: NegativePrompt | None = None
    seed: Seed | None = None
    n: int | None = Field(
        None,
        ge=1,
        le=FILMS_MAX,
        description="How many films to order together, default 1: all of them or none. Each is a video of its own; "
        "their seeds are seed, seed + 1 and so on.",
    )
    seeds: list[Seed] | None = Field(
        None, min_length=1, max_length=FILMS_MAX, description="A seed for each of n films, instead of seed."
    )
    first_frame: str | None = None
    last_frame: str | None = None
    video: str | None = Field(None, description="Asset id, URL or data URL of the input clip.")
    audio: str | None = Field(None, description="Asset id, URL or data URL of an audio track.")
    sound: bool | Literal["auto"] = Field(
        "auto",
        description="Whether the model makes the sound. auto: where it can and there is no audio track, which is then "
        "the only sound; with true, model and track are mixed.",
    )
    generate_audio: bool | None = Field(
        None, description="The name of other services for sound: true is auto, false is false."
    )
    sound_gain: Gain | None = Field(None, description="Gain of the model's sound in a mix, in dB; default 0.")
    audio_gain: Gain | None = Field(None, description="Gain of the audio track in a mix, in dB; default 0.")
    strength: Decimal | None = Field(None, gt=0, le=1, description="How far v2v and edit may depart from their source.")
    deepfake: bool = Field(False, description="It shows real people or events as they never were; it gets a label.")
    declaration: Declaration | None = Field(None, description="Of the order's files, as at POST /v1/assets.")
    service_tier: str = Field("standard", max_length=32)
    project: str | None = Field(None, description="Project (business unit) of the job.")
    metadata: dict[MetadataKey, MetadataValue] = Field(default_factory=dict, max_length=METADATA_MAX)
    callback_url: str | None = Field(None, max_length=2048)
    max_price: MoneyIn | None = Field(None, description="Refuse the order above this price: a decimal string.")
    quote_id: str | None = Field(None, max_length=64)
    expires_after: int | None = Field(
        None, ge=1, le=172_800, description="Seconds; a job not started by then ends as expired, free of charge."
    )
    retention: Retention | None = None

    @property
    def films(self) -> int:
        """How many films the order is for."""
        return len(self.seeds) if self.seeds else self.n or 1


class WarningOut(BaseModel):
    """What was not honoured of an order.

    Of a prompt: `unknown_subject`, `not_understood`, `nearest_words`. Of a field: `ignored`, `set_by_model`,
    `default_used`.
    """

    code: str
    message: str
    field: str


class WithWarnings(BaseModel):
    """What has resolved facts, in the field `resolved`, and warns of what was not honoured of the order."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def warnings(self) -> list[WarningOut]:
        """Return which fields were not honoured, and what the model did not understand; both refuse nothing."""
        resolved = vars(self)["resolved"]
        warnings = [each.as_dict() for each in order_warnings(resolved)]
        warnings += [each.as_dict() for each in prompt_warnings(resolved)]
        return [WarningOut(**each) for each in warnings]


class PriceLine(BaseModel):
    """One line of a price: its label, the price rule, and the amount as a decimal string."""

    label: str
    rule: str
    amount: str


class PriceOut(BaseModel):
    """A price: the list price, the total charged, and the lines between them."""

    currency: str
    list_total: str
    total: str
    lines: list[PriceLine]
    book: str
    usd_rate: str | None = Field(
        None,
        exclude_if=lambda rate: rate is None,
        description="US dollars for one unit of the currency when the film was ordered, where the service has a rate.",
    )


class EstimateOut(PriceOut, WithWarnings):
    """The price of a request now. It is not binding and stores nothing.

    `start_by` and `not_after` are the service tier's deadlines for an order that is accepted now; the video has its
    own.
    """

    object: Literal["video.estimate"] = "video.estimate"
    start_by: int | None = None
    not_after: int | None = None
    resolved: Facts


class QuoteOut(PriceOut, WithWarnings):
    """A price that binds until it expires.

    `start_by` (priority) is the latest start of a film that is ordered now, or the surcharge is dropped; `not_after`
    (flex) is when a film that has not started expires, free of charge. Both count from the order, so the video has its
    own.
    """

    id: str
    object: Literal["video.quote"] = "video.quote"
    expires_at: int
    start_by: int | None = None
    not_after: int | None = None
    resolved: Facts


class VideoError(BaseModel):
    """Why a job failed, was cancelled or expired: an error code and a message."""

    code: str
    message: str


class ShotOut(BaseModel):
    """One shot of a job as it was resolved."""

    prompt: str
    seconds: int
    transition: str


class MeterOut(BaseModel):
    """Resources that a job used over all its takes: seconds and CPU seconds by stage, GPU seconds, peak memory."""

    takes: int
    seconds: dict[str, float]
    cpu_seconds: dict[str, float]
    gpu_seconds: str
    peak_memory_bytes: int


class VideoOut(WithWarnings):
    """A job in every API, page and webhook: OpenAI's video object and additional fields."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: JobState
    progress: int
    created_at: int
    started_at: int | None = None
    completed_at: int | None = None
    expires_at: int | None = None
    prompt: str
    remixed_from_video_id: str | None = None
    seconds: str
    size: str
    error: VideoError | None = None
    # Additional to OpenAI's fields.
    model_alias: str | None = None
    retention: Retention | None = None
    stage: str | None = None
    queue_position: int | None = None
    eta: dict[str, int] | None = None
    # While its stage is `moderating`: by when a moderator, or else the policy, decides. It has no `eta` until then.
    review_due_at: int | None = None
    start_by: int | None = None
    not_after: int | None = None
    price: PriceOut
    charged: str | None = None
    test: bool = False
    shots: list[ShotOut]
    seed: int
    service_tier: str
    project: str | None = None
    metadata: Annotated[dict[str, str], AfterValidator(in_one_order)]
    resolved: Facts
    parent: dict[str, str] | None = None
    group: str | None = None
    video_url: str | None = None
    # The names of inference servers; times and memory are those of the takes, once the job has ended.
    num_frames: int
    fps: int
    duration_s: float
    inference_time_s: float | None = None
    stage_durations: dict[str, float] | None = None
    peak_memory_mb: float | None = None
    meter: MeterOut | None = None


def unix(moment: datetime | None) -> int | None:
    """Return a moment as whole Unix seconds, the form of OpenAI's clients."""
    return None if moment is None else int(moment.timestamp())


def decimal_seconds(frames: int, fps: int) -> str:
    """Return a film's length in seconds as the shortest decimal string, to the millisecond."""
    text = f"{(Decimal(frames) / Decimal(fps)).quantize(Decimal('0.001')):f}"
    return text.rstrip("0").rstrip(".")
