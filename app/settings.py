"""All settings of the service, read from the environment only here (prefix CINEMETER_)."""

import contextlib
import os
import secrets
import tempfile
from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The settings of an operator. Business values are in the price book and the database, not here."""

    model_config = SettingsConfigDict(env_prefix="CINEMETER_", extra="ignore", frozen=True)

    home: Path = Field(Path(".cinemeter"), description="Folder for embedded servers, local files and keys.")
    database_url: str = Field("", description="PostgreSQL URL; empty starts an embedded server under the home.")
    database_prepare: bool = Field(
        True,
        description="Prepare statements that repeat; switch off behind PgBouncer older than 1.21 in transaction mode.",
    )
    database_ping_seconds: float = Field(
        3.0,
        ge=0,
        description="A connection that leaves the pool must answer a check within so many seconds; 0 asks nothing.",
    )
    redis_url: str = Field("", description="Redis URL; empty starts an embedded server under the home.")
    storage_url: str = Field(
        "", description="file:/folder or s3://bucket/prefix?endpoint=URL; empty keeps files under the home."
    )
    s3_access_key: str = Field("", description="S3 access key; empty uses boto3's own credentials.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="S3 secret key.")
    host: str = Field("127.0.0.1", description="IP address that the API and /metrics listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on; 0 chooses a free one.")
    api_processes: int = Field(
        0,
        ge=0,
        le=1024,
        description="Processes of the API that share its port; 0 is one for each processor, at most 8.",
    )
    public_url: str = Field(
        "",
        description="Base URL that customers use, for links in events and answers; empty derives it from host and port.",
    )
    trusted_proxies: str = Field(
        "",
        description="Proxies in front of the API whose X-Forwarded-For and -Proto are trusted (addresses or CIDR, separated by commas); empty trusts none.",
    )
    secret: SecretStr = Field(
        SecretStr(""), description="Secret that signs file links and sessions; empty makes one under the home."
    )
    signing_key: Path | None = Field(
        None,
        description="PEM file that signs the manifests of films: a private key without a passphrase, then its C2PA certificate and those that issued it; empty makes a development certificate under the home.",
    )
    producer: str = Field(
        "Cinemeter",
        min_length=1,
        max_length=100,
        description="Name or provider code of the operator, in the marks of every film (GB 45438: ContentProducer).",
    )
    visible_label: str = Field(
        "none",
        pattern="^(none|corner_sign|gb45438|eu_icon)$",
        description="Visible label of the films of accounts that have none of their own: none, corner_sign, gb45438 (text at the start) or eu_icon.",
    )
    moderation_policy: Path | None = Field(
        None,
        description="TOML file with the operator's policy of moderation: the server and the classifier that check words and pictures besides the shipped rules, and what repeaters may; empty: the rules alone.",
    )
    body_bytes_max: int = Field(
        33_554_432, ge=1024, description="Largest request body, in bytes, outside asset uploads."
    )
    billing_zone: str = Field("Asia/Shanghai", description="Time zone of billing months and price windows.")
    quote_seconds: int = Field(900, ge=1, description="Validity of a quote, in seconds.")
    quotes_open_max: int = Field(10, ge=1, description="Films in open quotes an account may have at once.")
    lease_seconds: int = Field(
        45, ge=2, description="Lease of a take, in seconds; a worker without a heartbeat for longer loses it."
    )
    heartbeat_seconds: float = Field(10.0, gt=0, description="Pause between a worker's heartbeats, in seconds.")
    stall_seconds: int = Field(
        600, ge=5, description="A take whose steps do not advance for so long stops renewing its lease, in seconds."
    )
    drain_seconds: float = Field(
        20.0,
        ge=0,
        description="Time that a stopping worker has to end its take before it releases it, in seconds.",
    )
    takes_lost_max: int = Field(4, ge=1, description="Takes of one segment that may be lost before the job fails.")
    takes_error_max: int = Field(
        2, ge=1, description="Takes of one segment that may end in an error before the job fails."
    )
    sweep_seconds: float = Field(1.0, gt=0, description="Pause between two rounds of the scheduler, in seconds.")
    affinity_seconds: int = Field(
        120, ge=0, description="Virtual GPU-seconds by which a resident model may jump the fair order."
    )
    pools: str = Field(
        "finish,demo,synthetic",
        description="Pools that a worker serves, separated by commas, in the order in which it claims from them.",
    )
    device: str = Field(
        "", description="Torch device of a worker (cuda:0, cpu); empty uses the first GPU, else the CPU."
    )
    ffmpeg: str = Field("", description="Path of the ffmpeg binary; empty uses the one of imageio-ffmpeg.")
    catalog_dir: Path | None = Field(None, description="Folder with further video models as TOML files.")
    webhook_allow_private: bool = Field(
        False, description="Allow webhooks and fetches to private addresses; for development only."
    )
    egress_proxy: str = Field("", description="HTTP proxy for all outgoing requests.")
    egress_deny: str = Field(
        "", description="Further networks that webhooks and fetches must not reach (CIDR, separated by commas)."
    )
    webhook_timeout_seconds: float = Field(15.0, gt=0, description="Total timeout of one webhook attempt, in seconds.")
    webhook_log_days: int = Field(
        30, ge=4, description="Days for which ended deliveries and their attempts are kept; events are kept for ever."
    )
    courier_parallel: int = Field(100, ge=1, description="Maximum deliveries in flight per courier.")
    top_up_max: str = Field(
        "100000.00",
        pattern=r"^[0-9]{1,12}(\.[0-9]{1,2})?$",
        description="Largest amount that one operator adds to a wallet alone, in the account's currency (decimal); above it a second operator approves.",
    )
    gpu_second_cost: str = Field(
        "0.0023", description="Cost of one GPU-second in the book's currency, for margins (decimal)."
    )
    usd_rate: str = Field(
        "",
        pattern=r"^([1-9][0-9]{0,8}(\.[0-9]{1,9})?|0\.[0-9]{0,8}[1-9])?$",
        description="US dollars for one unit of the book's currency (decimal), for the cost headers that gateways read; empty sends none.",
    )
    signup: str = Field(
        "invitation",
        pattern="^(open|invitation|closed)$",
        description="Who may open an account: open, invitation or closed.",
    )
    log_format: str = Field("text", pattern="^(text|json)$", description="Log lines as text or json.")
    log_level: str = Field("INFO", description="Minimum level that is logged.")
    otlp_endpoint: str = Field("", description="OpenTelemetry collector (OTLP over HTTP); empty sends no traces.")
    synthetic_faults: Path | None = Field(
        None,
        description="Folder whose files break renders of the synthetic model, each file one render; for tests and drills only.",
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65531,
        description="Port of /metrics of each role (under `up`: this one for the api, the next ones for scheduler, courier, worker); 0 serves none.",
    )
    worker_name: str = Field(
        "",
        max_length=64,
        pattern="^[A-Za-z0-9._-]*$",
        description="Name of this host in the ids of its workers, where host names are not unique: a pod's uid. Empty: the host name.",
    )
    clock_offset_seconds: int = Field(0, description="Shift of the service's clock, for tests and drills, in seconds.")

    def api_process_count(self) -> int:
        """Return how many processes the API has: as many as set, else one for each of up to 8 processors."""
        return self.api_processes or min(8, len(os.sched_getaffinity(0)))

    def storage(self) -> str:
        """Return the storage URL, which defaults to a folder under the home."""
        return self.storage_url or f"file:{self.home.absolute() / 'files'}"

    def secret_key(self) -> bytes:
        """Return the service's secret; when none is set, one is created under the home, readable only by its owner.

        Processes on several machines must share one secret, so there it has to be set.
        """
        if self.secret.get_secret_value():
            return self.secret.get_secret_value().encode()
        path = self.home.absolute() / "secret"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".secret-", delete=False) as draft:
                draft.write(secrets.token_urlsafe(48))
            # Linking is atomic and never replaces: where several processes start at once, the first secret stays.
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(draft.name)
            Path(draft.name).unlink()
        return path.read_bytes()

    def base_url(self) -> str:
        """Return the base URL that customers use, without a trailing slash."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the settings of this process, read once."""
    return Settings()


def set_environment(**values: object) -> Settings:
    """Set settings by name for this process and every child it starts, and return the new settings.

    For the command line, which learns URLs (for example of embedded servers) only after it has started.
    """
    os.environ.update({f"CINEMETER_{name.upper()}": str(value) for name, value in values.items()})
    get_settings.cache_clear()
    return get_settings()


def keep_from_children(variable: str) -> None:
    """Remove a variable that a library has set from the environment of this process and its children."""
    os.environ.pop(variable, None)


def child_environment(**values: object) -> dict[str, str]:
    """Return this process's environment for a child, with these settings by name added."""
    return {**os.environ, **{f"CINEMETER_{name.upper()}": str(value) for name, value in values.items()}}
