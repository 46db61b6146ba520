"""docs/reference/metrics.md lists what an API process counts."""

from __future__ import annotations

from prometheus_client.metrics import MetricWrapperBase

from api import metrics
from tests.docs.pages import page, rows


def test_every_metric_is_listed() -> None:
    expected = {}
    for collector in vars(metrics).values():
        if isinstance(collector, MetricWrapperBase):
            (family,) = collector.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = ", ".join(collector._labelnames)
            expected[name] = [family.type, labels, family.documentation]
    assert expected
    assert {row[0]: row[1:] for row in rows(page("reference/metrics.md"))} == expected
