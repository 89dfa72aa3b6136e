"""The sound that a finish keeps of the model is that of the clips, encoded anew only where something has changed."""

from pathlib import Path

import numpy as np
import pytest

from tests.factories import make_spec
from workers.film.encoding import SOUND_RATE
from workers.film.sound_file import read_sound, write_sound
from workers.film.soundtrack import ClipSound
from workers.finish_sound import make_sound


@pytest.mark.parametrize(("missing", "is_kept"), [(0, True), (480, False), (-480, False)])
def test_the_sound_of_one_whole_clip_is_kept_as_it_is(tmp_path: Path, missing: int, is_kept: bool) -> None:
    spec = make_spec(seconds=(2,)).model_copy(update={"sound": True})
    noise = np.random.default_rng(7).uniform(-0.1, 0.1, (2 * SOUND_RATE - missing, 2)).astype(np.float32)
    write_sound(tmp_path / "clip.flac", noise)
    sound = make_sound(spec, [ClipSound(tmp_path / "clip.flac", spec.frames)], None, tmp_path)
    assert sound.of_model is not None
    assert (sound.of_model == tmp_path / "clip.flac") == is_kept
    assert len(read_sound(sound.of_model)) == 2 * SOUND_RATE
    assert isinstance(sound.film, np.ndarray)
    assert len(sound.film) == 2 * SOUND_RATE
