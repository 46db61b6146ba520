"""Every setting of NI: environment variables with the prefix NI_, each with unit and default.

docs/reference/settings.md lists them; a test holds the two together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from ni.errors import NiError

RUN_FILE: Final = "run.json"


class Settings(BaseSettings):
    """The settings of one process. Times are in the unit that ends their name."""

    model_config = SettingsConfigDict(env_prefix="NI_", extra="ignore")

    home: Path = Field(Path(".ni"), description="data and secrets of the embedded servers")
    database_url: str = Field("", description="PostgreSQL as ni_engine: API and workers")
    owner_database_url: str = Field("", description="PostgreSQL as ni_owner: migrations, clients")
    core_database_url: str = Field("", description="PostgreSQL as ni_core: the reference core")
    sms_database_url: str = Field("", description="PostgreSQL as ni_sms: the SMS notifier")
    redis_url: str = Field("", description="Valkey or Redis: rate limits; empty: none")
    amqp_url: str = Field("", description="RabbitMQ: events; empty: queues in PostgreSQL")
    buckets: int = Field(1, ge=1, le=1024, description="buckets of a new database")

    api_host: str = Field("127.0.0.1", description="address that the API listens on")
    api_port: int = Field(8080, ge=0, le=65535, description="port of the API; 0: any free one")
    api_docs: bool = Field(default=True, description="serve /docs; off in production")
    log_level: str = Field("info", description="debug, info, warning or error")

    lanes: int = Field(2, ge=1, le=64, description="writer lanes for single commands")
    turn_patience_ms: int = Field(20, ge=1, description="a lane waits for its turn at most")
    batch_lanes: int = Field(2, ge=1, le=64, description="writer lanes for batches")
    batch_slice: int = Field(250, ge=1, le=5000, description="commands in one transaction")
    queue_max: int = Field(10_000, ge=1, description="commands that may wait in one process")
    decision_timeout_ms: int = Field(2_000, ge=10, description="a decision begins within, else 503")
    lock_timeout_ms: int = Field(200, ge=1, description="wait for one lock before a new try")
    idle_in_transaction_timeout_ms: int = Field(
        1_000, ge=1, description="a stopped process frees its locks after"
    )
    transaction_timeout_ms: int = Field(
        2_000, ge=1, description="longest transaction of a lane; the same in every process"
    )
    retry_pause_ms: int = Field(5, ge=1, description="first pause before a new try; doubles")
    busy_pause_ms: int = Field(20, ge=1, description="pause while a packet takes a posting")
    connect_timeout_ms: int = Field(2_000, ge=10, description="opening one database connection")
    read_connections: int = Field(4, ge=1, le=64, description="connections for reads, each mode")

    atomic_items_max: int = Field(1_000, ge=1, le=1_000, description="items of an atomic batch")
    batch_items_max: int = Field(10_000, ge=1, description="items of an independent batch")
    body_max_bytes: int = Field(65_536, ge=1_024, description="largest body but a batch's")
    batch_body_max_bytes: int = Field(8_388_608, ge=1_024, description="largest body of a batch")
    body_timeout_ms: int = Field(10_000, ge=10, description="a request body arrives within")
    page_size_default: int = Field(50, ge=1, description="items of a page")
    page_size_max: int = Field(500, ge=1, description="items of the largest page")

    unload_connections: int = Field(2, ge=1, le=64, description="packets unloaded at one time")
    unload_timeout_s: int = Field(120, ge=1, description="longest unload, tries included")
    unload_lock_timeout_ms: int = Field(
        700, ge=1, le=900, description="wait for one lock; below the server's deadlock_timeout"
    )
    unload_pause_max_ms: int = Field(500, ge=1, description="longest pause between two tries")
    unload_queue_max: int = Field(100, ge=1, description="unloads asked for at one time, else 503")
    unload_postings_max: int = Field(1_000_000, ge=1, description="postings of one run")
    unload_culprits_max: int = Field(100, ge=1, description="core errors found in one search")
    stp_postings_max: int = Field(1_000, ge=1, description="postings of a straight-through packet")
    stp_interval_ms: int = Field(500, ge=10, description="a straight-through packet is cut after")
    stp_backoff_max_s: int = Field(30, ge=1, description="longest pause while the core refuses")

    drain_timeout_s: int = Field(60, ge=1, description="a close waits for running unloads")
    gate_timeout_ms: int = Field(
        125, ge=100, le=150, description="a switch waits for the gate, in one try"
    )
    gate_tries_max: int = Field(40, ge=1, description="tries of a switch for the gate")
    close_time: str = Field("", description="when the day closes, HH:MM; empty: no schedule")
    open_time: str = Field("", description="when it opens, HH:MM")
    day_timezone: str = Field("UTC", description="of these times, of holidays and weekends")
    holidays: str = Field("", description="dates on which nothing opens, YYYY-MM-DD, by comma")
    weekend: str = Field("sat,sun", description="weekdays on which nothing opens, by comma")

    night_copy_chunk: int = Field(500, ge=1, le=2_000, description="keys of one transaction")
    night_copy_share_percent: int = Field(
        30, ge=1, le=100, description="of the time, that one session copies"
    )
    night_copy_interval_ms: int = Field(1_000, ge=10, description="pause between two rounds")
    night_copy_close_ms: int = Field(
        2_000, ge=0, le=60_000, description="a close brings back what is noted, at most"
    )
    night_copy_check_rows: int = Field(
        500, ge=1, le=2_000, description="keys compared with the core in one round"
    )
    night_copy_keys_shown_max: int = Field(100, ge=1, description="differing keys told in a log")

    relay_window: int = Field(1_000, ge=1, le=10_000, description="events that wait for a confirm")
    relay_page: int = Field(1_000, ge=1, le=10_000, description="outbox rows read at one time")
    relay_poll_ms: int = Field(
        50, ge=1, description="pause between two looks into the outbox, and two removals"
    )
    relay_scan_s: int = Field(10, ge=1, description="the outbox is read from its start every")
    relay_lease_ms: int = Field(2_000, ge=500, description="a relay that stops is replaced after")
    relay_confirm_timeout_ms: int = Field(
        10_000, ge=100, description="the broker confirms within, else a new connection"
    )
    relay_backoff_max_s: int = Field(10, ge=1, description="longest pause while nothing passes")
    relay_stuck_max: int = Field(
        100_000, ge=1, description="accounts that wait for an event that nobody takes"
    )
    delivery_nice: int = Field(
        5, ge=0, le=19, description="relay and notifier leave processors to decisions by"
    )
    amqp_timeout_ms: int = Field(5_000, ge=100, description="RabbitMQ answers one call within")
    amqp_heartbeat_s: int = Field(
        1, ge=1, le=60, description="a silent connection to RabbitMQ ends after three of these"
    )
    event_attempts_max: int = Field(
        20, ge=1, le=1_000, description="deliveries of one event before it is put aside"
    )
    event_prefetch_max: int = Field(1_000, ge=1, description="events that one consumer may hold")
    event_lease_s: int = Field(
        30, ge=1, description="an event of a consumer that fell silent comes again after"
    )
    event_poll_ms: int = Field(50, ge=1, description="embedded queues: pause between two looks")
    event_queues_max: int = Field(100, ge=1, description="embedded queues that may exist")
    refused_events: bool = Field(default=False, description="tell refused debits as events")
    expiry_interval_ms: int = Field(200, ge=10, description="pause between looks for expired holds")

    sms_gateway_url: str = Field("", description="where texts are sent; empty: kept in a table")
    sms_gateway_token: SecretStr = Field(SecretStr(""), description="its bearer token; empty: none")
    sms_connections: int = Field(16, ge=1, le=256, description="texts sent at one time")
    sms_timeout_ms: int = Field(10_000, ge=10, description="the gateway answers within")
    sms_lease_s: int = Field(
        30, ge=1, description="past its time-out, a silent sender's text is tried again after"
    )
    sms_answer_max_bytes: int = Field(16_384, ge=64, description="largest answer that is read")
    sms_failures_max: int = Field(200, ge=1, description="failed tries of one text, then dead")
    sms_age_max_s: int = Field(86_400, ge=60, description="an older event is not told any more")
    sms_pause_ms: int = Field(1_000, ge=1, description="first pause before a new try; doubles")
    sms_pause_max_s: int = Field(60, ge=1, description="longest pause, the gateway's wish too")
    sms_gap_max_s: int = Field(
        60, ge=0, description="a text waits for changes before it that have not arrived"
    )
    sms_interval_ms: int = Field(100, ge=10, description="pause between looks for texts to send")
    sms_batch: int = Field(100, ge=1, le=1_000, description="events taken in one transaction")
    sms_gather_ms: int = Field(50, ge=0, description="events that come within are taken together")
    sms_waiting_max: int = Field(1_000_000, ge=1, description="texts that wait; then events do")
    sms_account_waiting_max: int = Field(
        1_000, ge=1, le=100_000, description="of these, of one account; more are dead"
    )
    sms_inbox_max: int = Field(
        2_000_000, ge=1, le=10_000_000, description="ids of events that are remembered"
    )
    sms_keep_days: int = Field(30, ge=1, description="texts are shown after they are done")
    sms_prune_step: int = Field(1_000, ge=1, description="rows forgotten in one step")
    sms_prune_interval_s: int = Field(60, ge=1, description="pause between rounds of forgetting")
    sms_sessions: int = Field(8, ge=2, le=64, description="database connections of one notifier")

    client_refresh_s: int = Field(5, ge=1, description="a new or disabled key is noticed within")
    rate_limit_per_s: int = Field(50_000, ge=0, description="requests of one client; 0: no limit")
    redis_timeout_ms: int = Field(50, ge=1, description="wait for Valkey before going on without")

    request_keep_days: int = Field(30, ge=30, description="idempotency keys are kept")
    below_limit_keep_days: int = Field(
        90, ge=1, description="accounts that a night left below their limit are kept"
    )
    housekeeping_interval_ms: int = Field(500, ge=10, description="pause between sweeps")
    housekeeping_step: int = Field(500, ge=1, description="rows of one housekeeping step")

    embedded_user: str = Field("", description="user of the embedded servers when NI is root")
    embedded_dir: Path = Field(
        Path("/var/lib/ni"), description="programs and data that this user cannot reach elsewhere"
    )
    embedded_start_timeout_s: int = Field(120, ge=1, description="an embedded server starts within")
    embedded_stop_timeout_s: int = Field(30, ge=1, description="a server stops within, else killed")
    embedded_max_connections: int = Field(200, ge=20, description="connections to PostgreSQL")
    embedded_shared_buffers_mib: int = Field(256, ge=16, description="PostgreSQL's shared_buffers")
    embedded_max_wal_mib: int = Field(2_048, ge=128, description="PostgreSQL's max_wal_size")
    embedded_valkey_mib: int = Field(256, ge=8, description="Valkey's maxmemory")


def load_settings() -> Settings:
    """The settings of the environment; what it leaves open of the servers comes from run.json.

    Raises NiError when run.json is there and cannot be read.
    """
    settings = Settings()
    run_file = settings.home / RUN_FILE
    try:
        run = json.loads(run_file.read_text())
    except FileNotFoundError:
        return settings
    except (OSError, ValueError) as error:
        raise NiError(f"{run_file} cannot be read: {error}. Who runs NI may read it") from error
    found = {
        "database_url": settings.database_url or run.get("engine_dsn", ""),
        "owner_database_url": settings.owner_database_url or run.get("postgres_dsn", ""),
        "core_database_url": settings.core_database_url or run.get("core_dsn", ""),
        "sms_database_url": settings.sms_database_url or run.get("sms_dsn", ""),
        "redis_url": settings.redis_url or run.get("redis_url", ""),
    }
    return settings.model_copy(update=found)
