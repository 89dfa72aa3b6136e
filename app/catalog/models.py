"""Video models as data: capabilities, requirements and engine options. One TOML file each, read strictly."""

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from math import ceil
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from app.catalog.aliases import ALIAS_FILE, check_aliases, parse_aliases
from app.catalog.engine_facts import Architecture, EngineOptions, UpscalerSpec
from app.catalog.errors import CatalogError
from app.catalog.gpu_features import GpuFeature
from app.catalog.model_life import ModelLife
from app.catalog.pools import POOL_FILE, load_pools
from app.catalog.sizes import RATIOS, RESOLUTIONS, Size
from app.errors import AppError
from pricing.rate_key import Mode

# Modes that add noise to the video they read and denoise it again; `strength` says how much.
STRENGTH_MODES: tuple[Mode, ...] = ("v2v", "edit")


class VideoModel(ModelLife):
    """One video model: the facts that APIs show, the planner counts with, and the engine runs by."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.\-]{0,63}$")
    name: str
    family: Literal["wan", "kandinsky6", "synthetic"]
    weights: str = Field("", description="Hub id, or a folder relative to the repository (or this package).")
    revision: str = Field("", description="Hub revision; empty takes the newest.")
    pool: str = Field(pattern=r"^[a-z0-9][a-z0-9_\-]{0,31}$")
    enabled: bool = False
    licence: str
    note: str = ""
    acknowledge: str = Field("", description="Terms that an operator has to accept before the model is sold.")

    modes: tuple[Mode, ...] = Field(min_length=1)
    last_frame: Literal["no", "optional", "required"] = "no"
    sound: bool = Field(False, description="Whether the model makes the sound of its pictures.")
    fps: int = Field(gt=0, le=120)
    frames_max: int = Field(gt=0, description="Most native frames that one segment may have.")
    frames_step: int = Field(4, gt=0, description="The model makes frames_step * k + 1 frames; surplus ones are cut.")
    handover: Literal["none", "frames"] = Field("none", description="Whether a segment can continue another's frames.")
    handover_frames: int = Field(1, ge=1, description="Native frames of the last segment that the next one is shown.")
    drift_correction: float = Field(0.0, ge=0, le=1, description="Share of AdaIN towards the first segment's latents.")
    shot_seconds_max: int = Field(gt=0)
    film_seconds_max: int = Field(gt=0)
    shots_max: int = Field(24, gt=0)
    native: Mapping[str, Mapping[str, tuple[int, int]]] = Field(description="Rendered size by resolution and ratio.")

    steps: int = Field(gt=0, le=1000)
    guidance: float = Field(1.0, ge=0)
    guidance_2: float | None = Field(None, ge=0, description="Guidance of the low-noise expert.")
    flow_shift: Mapping[str, float] = Field(default_factory=dict, description="Shift by resolution; else the weights'.")
    boundary_ratio: float | None = Field(None, gt=0, lt=1, description="Share of timesteps above which expert 1 works.")
    expand_timesteps: bool = Field(False, description="One timestep per token (Wan 2.2 TI2V).")
    text_length: int = Field(512, gt=0, le=4096, description="Tokens that a prompt is padded to.")
    vocabulary: Literal["open", "demo"] = Field("open", description="A closed vocabulary reads any prompt as its own.")
    prompt_words: Mapping[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Words that the studio offers for prompts, by group (`Camera`, `Style`)."
    )
    negative_prompt: str = Field("", description="Negative prompt where the request has none.")
    strength: float = Field(0.8, gt=0, le=1, description="Default strength of v2v and edit.")

    requires: tuple[GpuFeature, ...] = Field((), description="What a GPU must be able to do, beside its memory.")
    architecture: Architecture | None = None
    upscaler: UpscalerSpec | None = None
    switches: EngineOptions = EngineOptions()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse a file whose facts contradict one another."""
        problems = [*self._size_problems(), *self._mode_problems(), *self.life_problems(self.id)]
        if (self.frames_max - 1) % self.frames_step:
            problems.append(f"frames_max must be {self.frames_step} * k + 1")
        if self.switches.lossy and not self.id.endswith("-turbo"):
            problems.append("lossy switches are allowed only in an entry whose id ends in -turbo")
        if self.family != "synthetic" and (not self.weights or self.architecture is None):
            problems.append(f"a {self.family} model needs weights and [architecture]")
        if self.family == "kandinsky6":
            problems += self._kandinsky6_problems()
        if self.family == "wan" and self.sound and self.vocabulary != "demo":
            problems.append("a wan model makes no sound; only the demo's is made from its pictures")
        if self.upscaler is not None and self.fps % self.upscaler.pace:
            problems.append("fps must be a multiple of the upscaler's pace")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _size_problems(self) -> list[str]:
        """Return the problems of `native` and `flow_shift`."""
        unit = self.architecture.spatial_scale * self.architecture.patch if self.architecture else 2
        problems = [f"native.{word}: no such resolution" for word in self.native if word not in RESOLUTIONS]
        problems += [f"flow_shift.{word}: no such resolution" for word in self.flow_shift if word not in RESOLUTIONS]
        for resolution, ratios in self.native.items():
            problems += [f"native.{resolution}.{ratio}: no such ratio" for ratio in ratios if ratio not in RATIOS]
            problems += [
                f"native.{resolution}.{ratio}: sides must be multiples of {unit}"
                for ratio, sides in ratios.items()
                if any(side <= 0 or side % unit for side in sides)
            ]
        return problems if self.native else ["native names no size"]

    def _mode_problems(self) -> list[str]:
        """Return the problems of the modes and the hand-over between segments."""
        problems = []
        if self.last_frame != "no" and "i2v" not in self.modes:
            problems.append("last_frame needs the mode i2v")
        if "extend" in self.modes and self.handover == "none":
            problems.append("the mode extend needs a handover")
        if self.handover != "none" and not 1 <= self.handover_frames < self.frames_max:
            problems.append("handover_frames must be smaller than frames_max")
        if self.handover != "none" and (self.handover_frames - 1) % self.frames_step:
            problems.append(f"handover_frames must be {self.frames_step} * k + 1")
        if self.handover == "none" and self.shot_seconds_max * self.native_fps > self.frames_max:
            problems.append("shot_seconds_max does not fit into one segment and there is no handover")
        return problems

    def _kandinsky6_problems(self) -> list[str]:
        """Return what a file of the family Kandinsky 6 asks for that the family does not have."""
        switches = self.switches
        problems = [
            f"kandinsky6 has no switches.{name}"
            for name in ("cfg_batch", "first_block_cache", "lora")
            if getattr(switches, name)
        ]
        if self.last_frame != "no" or self.handover_frames != 1 or {"v2v", "edit"} & set(self.modes):
            problems.append(
                "kandinsky6 is shown one frame, the first: it has no last_frame, v2v, edit or further frames"
            )
        if switches.compile and switches.trim_text:
            problems.append("compile needs trim_text = false: each length of text would be compiled anew")
        return problems

    def native_size(self, size: Size) -> tuple[int, int] | None:
        """Return the width and height in pixels that the model renders for a sold size, or None if it cannot."""
        return self.native.get(size.resolution, {}).get(size.ratio)

    def pixel_aspect(self, width: int, height: int) -> float:
        """Return how many times as wide as high the pixels of a native size are, in a film of the ratio it serves."""
        for ratios in self.native.values():
            for ratio, sides in ratios.items():
                if sides == (width, height):
                    wide, high = ratio.split(":")
                    return int(wide) * height / (int(high) * width)
        return 1.0

    @property
    def native_fps(self) -> int:
        """The frames per second that the model itself makes; an upscaler draws further ones between them."""
        return self.fps // self.upscaler.pace if self.upscaler else self.fps

    def pace(self, fps: int) -> int:
        """Return how many frames of a film at `fps` come from one native frame.

        Films that were made before the model had an upscaler are at its native rate: nothing is drawn between. Raises
        AppError `mode_unsupported` for a rate that the upscaler cannot draw.
        """
        if self.upscaler is None or fps == self.native_fps:
            return 1
        if fps == self.fps:
            return self.upscaler.pace
        message = f"{self.name} makes films of {self.native_fps} or {self.fps} frames per second, not of {fps}."
        raise AppError("mode_unsupported", message, model=self.id, fps=fps, allowed=[self.native_fps, self.fps])

    def native_frames(self, frames: int, fps: int) -> int:
        """Return how many native frames `frames` frames of a film at `fps` come from; raises as `pace` does."""
        return ceil(frames / self.pace(fps))

    def rendered_frames(self, frames: int) -> int:
        """Return the least number of native frames that the model can make which is no less than `frames`."""
        return ceil((frames - 1) / self.frames_step) * self.frames_step + 1

    def segments(self, frames: int, fps: int) -> tuple[int, ...]:
        """Split a shot of `frames` frames at `fps` into the new frames of each segment, as few and as equal as can be.

        Later segments also render the frames that they are shown (`handover_frames`), which are dropped again. Each
        begins with a native frame. Raises AppError `mode_unsupported` where the model cannot continue a segment and
        one does not suffice.
        """
        pace = self.pace(fps)
        if pace > 1:
            parts = [pace * part for part in self.segments(ceil(frames / pace), self.native_fps)]
            return (*parts[:-1], frames - sum(parts[:-1]))
        if frames <= self.frames_max:
            return (frames,)
        if self.handover == "none":
            message = f"{self.name} makes at most {self.frames_max} frames and cannot continue a shot."
            raise AppError("mode_unsupported", message, model=self.id, frames=frames, allowed=self.frames_max)
        fresh = self.frames_max - self.handover_frames
        count = 1 + ceil((frames - self.frames_max) / fresh)
        share, rest = divmod(frames, count)
        even = tuple(share + (index < rest) for index in range(count))
        if max(even) <= fresh:
            return even
        return (self.frames_max, *(fresh,) * (count - 2), frames - self.frames_max - fresh * (count - 2))


def parse_model(text: str, source: str) -> VideoModel:
    """Return the video model of a catalogue file. `source` names the file in the CatalogError."""
    try:
        return VideoModel.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise CatalogError(f"{source} is not valid TOML: {error}") from error
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc'])) or 'model'}: {each['msg']}" for each in error.errors()]
        raise CatalogError(f"{source}: " + "; ".join(problems)) from error


class Catalog(dict[str, VideoModel]):
    """Every video model by id, enabled or not, and the ids by alias."""

    def __init__(self, models: Mapping[str, VideoModel], aliases: Mapping[str, str]) -> None:
        super().__init__(models)
        self.aliases = aliases

    def find(self, name: str) -> VideoModel | None:
        """Return the model with this id or alias, or None."""
        return self.get(self.aliases.get(name, name))

    def aliases_of(self, model_id: str) -> list[str]:
        """Return the aliases of a model, in alphabetical order."""
        return sorted(name for name, target in self.aliases.items() if target == model_id)


@lru_cache(maxsize=8)
def load_catalog(extra_dir: Path | None = None) -> Catalog:
    """Return every video model by id: the shipped ones, then those of `extra_dir`, which may replace shipped ones.

    Raises CatalogError for a file that cannot be used, for two files of one folder with one id, and for aliases and
    successors that name no model.
    """
    models: dict[str, VideoModel] = {}
    aliases: dict[str, str] = {}
    shipped: list[Traversable] = sorted(files("app.catalog").iterdir(), key=lambda each: each.name)
    folders: list[list[Traversable]] = [shipped, [*sorted(extra_dir.glob("*.toml"))] if extra_dir else []]
    for folder in folders:
        seen: dict[str, str] = {}
        for entry in folder:
            if not entry.name.endswith(".toml") or entry.name in ("sizes.toml", POOL_FILE):
                continue
            text = entry.read_text(encoding="utf-8")
            if entry.name == ALIAS_FILE:
                aliases |= parse_aliases(text, str(entry))
                continue
            model = parse_model(text, str(entry))
            if model.id in seen:
                raise CatalogError(f"{entry} and {seen[model.id]} both define the model {model.id}")
            seen[model.id] = str(entry)
            models[model.id] = model
    check_aliases(aliases, models)
    load_pools(extra_dir)  # a file that cannot be used is found where the models are
    for model in models.values():
        if model.replaced_by and model.replaced_by not in models:
            message = f"there is no model {model.replaced_by!r}; allowed are the ids {', '.join(sorted(models))}"
            raise CatalogError(f"{model.id}: replaced_by: {message}")
    return Catalog(models, aliases)


def require_model(model_id: str, extra_dir: Path | None = None) -> VideoModel:
    """Return the enabled video model with this id. Raises AppError `unknown_model`, which lists the allowed ones."""
    enabled = {each.id: each for each in load_catalog(extra_dir).values() if each.enabled}
    if model_id not in enabled:
        message = f"There is no enabled video model {model_id!r}; enabled are {', '.join(sorted(enabled))}."
        raise AppError("unknown_model", message, field="model", value=model_id, allowed=sorted(enabled))
    return enabled[model_id]


def models_with(mode: Mode, extra_dir: Path | None = None) -> list[VideoModel]:
    """Return the enabled models that have a mode, for a refusal that names them and for `model: "auto"`."""
    return [each for each in load_catalog(extra_dir).values() if each.enabled and mode in each.modes]


def models_that_sound(extra_dir: Path | None = None) -> list[VideoModel]:
    """Return the enabled models that make sound, for a refusal that names them."""
    return [each for each in load_catalog(extra_dir).values() if each.enabled and each.sound]
