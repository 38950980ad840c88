"""A transactional producer that takes whole blocks of records in one call, without holding the GIL.

confluent-kafka's own Producer needs a Python call, three objects and the GIL for every record, and the fold waits for
the GIL meanwhile. Its produce_batch ignores the partition of a record (2.16.1). So this module calls the librdkafka
library of confluent-kafka directly, through the C functions of rdkafka.h, which are documented and kept stable. Figures
are in docs/decisions/producer.md.
"""

import ctypes
import threading
from ctypes import POINTER, c_char_p, c_int, c_int32, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, Final

import confluent_kafka
import numpy as np
from confluent_kafka import KafkaError, KafkaException

from streams.errors import Misconfigured
from streams.formats.record_block import RecordBlock
from streams.kafka.clients import Header, producer_config
from streams.kafka.settings import KafkaSettings

_PRODUCER: Final = 0
_COPY: Final = 0x2
_CONF_OK: Final = 0
_ERROR_BYTES: Final = 512

# rd_kafka_message_t of rdkafka.h.
_MESSAGE: Final = np.dtype(
    [
        ("err", np.int32),
        ("rkt", np.uintp),
        ("partition", np.int32),
        ("payload", np.uintp),
        ("len", np.uintp),
        ("key", np.uintp),
        ("key_len", np.uintp),
        ("offset", np.int64),
        ("private", np.uintp),
    ],
    align=True,
)
# Values of rd_kafka_vtype_t: the kinds of arguments of rd_kafka_produceva.
_TOPIC, _PARTITION, _VALUE, _KEY, _FLAGS, _HEADER = 1, 3, 4, 5, 7, 9


class _Buffer(ctypes.Structure):
    _fields_ = (("address", c_void_p), ("size", c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (("name", c_char_p), ("value", c_void_p), ("size", ctypes.c_ssize_t))


class _ArgumentValue(ctypes.Union):
    _fields_ = (
        ("text", c_char_p),
        ("number", c_int32),
        ("memory", _Buffer),
        ("header", _Header),
        ("padding", ctypes.c_char * 64),
    )


class _Argument(ctypes.Structure):
    _fields_ = (("kind", c_int), ("value", _ArgumentValue))


@cache
def _library() -> Any:
    """The librdkafka that this process has loaded with confluent-kafka, with the types of the functions called here.

    Raises:
        Misconfigured: it is not found.
    """
    # confluent-kafka 2.16 does not say where its library is; the kernel does.
    loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "librdkafka" in line}
    if len(loaded) != 1:
        message = (
            f"confluent-kafka {confluent_kafka.version()} shows {len(loaded)} librdkafka libraries in /proc/self/maps, "
            "not one: install its wheel for Linux"
        )
        raise Misconfigured(message)
    library = ctypes.CDLL(loaded.pop())
    handle = error = c_void_p
    for name, result, arguments in (
        ("conf_new", c_void_p, ()),
        ("conf_set", c_int, (c_void_p, c_char_p, c_char_p, c_char_p, c_size_t)),
        ("conf_set_log_cb", None, (c_void_p, c_void_p)),
        ("conf_destroy", None, (c_void_p,)),
        ("new", handle, (c_int, c_void_p, c_char_p, c_size_t)),
        ("destroy", None, (handle,)),
        ("topic_new", c_void_p, (handle, c_char_p, c_void_p)),
        ("topic_destroy", None, (c_void_p,)),
        ("init_transactions", error, (handle, c_int)),
        ("begin_transaction", error, (handle,)),
        ("commit_transaction", error, (handle, c_int)),
        ("produce_batch", c_int, (c_void_p, c_int32, c_int, c_void_p, c_int)),
        ("produceva", error, (handle, POINTER(_Argument), c_size_t)),
        ("poll", c_int, (handle, c_int)),
        ("outq_len", c_int, (handle,)),
        ("error_code", c_int, (error,)),
        ("error_string", c_char_p, (error,)),
        ("error_is_fatal", c_int, (error,)),
        ("error_is_retriable", c_int, (error,)),
        ("error_txn_requires_abort", c_int, (error,)),
        ("error_destroy", None, (error,)),
    ):
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class TransactionalProducer:
    """A producer with a transactional id. Threads may share it: calls run one after the other, also `close`.

    Every method raises KafkaException, as confluent-kafka's Producer does, when the call failed or the producer is
    closed.
    """

    def __init__(self, settings: KafkaSettings, **options: Any) -> None:
        """`options` are librdkafka's, with _ for the dots."""
        library = _library()
        text = ctypes.create_string_buffer(_ERROR_BYTES)
        conf = library.rd_kafka_conf_new()
        for name, value in producer_config(settings, **options).items():
            setting = str(value).lower() if isinstance(value, bool) else str(value)
            if library.rd_kafka_conf_set(conf, name.encode(), setting.encode(), text, _ERROR_BYTES) != _CONF_OK:
                library.rd_kafka_conf_destroy(conf)
                raise Misconfigured(f"librdkafka: {text.value.decode(errors='replace')}")
        # librdkafka would log the loss of a broker once a second, and a fencing on standard error.
        library.rd_kafka_conf_set_log_cb(conf, None)
        self._library = library
        self._topics: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._handle = library.rd_kafka_new(_PRODUCER, conf, text, _ERROR_BYTES)
        if not self._handle:
            library.rd_kafka_conf_destroy(conf)
            raise Misconfigured(f"librdkafka: {text.value.decode(errors='replace')}")

    def init_transactions(self, seconds: float) -> None:
        """Fence every earlier producer of this transactional id."""
        with self._lock:
            self._check(self._library.rd_kafka_init_transactions(self._open(), round(seconds * 1000)))

    def begin_transaction(self) -> None:
        """Begin a transaction; the records that are produced from here on belong to it."""
        with self._lock:
            self._check(self._library.rd_kafka_begin_transaction(self._open()))

    def commit_transaction(self, seconds: float) -> None:
        """Send the records of the queue and commit the transaction: all of it, or nothing."""
        with self._lock:
            self._check(self._library.rd_kafka_commit_transaction(self._open(), round(seconds * 1000)))

    def produce_block(self, topic: str, partition: int, block: RecordBlock, first: int, end: int) -> None:
        """Copy the records from `first` until `end` (not included) into the queue, in their order.

        Raises:
            KafkaException: not all of them could be copied; the transaction must not be committed.
        """
        messages = np.zeros(end - first, _MESSAGE)
        keys, values = block.key_ends[first : end + 1], block.value_ends[first : end + 1]
        sizes = np.diff(keys)
        # A null pointer makes an empty key no key at all, and an empty value a tombstone.
        messages["key"] = np.where(sizes > 0, block.key_bytes.ctypes.data + keys[:-1], 0)
        messages["key_len"] = sizes
        sizes = np.diff(values)
        messages["payload"] = np.where(sizes > 0, block.value_bytes.ctypes.data + values[:-1], 0)
        messages["len"] = sizes
        with self._lock:
            accepted = self._library.rd_kafka_produce_batch(
                self._topic(topic), partition, _COPY, messages.ctypes.data, len(messages)
            )
        if accepted != len(messages):
            first_error = int(messages["err"][np.flatnonzero(messages["err"])[0]])
            raise KafkaException(KafkaError(first_error))

    def produce(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: list[Header]
    ) -> None:
        """Copy one record into the queue."""
        arguments = [
            _Argument(_TOPIC, _ArgumentValue(text=topic.encode())),
            _Argument(_PARTITION, _ArgumentValue(number=partition)),
            _Argument(_FLAGS, _ArgumentValue(number=_COPY)),
        ]
        for kind, octets in ((_KEY, key), (_VALUE, value)):
            if octets is not None:
                arguments.append(_Argument(kind, _ArgumentValue(memory=_Buffer(_address(octets), len(octets)))))
        # librdkafka copies the values during the call. This list keeps them alive until then.
        header_values = [value.encode() if isinstance(value, str) else value for _, value in headers]
        for (name, _), octets in zip(headers, header_values, strict=True):
            address, size = (None, 0) if octets is None else (_address(octets), len(octets))
            arguments.append(_Argument(_HEADER, _ArgumentValue(header=_Header(name.encode(), address, size))))
        argument_array = (_Argument * len(arguments))(*arguments)
        with self._lock:
            self._check(self._library.rd_kafka_produceva(self._open(), argument_array, len(arguments)))

    def wait_for_deliveries(self, seconds: float) -> int:
        """Wait up to `seconds` for acknowledgements; returns the number of records that are not acknowledged yet."""
        with self._lock:
            handle = self._open()
            self._library.rd_kafka_poll(handle, round(seconds * 1000))
            return int(self._library.rd_kafka_outq_len(handle))

    def close(self) -> None:
        """Free the producer without a request to the broker: the next fencing of the id ends an open transaction."""
        with self._lock:
            handle, self._handle = self._handle, None
            if handle is None:
                return
            for topic in self._topics.values():
                self._library.rd_kafka_topic_destroy(topic)
            self._library.rd_kafka_destroy(handle)

    def _open(self) -> Any:
        if self._handle is None:
            raise KafkaException(KafkaError(KafkaError._STATE, "the producer is closed"))  # noqa: SLF001 - public
        return self._handle

    def _topic(self, name: str) -> Any:
        handle = self._open()
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = self._library.rd_kafka_topic_new(handle, name.encode(), None)
        return topic

    def _check(self, error: Any) -> None:
        if error is None:
            return
        library = self._library
        raised = KafkaError(
            library.rd_kafka_error_code(error),
            library.rd_kafka_error_string(error).decode(errors="replace"),
            fatal=bool(library.rd_kafka_error_is_fatal(error)),
            retriable=bool(library.rd_kafka_error_is_retriable(error)),
            txn_requires_abort=bool(library.rd_kafka_error_txn_requires_abort(error)),
        )
        library.rd_kafka_error_destroy(error)
        raise KafkaException(raised)


def _address(octets: bytes) -> int | None:
    return ctypes.cast(c_char_p(octets), c_void_p).value
