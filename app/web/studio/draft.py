"""The draft in the studio's form: a storyboard and its settings, parsed from the form and turned into a request."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.datastructures import FormData, UploadFile

from app.catalog.models import load_catalog
from app.errors import AppError
from app.jobs.priced import Priced
from app.jobs.schemas import ShotIn, VideoRequest, decimal_seconds
from app.jobs.spec import Spec
from app.parsing import parse_integer
from app.settings import get_settings
from app.web.auth import text_of, texts_of
from app.web.language import language, title_text

SHOTS_MAX = 24
SECONDS_MAX = 60
SEED_MAX = 2**31 - 1
_SETTINGS = ("model", "resolution", "ratio", "service_tier", "sound", "seed", "project", "negative_prompt")
_DECLARED = ("deepfake", "rights", "likeness")
# The prompt that an empty shot is priced with.
_EMPTY_PROMPT = "…"


@dataclass(frozen=True)
class ShotDraft:
    """One shot of the form. The frames are asset ids."""

    prompt: str = ""
    seconds: int = 5
    # What was typed as seconds where it is not a length that a shot may have; `seconds` is the nearest one then.
    refused_seconds: str | None = None
    transition: str = "cut"
    first_frame: str = ""
    last_frame: str = ""


@dataclass(frozen=True)
class RemovedShot:
    """The shot that was removed last, and the row where it stood."""

    shot: ShotDraft
    row: int


@dataclass(frozen=True)
class Draft:
    """All fields of the studio's form."""

    shots: tuple[ShotDraft, ...] = (ShotDraft(),)
    model: str = "auto"
    resolution: str = "720P"
    ratio: str = "16:9"
    service_tier: str = "standard"
    sound: str = "auto"
    seed: str = ""
    project: str = ""
    negative_prompt: str = ""
    # What is declared, "yes" or "": the film shows what never was; its pictures may be used; they show a real person.
    deepfake: str = ""
    rights: str = ""
    likeness: str = ""
    # Neither of these is a part of the order: one is for the page, one for its next button.
    nonce: str = field(default="", compare=False)
    removed: RemovedShot | None = field(default=None, compare=False, repr=False)

    @property
    def pictures(self) -> list[str]:
        """The asset ids of all frames."""
        return [frame for shot in self.shots for frame in (shot.first_frame, shot.last_frame) if frame]

    @property
    def declaration(self) -> dict[str, bool] | None:
        """What is declared of the pictures, or None where nothing is, or there are none."""
        if not self.pictures or not self.rights:
            return None
        return {"rights": True} | ({"likeness": True, "consent": True} if self.likeness else {})

    @property
    def seconds(self) -> int:
        """The total seconds of all shots."""
        return sum(shot.seconds for shot in self.shots)


def read_draft(form: FormData) -> Draft:
    """Parse a submitted form. The fields of shots repeat, in page order."""
    prompts = texts_of(form, "shot_prompt")[:SHOTS_MAX] or [""]
    columns = [texts_of(form, f"shot_{name}") for name in ("seconds", "transition", "first_frame", "last_frame")]

    def cell(column: list[str], row: int, default: str) -> str:
        return column[row] if row < len(column) and column[row] else default

    lengths = [_parse_seconds(columns[0][row] if row < len(columns[0]) else "5") for row in range(len(prompts))]
    shots = tuple(
        ShotDraft(
            prompt=prompt,
            seconds=lengths[row][0],
            refused_seconds=lengths[row][1],
            transition="crossfade" if cell(columns[1], row, "cut") == "crossfade" else "cut",
            first_frame=cell(columns[2], row, ""),
            last_frame=cell(columns[3], row, ""),
        )
        for row, prompt in enumerate(prompts)
    )
    settings = {
        name: text_of(form, name, getattr(Draft, name)) or getattr(Draft, name) for name in (*_SETTINGS, *_DECLARED)
    }
    return Draft(shots=shots, nonce=text_of(form, "nonce"), removed=_removed_shot(form), **settings)


def _removed_shot(form: FormData) -> RemovedShot | None:
    """Return the removed shot that the form carries, which its button can restore."""
    row = parse_integer(text_of(form, "removed_row"))
    if row is None or row > SHOTS_MAX:
        return None
    seconds, refused = _parse_seconds(text_of(form, "removed_seconds"))
    shot = ShotDraft(
        prompt=text_of(form, "removed_prompt"),
        seconds=seconds,
        refused_seconds=refused,
        transition="crossfade" if text_of(form, "removed_transition") == "crossfade" else "cut",
        first_frame=text_of(form, "removed_first_frame"),
        last_frame=text_of(form, "removed_last_frame"),
    )
    return RemovedShot(shot, row)


def uploads_of(form: FormData, draft: Draft) -> list[tuple[int, str, UploadFile]]:
    """Return the pictures that were submitted as files, as browsers without scripts do: (shot, field, file)."""
    uploads = []
    for name in ("first_frame", "last_frame"):
        files = [value for value in form.getlist(f"shot_{name}_file") if isinstance(value, UploadFile)]
        if len(files) == len(draft.shots):
            uploads += [(row, name, file) for row, file in enumerate(files) if file.filename]
    return uploads


def with_picture(draft: Draft, row: int, name: str, asset_id: str) -> Draft:
    """Return the draft with one frame of one shot set."""
    shots = list(draft.shots)
    change: dict[str, Any] = {name: asset_id}
    shots[row] = replace(shots[row], **change)
    return replace(draft, shots=tuple(shots))


def draft_request(draft: Draft, *, allow_empty_prompts: bool = False, max_price: str = "") -> VideoRequest:
    """Return the request of a draft; `allow_empty_prompts` is for pricing an unfinished storyboard.

    Raises AppError `invalid_request` for a shot without a prompt, and pydantic's ValidationError.
    """
    for number, shot in enumerate(draft.shots, 1):
        if shot.refused_seconds is not None:
            message = f"Shot {number}: 1–{SECONDS_MAX} whole seconds."
            raise AppError("invalid_request", message, field=f"shots.{number - 1}.seconds")
        if not shot.prompt and not allow_empty_prompts:
            message = f"Shot {number} has no prompt." if len(draft.shots) > 1 else "Write a prompt for the film."
            raise AppError("invalid_request", message, field=f"shots.{number - 1}.prompt")
    values: dict[str, Any] = {
        "model": draft.model,
        "resolution": draft.resolution,
        "ratio": draft.ratio,
        "service_tier": draft.service_tier,
        "sound": False if draft.sound == "off" else "auto",
        "shots": [_shot_in(shot) for shot in draft.shots],
        "negative_prompt": draft.negative_prompt or None,
        "seed": _seed(draft.seed),
        "project": draft.project or None,
        "max_price": max_price or None,
        "deepfake": bool(draft.deepfake),
        "declaration": draft.declaration,
    }
    return VideoRequest.model_validate(values)


def described_draft(description: str) -> Draft:
    """Return the draft of a film of one shot that was described on the landing page."""
    return Draft(shots=(ShotDraft(prompt=description),))


def draft_of(spec: Spec) -> Draft:
    """Return the draft with the settings of a Spec."""
    shots = tuple(
        ShotDraft(
            prompt=shot.prompt,
            seconds=shot.seconds,
            transition=shot.transition,
            first_frame=shot.first_frame or "",
            last_frame=shot.last_frame or "",
        )
        for shot in spec.shots
    )
    return Draft(
        shots=shots,
        model=spec.model,
        resolution=spec.resolution,
        ratio=spec.ratio,
        service_tier=spec.service_tier,
        sound=_sound(spec),
        seed=str(spec.seed),
        negative_prompt=spec.shots[0].negative_prompt if spec.shots else "",
        deepfake="yes" if spec.deepfake else "",
    )


def price_preview(priced: Priced, funds: int | None) -> dict[str, Any]:
    """Return the price meter's content: lines, total, film facts, and the missing balance (minor units)."""
    spec, amount = priced.spec, priced.price
    return {
        "currency": amount.currency,
        "list_total": amount.list_total.text,
        "total": amount.total.text,
        "is_less": amount.total.minor < amount.list_total.minor,
        "lines": [
            {"label": line.words(language()), "amount": line.amount.text, "less": line.amount.minor < 0}
            for line in amount.lines
        ],
        "book": title_text(priced.book.title),
        "seconds": decimal_seconds(spec.frames, spec.fps),
        "size": f"{spec.width} × {spec.height}",
        "fps": spec.fps,
        "model": priced.model.name,
        "short": None if funds is None else max(0, amount.total.minor - funds),
    }


def _shot_in(shot: ShotDraft) -> ShotIn:
    return ShotIn.model_validate(
        {
            "prompt": shot.prompt or _EMPTY_PROMPT,
            "seconds": shot.seconds,
            "transition": shot.transition,
            "first_frame": shot.first_frame or None,
            "last_frame": shot.last_frame or None,
        }
    )


def _sound(spec: Spec) -> str:
    """Return `off` for a film whose model could have made sound and was not to, else `auto`."""
    model = load_catalog(get_settings().catalog_dir).get(spec.model)
    return "off" if model is not None and model.sound and not spec.has_sound else "auto"


def _seed(text: str) -> int | None:
    if not text:
        return None
    seed = parse_integer(text)
    if seed is None or seed > SEED_MAX:
        raise AppError("invalid_request", f"Seed: a whole number from 0 to {SEED_MAX:,}.", field="seed", value=text)
    return seed


def _parse_seconds(text: str) -> tuple[int, str | None]:
    """Return the seconds of a shot, and the text where it is none that a shot may have."""
    number = parse_integer(text)
    if number is not None and 1 <= number <= SECONDS_MAX:
        return number, None
    return (5 if number is None else max(1, min(SECONDS_MAX, number))), text


def timeline(shots: Sequence[ShotDraft]) -> list[dict[str, int]]:
    """Return the timeline's blocks, each with its length in seconds."""
    return [{"number": number, "seconds": shot.seconds} for number, shot in enumerate(shots, 1)]
