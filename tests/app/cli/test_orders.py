"""`cinemeter generate`: the file and the subject are checked before money moves; what `up` and `--help` print."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from app.cli.client import ApiError, Client
from app.cli.film import make_film
from app.cli.main import app
from app.cli.welcome import welcome_text
from tests.app.cli.service_fake import FakeService, fake_service
from tests.app.cli.test_client import ORDER, PRICE, order_goes_through

UNKNOWN = {"code": "unknown_subject", "message": "No subject that this model knows; it draws a circle.", "field": "f"}


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as service:
        yield service


def generate(service: FakeService, *arguments: object) -> Result:
    connection = ("--base-url", service.url, "--key", "k")
    return CliRunner().invoke(app, ["generate", *map(str, (*arguments, *connection))], env={"COLUMNS": "200"})


def answer_estimates(service: FakeService, *warnings: dict[str, Any]) -> None:
    service.add_answer("POST /v1/videos/estimates", {"book": "2026-04-27", **PRICE, "warnings": warnings})


@pytest.mark.parametrize("name", ["none/film.mp4", "."])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_ordered(
    service: FakeService, tmp_path: Path, name: str
):
    answer = generate(service, "a red circle", "--out", tmp_path / name)
    assert (answer.exit_code, "Nothing was ordered." in answer.stderr) == (1, True)
    assert service.received == []
    assert list(tmp_path.iterdir()) == []


def test_a_film_that_cannot_be_written_after_all_is_still_to_be_had(service: FakeService, tmp_path: Path):
    order_goes_through(service)
    with pytest.raises(ApiError, match=r"The film is made, but could not be written to .*Download it from x$"):
        make_film(Client(service.url, "k"), ORDER, tmp_path / "none" / "film.mp4", Console(file=StringIO()))


def test_an_unknown_subject_is_not_ordered_where_nobody_can_be_asked(service: FakeService, tmp_path: Path):
    answer_estimates(service, UNKNOWN)
    order_goes_through(service)
    target = tmp_path / "film.mp4"
    answer = generate(service, "golden retriever surfing", "--out", target)
    assert answer.exit_code == 1
    assert "warning No subject that this model knows; it draws a circle." in answer.stderr
    assert "pass --yes to order it anyway" in answer.stderr
    assert {each.path for each in service.received} == {"/v1/videos/estimates"}
    assert generate(service, "golden retriever surfing", "--out", target, "--yes").exit_code == 0
    assert target.exists()


def test_a_word_that_is_not_understood_is_said_and_the_film_is_ordered(service: FakeService, tmp_path: Path):
    answer_estimates(service, {**UNKNOWN, "code": "not_understood", "message": "Not understood: “surfing”."})
    order_goes_through(service)
    answer = generate(service, "a red circle surfing", "--out", tmp_path / "film.mp4")
    assert (answer.exit_code, "Not understood: “surfing”." in answer.stderr) == (0, True)


def test_a_price_with_a_comma_is_refused_with_how_to_write_it(service: FakeService):
    answer = generate(service, "a red circle", "--max-price", "12,5")
    assert (answer.exit_code, "Write it as 100 or 12.50." in answer.stderr) == (1, True)
    assert service.received == []


def test_the_help_lists_the_choices_and_the_version_is_printed():
    for command in ("generate", "quote"):
        text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).stdout
        for words in ("480P|720P|1080P", "16:9|9:16|1:1|4:3|3:4", "standard|flex|priority", "or auto"):
            assert words in text, (command, words)
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("cinemeter ")
    assert "--install-completion" in CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    assert "not a valid" not in CliRunner().invoke(app, ["quote", "--resolution", "720P", "--help"]).output


def test_up_prints_one_link_first_then_the_others_and_keys_by_name():
    links = {f"{name}@cinemeter.home": f"http://h/{name}" for name in ("admin", "creator", "pro")}
    record = {"base_url": "http://h", "keys": {"creator": "cm_live_1", "pro": "cm_live_2"}, "links": links}
    lines = welcome_text(record)
    with_links = [line for line in lines if "http://h/" in line]
    assert with_links[0] == "Open the studio → [bold]http://h/creator[/bold]"
    assert len(with_links) == 3
    assert "API keys: creator, pro. Show one: cinemeter keys show NAME" in lines
    assert "cm_live" not in "".join(lines)
    again = "\n".join(welcome_text({**record, "links": {}}))
    assert "Sign in at http://h/sign-in as one of creator@cinemeter.home" in again
