"""Flower's nodes in one process: a Grid that runs a ClientApp for each message, and keeps all bytes that travel.

Messages go through Flower's own encoding both ways, as they do between machines.
"""

import uuid

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 0  # of the process that is the server


class Nodes(Grid):
    """apps: the ClientApp of each node, in the order of their `partition-id`.  gone: nodes that do not answer.
    keep: whether what nodes send is kept, in `seen`; `sent` counts its bytes.
    """

    def __init__(self, apps):
        self.apps = dict(enumerate(apps, start=1))
        self.contexts = {n: Context(1, n, {"partition-id": n - 1}, RecordDict(), {}) for n in self.apps}
        self.gone, self.seen, self.asked = set(), [], []
        self.keep, self.sent = True, 0

    @staticmethod
    def context():
        """Of a server."""
        return Context(1, 0, {}, RecordDict(), {})

    def set_run(self, run):
        pass

    @property
    def run(self):
        return None

    def create_message(self, *args, **options):
        raise NotImplementedError

    def get_node_ids(self):
        return list(self.apps)

    def push_messages(self, messages):
        raise NotImplementedError

    def pull_messages(self, message_ids):
        raise NotImplementedError

    def send_and_receive(self, messages, *, timeout=None):
        return [reply for message in messages if (reply := self._answer(message)) is not None]

    def _answer(self, message):
        node = message.metadata.dst_node_id
        self.asked.append((node, message.metadata.message_type))
        if node in self.gone:
            return None
        message.metadata.__dict__["_message_id"] = uuid.uuid4().hex
        arrived = Message(content=self._travelled(message.content), metadata=message.metadata)
        try:
            reply = self.apps[node](arrived, self.contexts[node])
        except Exception as error:
            return Message(Error(2, str(error)), reply_to=message)
        if reply.has_error():
            return reply
        return Message(self._travelled(reply.content, node), reply_to=message)

    def _travelled(self, content, node=None):
        encoded = recorddict_to_proto(content).SerializeToString()
        if node is not None:
            self.sent += len(encoded)
            if self.keep:
                self.seen.append((node, encoded))
        return recorddict_from_proto(type(recorddict_to_proto(content)).FromString(encoded))
