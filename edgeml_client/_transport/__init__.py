"""HTTP, once, for every client: retries, streaming, digests and clear errors.  No promise to users."""
