"""The studio says when a model retires, and the console shows aliases and ends."""

from tests.app.web.conftest import Site
from tests.app.web.test_studio import FILM
from tests.model_folder import ModelFolder


def test_the_studio_and_the_console_show_the_end_of_a_model(site: Site, models: ModelFolder) -> None:
    models.alias(best="second")
    models.write("second", "retires_at = 2036-01-01T12:00:00Z", 'replaced_by = "first"')
    models.write("gone", "retires_at = 2026-01-01T00:00:00Z")
    customer, operator = site.browser("alice"), site.browser("author")
    customer.get("/studio?model=best")
    assert "(retires 1 Jan 2036)" in customer.text()
    customer.send("/studio/orders", {**FILM, "model": "best"})
    customer.get("/films")
    assert customer.page is not None
    video_id = customer.page.text.partition('href="/films/')[2].partition('"')[0]
    customer.get(f"/films/{video_id}")
    assert "second (ordered as best)" in customer.text()
    operator.get(f"/admin/films/{video_id}")
    assert "second (ordered as best)" in operator.text()
    operator.get("/admin/workers")
    text = operator.text()
    assert "gone retired" in text
    assert "second best – 1 Jan 2036 first" in text
