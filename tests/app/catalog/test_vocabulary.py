from app.catalog.demo_terms import model_prompt, prompt_terms
from app.catalog.models import load_catalog

CATALOG = load_catalog()


def test_a_closed_vocabulary_uses_the_nearest_words_and_reports_them():
    [terms] = prompt_terms(CATALOG["demo"], ["a crimson ball drifts leftwards over the sea"]) or [[]]
    assert {(term["taken"], term["kind"]) for term in terms} >= {("red", "color"), ("circle", "shape")}
    assert "red circle" in model_prompt(CATALOG["demo"], "a crimson ball drifts leftwards over the sea")


def test_an_open_vocabulary_receives_the_prompt_unchanged():
    assert model_prompt(CATALOG["synthetic"], "anything at all") == "anything at all"
    assert prompt_terms(CATALOG["synthetic"], ["anything"]) is None
