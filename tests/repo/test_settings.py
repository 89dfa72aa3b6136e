"""Settings: few, described, and read in one place."""

from app.settings import Settings


def test_there_are_few_and_each_says_what_it_does():
    assert len(Settings.model_fields) <= 51
    for name, field in Settings.model_fields.items():
        assert (field.description or "").endswith("."), name


def test_every_setting_has_a_default():
    """A bare machine needs no environment at all."""
    assert not [name for name, field in Settings.model_fields.items() if field.is_required()]
