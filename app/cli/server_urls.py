"""The servers behind a command: the ones that settings name, those of a running home, or embedded ones of our own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.cli.embedded import RECORD, EmbeddedServers
from app.cli.home import claim_home, is_claimed, read_record
from app.settings import get_settings, set_environment


@contextmanager
def own_servers(home: Path) -> Iterator[EmbeddedServers | None]:
    """Hold the home and its servers for the block, and point the settings at them.

    Yields the embedded servers, so that the caller can tend them, or None where both URLs are set from outside.
    Raises `conflict` if the home is in use, `unavailable` if a server does not start.
    """
    settings = set_environment(home=home.absolute(), **_anchored())
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
    """Point the settings at working servers for one short command: outside ones, a running home's, or our own."""
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


def _anchored() -> dict[str, str]:
    """Return the settings that hold paths, made absolute: roles do not run where the command was typed."""
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
