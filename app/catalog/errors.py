"""The error of a catalogue that cannot be used."""


class CatalogError(Exception):
    """A catalogue file that is not complete and consistent; the message names the file, the field and every problem."""
