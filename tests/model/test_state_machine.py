"""The real API on a real database against the model, step by step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import MorningMachine
from tests.model.world import model_world
from tests.support.api_process import Servers

TORTURE: Final = os.environ.get("NI_TORTURE") == "1"
EXAMPLES: Final = 1000 if TORTURE else 16
STEPS: Final = 80 if TORTURE else 50
PHASES: Final = (Phase.generate, Phase.shrink) if TORTURE else (Phase.generate,)


@pytest.mark.parametrize("buckets", [1, 8])
@pytest.mark.timeout(3 * 3600 if TORTURE else 120)
def test_every_answer_is_the_models(servers: Servers, tmp_path: Path, buckets: int) -> None:
    """Balances, holds with expiry, captures, releases, adjusts, cancels, replays, refusals."""
    with model_world(servers, tmp_path) as world:

        class Machine(MorningMachine):
            pass

        Machine.world = world
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                derandomize=not TORTURE,
                phases=PHASES,
                suppress_health_check=list(HealthCheck),
            ),
        )
        assert world.faults() == []
