"""Files by their digest: what is stored never changes, and two equal files are one."""

from edgeml_server.blobs.local import LocalBlobStore
from edgeml_server.blobs.opening import open_blob_store
from edgeml_server.blobs.store import BlobStore, BlobWriter, StoredBlob, check_digest

__all__ = ["BlobStore", "BlobWriter", "LocalBlobStore", "StoredBlob", "check_digest", "open_blob_store"]
