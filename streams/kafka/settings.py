"""The settings of every Kafka client: from the environment, overridden by the command line."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class KafkaSettings(BaseSettings):
    """Which cluster to use, and which of several installations on it."""

    model_config = SettingsConfigDict(env_prefix="PARCELS_", populate_by_name=True, frozen=True)

    bootstrap: str = Field(
        default="127.0.0.1:9092",
        validation_alias="KAFKA_BOOTSTRAP_SERVERS",
        description="Kafka brokers, host:port, separated by commas.",
    )
    prefix: str = Field(
        default="",
        pattern=r"^[a-zA-Z0-9._-]{0,80}$",
        description="Put before every topic, group and transactional id: several installations can share a cluster.",
    )
