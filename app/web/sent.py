"""What was typed into a form that was refused: the same page comes again, and nothing has to be typed twice."""

from dataclasses import dataclass

from starlette.datastructures import FormData

from app.web.visitor import text_of, texts_of


@dataclass(frozen=True)
class Sent:
    """A form as it was sent, or none. On a page with several forms, `place` names the one that was sent."""

    form: FormData | None = None
    place: str = ""

    def text(self, name: str, default: object = "", *, of: str = "") -> object:
        """Return what stands in a field: what was typed, or else what the page starts with."""
        return default if self.form is None or of != self.place else text_of(self.form, name)

    def has(self, name: str, value: object, default: bool = False, *, of: str = "") -> bool:
        """Say whether a box is ticked, or a choice made."""
        return default if self.form is None or of != self.place else str(value) in texts_of(self.form, name)


NOTHING_SENT = Sent()
