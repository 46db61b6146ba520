"""In which order a run measures."""

from collections.abc import Awaitable, Callable

from bench.measures import Bench
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
}
