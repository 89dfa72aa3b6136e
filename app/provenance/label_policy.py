"""The visible labels that an account's films may carry."""

from enum import StrEnum


class VisibleLabel(StrEnum):
    """What a film shows of being generated: nothing, a sign in a corner, China's text at the start, or the EU's icon.

    The sign and the icon stay for the whole film. The text is that of GB 45438-2025.
    """

    NONE = "none"
    CORNER_SIGN = "corner_sign"
    OPENING_TEXT = "gb45438"
    EU_ICON = "eu_icon"
