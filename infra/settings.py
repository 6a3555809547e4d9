"""What can an operator set, and what holds when nothing is set?

Read once, at the edge (`api.cli`, `api.app`, `workers.app`), from `TRAM_*` variables or `.env`; everything below is handed
values.  With nothing set, the embedded default runs in `./tram-data`.
"""

import logging
import sys
from functools import cached_property
from hashlib import blake2s
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_LOOPBACK = "127.0.0.0/8,::1/128"
_BEGINNINGS = {
    "database_url": ("postgresql://", "postgres://", "postgresql+psycopg://", "sqlite:///"),
    "redis_url": ("redis://", "rediss://", "unix://"),
    "objects_url": ("s3://", "file:"),
    "engine_url": ("http://", "https://"),
}
_SOCKET_PATH_CHARACTERS = 100  # the kernel's limit on a Unix socket's path is 107


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="TRAM_", env_file=".env", extra="ignore", frozen=True)

    data_dir: Path = Field(
        Path("tram-data"), description="Where the embedded database, objects and Redis keep their files"
    )
    host: str = Field("127.0.0.1", description="Address the API listens on")
    port: int = Field(8700, ge=1, le=65535, description="Port the API listens on")
    public_url: str = Field("", description="What callers know the API by; empty: its host and port")
    database_url: str = Field("", description="`postgresql://…`; empty: SQLite in the data directory")
    redis_url: str = Field("", description="`redis://…`; empty: a server of our own in the data directory")
    objects_url: str = Field(
        "", description="`s3://bucket/prefix` or `file:/path`; empty: a directory in the data directory"
    )
    engine_url: str = Field(
        "", description="An OpenAI-compatible server to join; empty: SGLang is started from the card"
    )
    engine_model: str = Field("", description="What the joined engine calls its model; empty: what the card calls it")
    engine_env: Path | None = Field(
        None, description="Python environment SGLang lives in; empty: beside the one tram runs in"
    )
    engine_stuck_s: float = Field(
        60.0, gt=0, description="How long an engine of our own may make no token while it has requests, or not answer"
    )
    engine_deterministic: bool = Field(
        False,
        description="Starts SGLang with deterministic inference, slower, so that no answer depends on what runs beside it; GPUs only",
    )
    model: str = Field(
        "", description="Card of the model to serve; empty: the 24B where a GPU is, the demo model where not"
    )
    api_key: str = Field("", description="If set, the first start creates exactly this key")
    webhook_allow: str = Field(
        "",
        description="CIDRs webhooks and images' addresses may lie in though private, comma separated; empty: with SQLite loopback, else none",
    )
    concurrency: int = Field(0, ge=0, le=4096, description="Jobs one worker holds at once; 0: from the card")
    queue_most: int = Field(
        20_000,
        ge=1,
        description="Jobs of a model that may wait; beyond it, new ones are refused with 429 until there is room",
    )
    max_body_bytes: int = Field(4 << 20, ge=1024, description="Largest request body accepted")
    max_file_bytes: int = Field(512 << 20, ge=1024, description="Largest file accepted; files are not held in memory")
    drain_s: float = Field(
        30.0, gt=0, description="How long a stopping worker lets running jobs end before handing them back"
    )
    log_level: str = Field("info", description="debug, info, warning or error")

    @field_validator("webhook_allow")
    @classmethod
    def _networks_parse(cls, text: str) -> str:
        _networks(text)
        return text

    @field_validator(*_BEGINNINGS)
    @classmethod
    def _address_is_one(cls, text: str, told: ValidationInfo) -> str:
        beginnings = _BEGINNINGS[told.field_name or ""]
        if text and not text.startswith(beginnings):
            raise ValueError(f"it begins with one of {', '.join(beginnings)}")
        return text

    @field_validator("log_level")
    @classmethod
    def _level_is_one(cls, text: str) -> str:
        if text.upper() not in logging.getLevelNamesMapping():
            raise ValueError("it is debug, info, warning or error")
        return text

    @property
    def url(self) -> str:
        return self.public_url.rstrip("/") or f"http://{self.host}:{self.port}"

    @property
    def database(self) -> str:
        """SQLAlchemy's address of the database."""
        if not self.database_url:
            return f"sqlite:///{self.data_dir.absolute() / 'tramontane.db'}"
        scheme, _, rest = self.database_url.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in {"postgresql", "postgres"} else self.database_url

    @property
    def redis_socket(self) -> Path:
        """Where the embedded server listens when no `redis_url` is set."""
        path = self.data_dir.absolute() / "redis.sock"
        if len(str(path)) <= _SOCKET_PATH_CHARACTERS:
            return path
        return Path("/tmp") / f"tram-{blake2s(str(path).encode(), digest_size=8).hexdigest()}.sock"  # noqa: S108

    @property
    def redis(self) -> str:
        return self.redis_url or f"unix://{self.redis_socket}"

    @property
    def objects(self) -> str:
        return self.objects_url or f"file:{self.data_dir.absolute() / 'objects'}"

    @property
    def stores(self) -> dict[str, str]:
        """The addresses `infra.stores` opens."""
        return {"database_url": self.database, "redis_url": self.redis, "objects_url": self.objects}

    @property
    def engine_environment(self) -> Path:
        """SGLang's pins are its own, so is its environment: `.venv-engine` beside `.venv`."""
        prefix = Path(sys.prefix)
        return self.engine_env or prefix.with_name(prefix.name + "-engine")

    @cached_property
    def webhook_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """On the embedded default a receiver on this machine is what one tries first."""
        return _networks(self.webhook_allow or ("" if self.database_url else _LOOPBACK))


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
