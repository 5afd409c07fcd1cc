"""Flower: from a trained state dict to the objects that a ClientApp pushes to its SuperLink."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp.mod import LocalDpMod
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import push_objects
from flwr.supercore.task_identity import TaskIdentity

from benchmarks.cases.plain import Cases, fresh_subtract
from benchmarks.shapes import num_parameters, states

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["as_message", "cases"]

TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1


def as_message(state: dict[str, Tensor], *, sample_count: int = 100) -> Message:
    """Return the message that carries a trained state dict."""
    content = RecordDict(
        {"arrays": ArrayRecord(state), "metrics": MetricRecord({"num-examples": sample_count})}
    )
    return Message(content=content, message_type="train", dst_node_id=1)


class _Sink:
    """Takes what would go to the SuperLink, serialized as for the wire; two threads push at a time."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._lock = threading.Lock()

    def push(self, object_id: str, content: bytes) -> None:
        request = PushObjectRequest(
            node=Node(node_id=1), run_id=1, object_id=object_id, object_content=content, session_id="session"
        )
        size = len(request.SerializeToString())
        with self._lock:
            self.num_bytes += size


def _push(message: Message) -> int:
    sink = _Sink()
    message.metadata.__dict__["_message_id"] = message.object_id
    with no_object_id_recompute():
        tree_bytes = get_object_tree(message).ByteSize()
        push_objects(get_all_nested_objects(message), sink.push)
    return int(tree_bytes + sink.num_bytes)


def cases(size: str) -> Cases:
    """Return a plain reply, and one through its local differential privacy mod (clip and noise)."""
    base, updated = states(size)
    received = as_message(base)
    privacy = LocalDpMod(clipping_norm=1.0, sensitivity=1.0, epsilon=100.0, delta=1e-5)
    return Cases(
        {
            "plain": lambda: _push(as_message(updated)),
            "local DP": lambda: _push(privacy(received, None, lambda *_: as_message(updated))),
        },
        limit=fresh_subtract(base, updated),
        num_parameters=num_parameters(size),
    )
