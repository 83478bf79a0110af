"""Three RabbitMQ nodes that are one cluster, with a quorum queue over all of them.

A partition is made as an operator's network would: two nodes refuse each other's connections, here
by a cookie that the others do not know.
"""

import contextlib
import re
from collections.abc import Iterator

from tests.support.rabbitmq import Broker

COOKIE = "fastsmtp"


class Cluster:
    """Use `running`; `nodes` are in the order in which they were made."""

    def __init__(self, partitions: str) -> None:
        """`partitions` is cluster_partition_handling: "ignore" or "pause_minority"."""
        self.nodes = [Broker(cluster_partition_handling=partitions)]
        epmd = self.nodes[0].env["ERL_EPMD_PORT"]
        for _ in range(2):
            self.nodes.append(Broker(cluster_partition_handling=partitions))
            self.nodes[-1].env["ERL_EPMD_PORT"] = epmd
        for node in self.nodes:
            cookie = node.folder / ".erlang.cookie"
            cookie.write_text(COOKIE)
            cookie.chmod(0o400)

    @property
    def url(self) -> str:
        """All addresses, in the order of the nodes."""
        return ",".join(node.url for node in self.nodes)

    def start(self) -> None:
        for node in self.nodes:
            node.start()
            node.ctl("await_startup")
        first = self.nodes[0].env["RABBITMQ_NODENAME"]
        for node in self.nodes[1:]:
            for command in (["stop_app"], ["join_cluster", first], ["start_app"]):
                node.ctl(*command)

    def leader(self, queue: str) -> Broker:
        """The node whose member of the quorum queue leads."""
        said = self.alive.ctl("list_queues", "name", "leader")
        name = re.search(rf"^{queue}\t(\S+)$", said, re.MULTILINE)
        assert name, said
        return next(node for node in self.nodes if node.env["RABBITMQ_NODENAME"] == name[1])

    @property
    def alive(self) -> Broker:
        """A node that runs."""
        return next(node for node in self.nodes if node.process is not None)

    def others(self, node: Broker) -> list[Broker]:
        return [each for each in self.nodes if each is not node]

    def cut(self, node: Broker) -> None:
        """Partition: `node` on one side, the two others on the other one."""
        self._part(node, "of nobody")

    def heal(self, node: Broker) -> None:
        """The network is back; in mode ignore, `node` must be started anew then."""
        self._part(node, COOKIE)

    def _part(self, node: Broker, cookie: str) -> None:
        """What `node` expects of the others, and shows them; they part, and try again."""
        code = "".join(
            f"erlang:set_cookie('{name}', '{cookie}'), erlang:disconnect_node('{name}'), "
            for name in (other.env["RABBITMQ_NODENAME"] for other in self.others(node))
        )
        node.ctl("eval", f"{code} ok.")

    def close(self) -> None:
        for node in reversed(self.nodes):
            node.close()


@contextlib.contextmanager
def running(partitions: str = "pause_minority") -> Iterator[Cluster]:
    """A cluster that has started; ended and removed afterwards."""
    made = Cluster(partitions)
    try:
        made.start()
        yield made
    finally:
        made.close()
