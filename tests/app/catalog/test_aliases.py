"""Aliases and the life of models in the catalogue: what is read, and what is refused when it is loaded."""

from pathlib import Path

import pytest

from app.catalog.errors import CatalogError
from app.catalog.models import load_catalog, parse_model
from tests.app.catalog.test_models import MINIMAL


def test_an_alias_finds_its_model(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(MINIMAL, encoding="utf-8")
    (tmp_path / "aliases.toml").write_text('[alias]\n"sora-2" = "tiny"\nNew_One = "tiny"\n', encoding="utf-8")
    catalog = load_catalog(tmp_path)
    assert catalog.find("sora-2") is catalog["tiny"]
    assert catalog.find("tiny") is catalog["tiny"]
    assert catalog.find("sora-3") is None
    assert "sora-2" not in catalog, "an alias is no model of its own"
    assert catalog.aliases_of("tiny") == ["New_One", "sora-2"]
    assert load_catalog().aliases == {}, "as shipped there is none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[alias]\nsora = "nothing"', r"alias.sora: there is no model 'nothing'; allowed are the ids demo, "),
        ('[alias]\na = "b"\nb = "tiny"', "alias.a: b is an alias itself; allowed are the ids "),
        ('[alias]\na = "a"', "alias.a: a is an alias itself"),
        ('[alias]\ndemo = "tiny"', "alias.demo: is the id of a model"),
        ('[alias]\nauto = "tiny"', "alias.auto: .*is not auto"),
        ('[alias]\n"a/b" = "tiny"', "alias.a/b: a name has up to 64 letters"),
        ("[alias]\na = 1", "alias.a: must be the id of a model"),
        ('alias = "tiny"', "alias must be a table"),
        ('[aliases]\na = "tiny"', r"aliases: unknown; only the table \[alias\] is allowed"),
        ("[alias", "not valid TOML"),
    ],
)
def test_a_wrong_alias_is_refused_with_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "tiny.toml").write_text(MINIMAL, encoding="utf-8")
    (tmp_path / "aliases.toml").write_text(text, encoding="utf-8")
    with pytest.raises(CatalogError, match=message) as problem:
        load_catalog(tmp_path)
    assert "aliases.toml" in str(problem.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "deprecated_at = 2027-03-01T00:00:00Z\nretires_at = 2027-02-01T00:00:00Z",
            r"retires_at must not be before deprecated_at \(2027-03-01T00:00:00\+00:00\)",
        ),
        ("retires_at = 2027-02-01T00:00:00", "retires_at: .*timezone"),
        ("retires_at = 2027-02-01", "retires_at: "),
        ('replaced_by = "demo"', "replaced_by needs deprecated_at or retires_at"),
        ('retires_at = 2027-02-01T00:00:00Z\nreplaced_by = "tiny"', "replaced_by must name another model"),
    ],
)
def test_wrong_dates_of_a_model_are_refused(lines: str, message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        parse_model(MINIMAL.replace("steps = 4", f"steps = 4\n{lines}", 1), "tiny.toml")


def test_an_unknown_successor_is_refused_with_the_ids(tmp_path: Path) -> None:
    (tmp_path / "aliases.toml").write_text('[alias]\nnewer = "demo"\n', encoding="utf-8")
    for successor in ("nothing", "newer"):
        lines = f'steps = 4\nretires_at = 2027-02-01T00:00:00Z\nreplaced_by = "{successor}"'
        (tmp_path / "tiny.toml").write_text(MINIMAL.replace("steps = 4", lines, 1), encoding="utf-8")
        load_catalog.cache_clear()
        with pytest.raises(CatalogError, match=f"tiny: replaced_by: there is no model '{successor}'; allowed are "):
            load_catalog(tmp_path)
