"""The compact form of an update: the largest numbers, in few bits, in chunks that decode one by one."""

from edgeml_client.updates.coding.coded_file import CodedUpdateFile
from edgeml_client.updates.coding.encoder import encode_coded_
from edgeml_client.updates.coding.random_selection import select_random
from edgeml_client.updates.coding.selection import count_to_keep, select_largest
from edgeml_client.updates.coding.spec import CODING_KEY, Chunk, Coding

__all__ = [
    "CODING_KEY",
    "Chunk",
    "CodedUpdateFile",
    "Coding",
    "count_to_keep",
    "encode_coded_",
    "select_largest",
    "select_random",
]
