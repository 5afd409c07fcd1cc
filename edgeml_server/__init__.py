"""The EdgeML control plane: one line on a laptop, PostgreSQL and object storage at scale."""
