"""In which order a run measures."""

from collections.abc import Awaitable, Callable

from bench.event_measures import (
    measure_confirm,
    measure_deliver,
    measure_drain,
    measure_outbox,
)
from bench.measures import Bench
from bench.night_loads import measure_locked, measure_night, measure_switch
from bench.night_measures import measure_close, measure_gate, measure_triggers
from bench.night_morning import measure_morning
from bench.packet_measures import measure_p, measure_q, measure_s

Step = Callable[[Bench], Awaitable[None]]

# Neighbours are compared: (b) and (e) with (a), (d) with (f).
ROUND: dict[str, Step] = {
    "b": Bench.measure_b,
    "a": Bench.measure_a,
    "e": Bench.measure_e,
    "d": Bench.measure_d,
    "f": Bench.measure_f,
    "c": Bench.measure_c,
    "g": Bench.measure_g,
    "p": measure_p,
}
AFTERWARDS: dict[str, Step] = {
    "long": Bench.measure_long,
    "q": measure_q,
    "s": measure_s,
    "h": Bench.measure_h,
    "confirm": measure_confirm,
    "deliver": measure_deliver,
    "drain": measure_drain,
    "outbox": measure_outbox,
    # The bank grows for (close), so what is compared with (a) comes before.
    "gate": measure_gate,
    "triggers": measure_triggers,
    "close": measure_close,
    "morning": measure_morning,
    "switch": measure_switch,
    "locked": measure_locked,
    "night": measure_night,
}
