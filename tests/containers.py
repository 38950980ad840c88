"""A Kafka container for tests, from the official `apache/kafka` image, which testcontainers does not support."""

import os

from testcontainers.core.container import DockerContainer

from streams.kafka.local_broker import KAFKA_VERSION, free_port

IMAGE = os.environ.get("PARCELS_TEST_IMAGE", f"apache/kafka:{KAFKA_VERSION}")


class KafkaContainer(DockerContainer):
    """A single KRaft node. The image takes each property as a variable with the prefix KAFKA_.

    The broker must advertise the address that tests use. So the port on this machine is chosen before the container
    starts, not by Docker.
    """

    def __init__(self, image: str = IMAGE) -> None:
        super().__init__(image)
        self.port = free_port()
        # with_bind_ports binds all addresses; a broker without passwords should not be open to the network.
        self.ports["9092/tcp"] = ("127.0.0.1", self.port)
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": "1@127.0.0.1:9093",
            "listeners": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://127.0.0.1:9093",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "8",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            "message.max.bytes": str(16 << 20),
            "replica.fetch.max.bytes": str(16 << 20),
        }
        for name, value in properties.items():
            self.with_env("KAFKA_" + name.upper().replace(".", "_"), value)

    @property
    def bootstrap(self) -> str:
        """The address for clients on this machine."""
        return f"127.0.0.1:{self.port}"
