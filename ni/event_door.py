"""How events come in for a consumer: one small door, with RabbitMQ or PostgreSQL behind it.

`ni.deliveries` says what a door is.
"""

from __future__ import annotations

from ni.amqp_door import AmqpDoor
from ni.deliveries import ALL_TYPES, MAIN_QUEUE, Delivery, Door
from ni.embedded_door import EmbeddedDoor
from ni.settings import Settings

__all__ = ["ALL_TYPES", "MAIN_QUEUE", "Delivery", "Door", "open_door"]


def open_door(settings: Settings) -> Door:
    """RabbitMQ where NI_AMQP_URL is set, else PostgreSQL itself."""
    return AmqpDoor(settings) if settings.amqp_url else EmbeddedDoor(settings)
