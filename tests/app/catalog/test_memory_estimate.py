"""Predictions from sizes: operations agree with published counts, memory orders models as they are."""

import pytest

from app.catalog.memory_estimate import forward_flops, predict_peak, tokens
from app.catalog.models import load_catalog


@pytest.mark.parametrize(
    ("model_id", "width", "height", "tflop"),
    # Counted by torch's FlopCounterMode on WanTransformer3DModel, 81 frames.
    [
        ("wan2.1-t2v-1.3b", 832, 480, 283.0),
        ("wan2.1-t2v-1.3b", 1280, 720, 1249.8),
        ("wan2.1-t2v-14b", 832, 480, 1678.4),
        ("wan2.1-t2v-14b", 1280, 720, 6523.4),
    ],
)
def test_operations_of_a_forward_pass(model_id: str, width: int, height: int, tflop: float) -> None:
    model = load_catalog()[model_id]
    assert forward_flops(model, width, height, 81) / 1e12 == pytest.approx(tflop, rel=2e-3)


def test_tokens() -> None:
    sizes = load_catalog()["wan2.1-t2v-1.3b"].architecture
    assert sizes is not None
    assert tokens(sizes, 832, 480, 81) == 32760
    assert tokens(sizes, 1280, 720, 81) == 75600


def test_memory_grows_with_the_picture_and_the_model() -> None:
    small, large = load_catalog()["wan2.1-t2v-1.3b"], load_catalog()["wan2.1-t2v-14b"]
    assert predict_peak(small, 832, 480, 81).total < predict_peak(small, 1280, 720, 81).total
    assert predict_peak(small, 832, 480, 81).total < predict_peak(large, 832, 480, 81).total
    both = predict_peak(load_catalog()["wan2.2-t2v-a14b"], 832, 480, 81)
    assert both.weights > predict_peak(large, 832, 480, 81).weights + 25e9


def test_known_models_fit_the_gpus_they_are_known_to_fit() -> None:
    """Published: 1.3B runs on 24 GB at 480P with its text encoder resident; A14B at 720P needs more than 60 GB."""
    catalog = load_catalog()
    assert predict_peak(catalog["wan2.1-t2v-1.3b"], 832, 480, 81).total < 24 * 2**30
    assert predict_peak(catalog["wan2.2-t2v-a14b"], 1280, 720, 81).total > 60 * 2**30
    assert predict_peak(catalog["wan2.2-t2v-a14b"], 1280, 720, 81).total < 141 * 10**9


def test_offload_keeps_one_part_on_the_device() -> None:
    model = load_catalog()["wan2.2-t2v-a14b"]
    offloaded = model.model_copy(update={"switches": model.switches.model_copy(update={"offload": "model"})})
    assert predict_peak(offloaded, 832, 480, 81).weights < predict_peak(model, 832, 480, 81).weights / 2


def test_what_stays_in_float32_counts_as_such() -> None:
    """Published: the folder of Kandinsky 6 Pro's transformer has 70 GB, of which 9 are the second half of float32."""
    pro = load_catalog()["kandinsky6-pro"]
    assert pro.architecture is not None
    others = pro.architecture.text_params * 2 + pro.architecture.vae_params * 4
    transformer = predict_peak(pro, 864, 480, 121).weights - others
    assert transformer == pytest.approx(70e9, rel=0.01)


def test_a_codec_that_decodes_in_tiles_needs_more_than_one_that_streams() -> None:
    lite = load_catalog()["kandinsky6-lite"]
    full = lite.model_copy(update={"switches": lite.switches.model_copy(update={"vae_dtype": "float32"})})
    half, whole = (predict_peak(each, 864, 480, 121).decode for each in (lite, full))
    assert whole == 2 * half
    assert half > predict_peak(load_catalog()["wan2.1-t2v-14b"], 832, 480, 121).decode


def test_a_model_without_weights_has_nothing_to_predict() -> None:
    with pytest.raises(ValueError, match="no architecture"):
        predict_peak(load_catalog()["synthetic"], 64, 64, 1)
