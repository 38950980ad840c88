"""Instruments made from the catalogue: labels that only take values of their closed sets, histograms with weights."""

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

from streams.observe.metric_catalogue import Metric, MetricType

Child = TypeVar("Child", bound=MetricWrapperBase)


class LabelledChildren(Generic[Child]):
    """The children of a counter or a gauge with labels: every combination exists from the start, and no other ever.

    A counter that begins to exist with its first error has no increase that `rate()` could see.

    >>> from streams.observe.metric_catalogue import DEAD_LETTERS
    >>> letters = counters(DEAD_LETTERS, CollectorRegistry())
    >>> letters["TRUNCATED"] is letters["TRUNCATED"], letters["no such reason"] is letters["other"]
    (True, True)
    """

    def __init__(self, parent: Child, metric: Metric, sets: Mapping[str, Collection[str]]) -> None:
        """`sets`: the values of labels that the catalogue leaves open.

        Raises:
            ValueError: a label is open in the catalogue and not in `sets`.
        """
        self._allowed: list[tuple[frozenset[str], str]] = []
        values = []
        for label in metric.labels:
            known = label.values if label.values is not None else sets.get(label.name)
            if known is None:
                message = f"{metric.name}: the label {label.name} has no closed set of values"
                raise ValueError(message)
            closed = tuple(dict.fromkeys((*known, label.other)))
            self._allowed.append((frozenset(closed), label.other))
            values.append(closed)
        self._children = {words: parent.labels(*words) for words in itertools.product(*values)}

    def __getitem__(self, words: str | tuple[str, ...]) -> Child:
        """The child for these label values, those outside their set replaced by the label's `other`."""
        words = (words,) if isinstance(words, str) else words
        child = self._children.get(words)
        if child is None:
            closed = zip(words, self._allowed, strict=True)
            child = self._children[tuple(word if word in known else other for word, (known, other) in closed)]
        return child


def counter(metric: Metric, registry: CollectorRegistry) -> Counter:
    """A counter without labels."""
    return Counter(_checked(metric, MetricType.COUNTER), metric.help, registry=registry)


def gauge(metric: Metric, registry: CollectorRegistry) -> Gauge:
    """A gauge, without labels or with open ones that the caller bounds."""
    return Gauge(
        _checked(metric, MetricType.GAUGE), metric.help, [label.name for label in metric.labels], registry=registry
    )


def labelled_counter(metric: Metric, registry: CollectorRegistry, **sets: Collection[str]) -> LabelledChildren[Counter]:
    """A counter with labels, each child at 0."""
    names = [label.name for label in metric.labels]
    return LabelledChildren(
        Counter(_checked(metric, MetricType.COUNTER), metric.help, names, registry=registry), metric, sets
    )


def labelled_gauge(metric: Metric, registry: CollectorRegistry, **sets: Collection[str]) -> LabelledChildren[Gauge]:
    """A gauge with labels, each child at 0."""
    return LabelledChildren(gauge(metric, registry), metric, sets)


class WeightedHistogram(Collector):
    """A classic histogram without labels, whose observations may stand for many.

    The client's own takes one observation a call; a worker that samples its records needs each sample to count as
    the records it stands for.

    >>> from streams.observe.metric_catalogue import BATCH_SECONDS
    >>> histogram = Histogram(BATCH_SECONDS, CollectorRegistry())
    >>> histogram.observe([(0.02, 300), (0.7, 100)])
    >>> histogram.total
    400
    """

    def __init__(self, metric: Metric, registry: CollectorRegistry) -> None:
        self._name = _checked(metric, MetricType.HISTOGRAM)
        self._help = metric.help
        self._edges = metric.buckets
        self._words = [*map(floatToGoString, metric.buckets), "+Inf"]
        self._counts = [0] * len(self._words)
        self._sum = 0.0
        self._lock = threading.Lock()
        registry.register(self)

    def observe(self, samples: Iterable[tuple[float, int]]) -> None:
        """Add samples: (value, number of observations that it stands for).

        A clock that was set back makes a negative time; it counts as 0, because a sum must not fall.
        """
        with self._lock:
            for value, weight in samples:
                self._counts[bisect_left(self._edges, value)] += weight
                self._sum += max(value, 0.0) * weight

    @property
    def total(self) -> int:
        """Observations so far."""
        with self._lock:
            return sum(self._counts)

    def collect(self) -> Iterable[Family]:
        """The samples of one scrape."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        buckets = list(zip(self._words, map(float, itertools.accumulate(counts)), strict=True))
        yield HistogramMetricFamily(self._name, self._help, buckets, total)

    def describe(self) -> Iterable[Family]:
        """Names for the registry's check of duplicates."""
        yield HistogramMetricFamily(self._name, self._help)


def _checked(metric: Metric, wanted: MetricType) -> str:
    if metric.type is not wanted:
        message = f"{metric.name} is a {metric.type}, not a {wanted}"
        raise TypeError(message)
    return metric.name
