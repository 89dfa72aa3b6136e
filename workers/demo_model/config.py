"""The demo model's constants: native sizes, frame rate, geometry. Catalogue and trainer share them."""

FPS = 8
"""Frames per second of every native clip."""

TEMPORAL = 4
"""Frames per latent frame after the first one (the first latent frame covers one frame)."""

SPATIAL = 8
"""Pixels per latent cell, in each direction; the transformer's patch doubles it, so sizes are multiples of 16."""

FRAMES_TRAINED = (17, 25, 33, 41)
"""Clip lengths in frames, all 4k+1, that training mixed; 41 frames hold the 40 frames of a 5-second shot."""

FRAMES_MAX = 41
"""Longest segment, in frames, that one call makes; longer shots are chained by continuation."""

CONTINUATION_FRAMES = 9
"""Frames of the previous segment, 4k+1, that a continuation is given: three clean leading latent frames."""

NATIVE_SIZES: dict[str, tuple[int, int]] = {
    "16:9": (112, 64),
    "9:16": (64, 112),
    "1:1": (80, 80),
    "4:3": (80, 64),
    "3:4": (64, 80),
}
"""Native width and height in pixels per ratio; the encode pipe scales them up, nothing is generated larger."""

DISPLAY_RATIOS: dict[str, float] = {"16:9": 16 / 9, "9:16": 9 / 16, "1:1": 1.0, "4:3": 4 / 3, "3:4": 3 / 4}
"""Width ÷ height of the film people see. Native pixels are slightly oblong where the two differ (anamorphic)."""

MAX_SEQUENCE_LENGTH = 24
"""Tokens that prompts are padded to, in training and in inference; the pipeline's default of 512 draws worse shapes."""

STEPS = 8
GUIDANCE = 3.0
SHIFT = 3.0
"""Sampling defaults: FlowMatchEuler steps, classifier-free guidance scale, timestep shift of the scheduler."""

WEIGHTS_BYTES_MAX = 20 * 1024 * 1024
"""The committed weights stay below this."""


def ratio_of(width: int, height: int) -> str:
    """The ratio whose native size is width x height in pixels, or else the nearest display ratio."""
    for ratio, size in NATIVE_SIZES.items():
        if size == (width, height):
            return ratio
    return min(DISPLAY_RATIOS, key=lambda name: abs(DISPLAY_RATIOS[name] - width / height))


def pixel_aspect(width: int, height: int) -> float:
    """Width ÷ height of one native pixel as people see it; 1.0 for sizes that are no native size."""
    ratio = ratio_of(width, height)
    if NATIVE_SIZES[ratio] != (width, height):
        return 1.0
    return DISPLAY_RATIOS[ratio] * height / width


def latent_frames(frames: int) -> int:
    """Latent frames of a clip of 4k+1 frames; raises ValueError for other lengths."""
    if frames < 1 or (frames - 1) % TEMPORAL:
        raise ValueError(f"A clip has 4k+1 frames, not {frames}.")
    return 1 + (frames - 1) // TEMPORAL
