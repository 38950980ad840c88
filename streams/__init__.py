"""parcel-streams: the event-streaming backbone of a parcel hub, on Apache Kafka."""

__version__ = "0.1.0"
