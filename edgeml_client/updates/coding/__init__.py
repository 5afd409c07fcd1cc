"""The compact form of an update: the largest numbers, in few bits, in chunks that decode one by one."""

from edgeml_client.updates.coding.coded_file import CodedUpdateFile
from edgeml_client.updates.coding.encoder import encode_coded
from edgeml_client.updates.coding.left_out import LeftOut
from edgeml_client.updates.coding.random_selection import select_random
from edgeml_client.updates.coding.selection import count_to_keep, select_largest
from edgeml_client.updates.coding.spec import CODING_KEY, Chunk, Coding

__all__ = [
    "CODING_KEY",
    "Chunk",
    "CodedUpdateFile",
    "Coding",
    "LeftOut",
    "count_to_keep",
    "encode_coded",
    "select_largest",
    "select_random",
]
