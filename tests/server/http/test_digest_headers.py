"""Digests travel as RFC 9530 spells them."""

import base64
import hashlib

from edgeml_server._http.digests import digest_field

SHA256 = hashlib.sha256(b"x")


def test_a_digest_is_its_bytes_in_base64_between_colons() -> None:
    field = digest_field(f"sha256:{SHA256.hexdigest()}")

    assert field == f"sha-256=:{base64.b64encode(SHA256.digest()).decode()}:"
