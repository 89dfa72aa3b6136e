"""The servers that a command uses: those in the settings, those of a running home, or its own embedded ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.cli.embedded import RECORD, EmbeddedServers
from app.cli.home import claim_home, is_claimed, read_record
from app.settings import get_settings, set_environment


@contextmanager
def own_servers(home: Path) -> Iterator[EmbeddedServers | None]:
    """Lock the home, run its servers during the block, and set their URLs in the settings.

    Yields the embedded servers, so that the caller can restart them, or None if the settings name both servers.
    Raises AppError `conflict` if the home is in use, `unavailable` if a server does not start.
    """
    settings = set_environment(home=home.absolute(), **_absolute_paths())
    with claim_home(home):
        if settings.database_url and settings.redis_url:
            yield None
            return
        servers = EmbeddedServers(home)
        try:
            started = servers.start(database_url=settings.database_url, redis_url=settings.redis_url)
            set_environment(**started._asdict())
            yield servers
        finally:
            servers.stop()


@contextmanager
def any_servers(home: Path) -> Iterator[None]:
    """Set working server URLs for one short command: external servers, a running home's, or its own embedded ones."""
    settings = get_settings()
    if settings.database_url and settings.redis_url:
        set_environment(home=home.absolute())
        yield
    elif is_claimed(home):
        record = read_record(home / RECORD)
        set_environment(home=home.absolute(), database_url=record["database_url"], redis_url=record["redis_url"])
        yield
    else:
        with own_servers(home):
            yield


def _absolute_paths() -> dict[str, str]:
    """Return the settings that contain paths, made absolute, since roles run in another working directory."""
    settings = get_settings()
    paths: dict[str, str] = {}
    if settings.catalog_dir is not None:
        paths["catalog_dir"] = str(settings.catalog_dir.absolute())
    if "/" in settings.ffmpeg:
        paths["ffmpeg"] = str(Path(settings.ffmpeg).absolute())
    scheme, _, folder = settings.storage_url.partition(":")
    if scheme == "file" and not folder.startswith("//"):
        paths["storage_url"] = f"file:{Path(folder).absolute()}"
    return paths
