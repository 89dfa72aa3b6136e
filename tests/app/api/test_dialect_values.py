"""Values that clients may send in the fields of other servers: large numbers, line breaks, JSON inside text."""

from typing import Any

import pytest

from app.api.inline_files import as_data_url
from app.api.videos.dialects import parse_whole, translate_dialect
from app.api.videos.translate import remove_empty_prompt, resolve_lists
from app.errors import AppError
from tests.api_client import World
from tests.app.api.test_lenient import URL as PICTURE

URL = "https://example.com/a.png"
ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars"}


def translated(changes: dict[str, Any], *, is_strict: bool = False) -> dict[str, Any]:
    values = {**ORDER, **changes}
    translate_dialect(values, is_strict=is_strict)
    return values


def refused_field(changes: dict[str, Any], *, is_strict: bool = False) -> str | None:
    with pytest.raises(AppError) as refused:
        translated(changes, is_strict=is_strict)
    assert refused.value.code == "invalid_request"
    return refused.value.field


def test_a_whole_number_is_read_from_digits() -> None:
    values = (5, "5", " 5 ", "5.0", "5.", "+5", "-5")
    assert [parse_whole(value) for value in values] == [5, 5, 5, 5, 5, 5, -5]
    for value in (None, True, 5.0, "", "5.5", "1e1", "1e5000", "1e9999999", "1_0", "9" * 10, 10**10, "NaN", [5]):
        assert parse_whole(value) is None, value


@pytest.mark.parametrize("field", ["width", "height", "num_frames"])
@pytest.mark.parametrize("number", ["1e5000", "1e9999999"])
def test_an_exponent_is_refused(field: str, number: str) -> None:
    sides = {"width": "832", "height": "480"} if field != "num_frames" else {}
    assert refused_field({**sides, field: number}) == ("num_frames" if field == "num_frames" else "width")


@pytest.mark.parametrize(
    ("field", "native"), [("n", "n"), ("num_outputs_per_prompt", "n"), ("duration", "seconds"), ("fps", "fps")]
)
def test_an_exponent_is_left_to_the_schema(field: str, native: str) -> None:
    assert translated({field: "1e9999999"}, is_strict=True)[native] == "1e9999999"


def test_bare_base64_may_have_line_breaks_anywhere() -> None:
    text = ("A" * 76 + "\r\n") * 3 + "AA=\n=\n"
    assert as_data_url(text) == "data:;base64," + "A" * 230 + "=="


def test_many_line_breaks_are_read_at_once() -> None:
    text = "\n" * 1_000_000 + "!"
    assert as_data_url(text) == text


@pytest.mark.parametrize("escape", ["\\u0000", "\\ud800"])
def test_json_inside_text_is_checked_as_the_body_is(escape: str) -> None:
    text = f'{{"scene": "a{escape}"}}'
    for name in ("metadata", "extra_params", "input_reference"):
        assert refused_field({name: text}) == f"{name}.scene"
    with pytest.raises(AppError) as refused:
        resolve_lists({"shots": f"[{text}]"})
    assert refused.value.field == "shots.0.scene"


def test_an_empty_name_chooses_no_model() -> None:
    assert translated({"model": ""})["model"] == ""


def test_a_size_that_is_no_text_contradicts_width_and_height() -> None:
    assert refused_field({"size": 5, "width": 832, "height": 480}) == "width"


@pytest.mark.parametrize(
    "reference",
    [{"name": "x"}, {}, "{}", [URL, URL], 5],
    ids=["unknown key", "empty", "empty text", "several", "number"],
)
def test_a_reference_without_one_picture_is_refused(reference: Any) -> None:
    values = {"input_reference": reference}
    remove_empty_prompt(values)
    assert refused_field(values) == "input_reference"


@pytest.mark.parametrize(
    "reference", [URL, [URL], {"image_url": {"url": URL}}, f'{{"image_url": "{URL}"}}', [{"url": URL}]]
)
def test_a_reference_is_the_first_frame(reference: Any) -> None:
    values = {"input_reference": reference}
    remove_empty_prompt(values)
    assert translated(values)["first_frame"] == URL


def test_a_form_names_a_picture_as_json_text_or_is_refused(world: World) -> None:
    for reference, status in ((f'{{"image_url": "{PICTURE}"}}', 200), ('{"name": "x"}', 422)):
        form = {**ORDER, "seconds": "1", "resolution": "480P", "input_reference": reference}
        answer = world.app.post("/v1/videos/estimates", data=form, headers={"Authorization": f"Bearer {world.alice}"})
        assert answer.status_code == status, answer.text
        assert status != 200 or answer.json()["resolved"]["mode"] == "i2v"


@pytest.mark.parametrize(
    "changes",
    [{"num_frames": 32, "fps": 16}, {"seconds": 2, "fps": "16"}, {"model": "auto", "num_frames": 48, "fps": 24}],
    ids=["frames", "seconds", "any model"],
)
@pytest.mark.parametrize("is_strict", [True, False], ids=["strict", "lenient"])
def test_a_frame_rate_that_sets_nothing_is_removed(changes: dict[str, Any], is_strict: bool) -> None:
    values = translated(changes, is_strict=is_strict)
    assert (values["seconds"], "fps" in values) == (2, False)


def test_another_frame_rate_than_the_models_is_left_to_strict_handling() -> None:
    values = {**ORDER, "num_frames": 48, "fps": 24}
    assert translated(values, is_strict=True)["fps"] == 24
    [warning] = translate_dialect(values, is_strict=False)
    assert (warning.code, warning.field) == ("set_by_model", "fps")
