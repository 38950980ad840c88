"""Prometheus instruments for the metrics of a catalogue: labels with closed sets of values, weighted histograms."""

import itertools
import threading
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from streams.observe.metric_definition import Metric, MetricType

Child = TypeVar("Child", bound=MetricWrapperBase)


class LabelledChildren(Generic[Child]):
    """The children of a counter or a gauge, one for each combination of label values; all exist from the start.

    A counter that is created with its first error has no increase that `rate()` could see.

    >>> from streams.observe.metric_catalogue import DEAD_LETTERS
    >>> dead_letters = labelled_counter(DEAD_LETTERS, CollectorRegistry())
    >>> dead_letters["no such reason"] is dead_letters["other"]
    True
    """

    def __init__(self, parent: Child, metric: Metric, label_values: Mapping[str, Collection[str]]) -> None:
        """`label_values`: the values of labels that are open (None) in the catalogue.

        Raises:
            ValueError: a label is open in the catalogue and has no values in `label_values`.
        """
        # For each label its closed set of values, and its value for all others.
        self._allowed: list[tuple[frozenset[str], str]] = []
        all_values = []
        for label in metric.labels:
            known = label.values if label.values is not None else label_values.get(label.name)
            if known is None:
                message = f"{metric.name}: the label {label.name} has no closed set of values"
                raise ValueError(message)
            closed = tuple(dict.fromkeys((*known, label.other)))
            self._allowed.append((frozenset(closed), label.other))
            all_values.append(closed)
        self._children = {values: parent.labels(*values) for values in itertools.product(*all_values)}

    def __getitem__(self, values: str | tuple[str, ...]) -> Child:
        """The child for these label values; a value outside its closed set is replaced by the label's `other`."""
        values = (values,) if isinstance(values, str) else values
        child = self._children.get(values)
        if child is None:
            allowed = zip(values, self._allowed, strict=True)
            child = self._children[tuple(value if value in known else other for value, (known, other) in allowed)]
        return child


def counter(metric: Metric, registry: CollectorRegistry) -> Counter:
    """A counter without labels."""
    return Counter(_checked_name(metric, MetricType.COUNTER), metric.help, registry=registry)


def gauge(metric: Metric, registry: CollectorRegistry) -> Gauge:
    """A gauge, without labels or with open labels whose values the caller limits."""
    return Gauge(
        _checked_name(metric, MetricType.GAUGE), metric.help, [label.name for label in metric.labels], registry=registry
    )


def labelled_counter(
    metric: Metric, registry: CollectorRegistry, **label_values: Collection[str]
) -> LabelledChildren[Counter]:
    """A counter with labels; each child starts at 0."""
    names = [label.name for label in metric.labels]
    return LabelledChildren(
        Counter(_checked_name(metric, MetricType.COUNTER), metric.help, names, registry=registry), metric, label_values
    )


def labelled_gauge(
    metric: Metric, registry: CollectorRegistry, **label_values: Collection[str]
) -> LabelledChildren[Gauge]:
    """A gauge with labels; each child starts at 0."""
    return LabelledChildren(gauge(metric, registry), metric, label_values)


class WeightedHistogram(Collector):
    """A classic histogram without labels, whose samples have weights.

    The histogram of the Prometheus client takes one observation for each call. A worker samples its records, and each
    sample must count as many times as the records that it stands for.

    >>> from streams.observe.metric_catalogue import BATCH_SECONDS
    >>> histogram = WeightedHistogram(BATCH_SECONDS, CollectorRegistry())
    >>> histogram.observe([(0.02, 300), (0.7, 100)])
    >>> histogram.observation_count
    400
    """

    def __init__(self, metric: Metric, registry: CollectorRegistry) -> None:
        self._name = _checked_name(metric, MetricType.HISTOGRAM)
        self._help = metric.help
        self._edges = metric.buckets
        self._edge_labels = [*map(floatToGoString, metric.buckets), "+Inf"]
        self._counts = [0] * len(self._edge_labels)
        self._sum = 0.0
        self._lock = threading.Lock()
        registry.register(self)

    def observe(self, samples: Iterable[tuple[float, int]]) -> None:
        """Add samples: (value, number of observations that the sample stands for).

        A system clock that was set back gives a negative duration. It adds 0 to the sum, because a sum must not fall.
        """
        with self._lock:
            for value, weight in samples:
                self._counts[bisect_left(self._edges, value)] += weight
                self._sum += max(value, 0.0) * weight

    @property
    def observation_count(self) -> int:
        """Number of observations so far."""
        with self._lock:
            return sum(self._counts)

    def collect(self) -> Iterable[Family]:
        """The samples of one scrape."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        buckets = list(zip(self._edge_labels, map(float, itertools.accumulate(counts)), strict=True))
        yield HistogramMetricFamily(self._name, self._help, buckets, total)

    def describe(self) -> Iterable[Family]:
        """The names, for the registry's check for duplicates."""
        yield HistogramMetricFamily(self._name, self._help)


def _checked_name(metric: Metric, expected: MetricType) -> str:
    if metric.type is not expected:
        message = f"{metric.name} is a {metric.type}, not a {expected}"
        raise TypeError(message)
    return metric.name
