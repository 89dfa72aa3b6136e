"""The visible labels that an account's films may carry."""

from collections.abc import Mapping
from enum import StrEnum


class VisibleLabel(StrEnum):
    """What a film shows of being generated: nothing, a sign in a corner, China's text at the start, or the EU's icon.

    The sign and the icon stay for the whole film. The text is that of GB 45438-2025.
    """

    NONE = "none"
    CORNER_SIGN = "corner_sign"
    OPENING_TEXT = "gb45438"
    EU_ICON = "eu_icon"


# As people read them.
LABEL_TITLES: Mapping[VisibleLabel, str] = {
    VisibleLabel.NONE: "No visible label",
    VisibleLabel.CORNER_SIGN: "AI sign in a corner",
    VisibleLabel.OPENING_TEXT: "AI生成 at the start (GB 45438-2025)",
    VisibleLabel.EU_ICON: "AI icon (EU)",
}
