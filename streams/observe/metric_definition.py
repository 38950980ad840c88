"""How a metric is declared: its type, unit, help text, labels and buckets.

Names follow the Prometheus practices: one prefix, base units, `_total` on counters; `sum()` over all labels of a metric
is meaningful. Each label takes its values from a closed set, so no sender can make a process export a new series; a
parcel is never a label.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PREFIX: Final = "parcel_"
OTHER: Final = "other"


class MetricType(StrEnum):
    """Type of a metric, as the exposition format names it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Label:
    """A label and all of its values; any other value is counted under `other`.

    `values` is None where the set is known only when the process starts; `doc` then says what limits it.
    """

    name: str
    values: tuple[str, ...] | None
    doc: str
    other: str = OTHER


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name, type, unit ("" for a plain number) and help text."""

    name: str
    type: MetricType
    unit: str
    help: str
    labels: tuple[Label, ...] = ()
    # Upper edges of a histogram's buckets, in `unit`, without +Inf.
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """Names under which Prometheus stores the samples of this metric."""
        if self.type is MetricType.HISTOGRAM:
            return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")
        return (self.name,)
