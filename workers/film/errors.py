"""What goes wrong with films, in words."""


class FilmError(Exception):
    """A film could not be made or read. The message ends with ffmpeg's own last words where it had any."""
