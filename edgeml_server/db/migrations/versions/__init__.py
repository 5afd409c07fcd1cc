"""One file for each domain, in the order they build on each other."""
