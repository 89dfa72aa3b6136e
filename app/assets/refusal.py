"""Why a customer's file is not used."""


class RefusedError(Exception):
    """The file cannot be used. The message ends the sentence `The file was refused: …`, and its owner reads it."""
