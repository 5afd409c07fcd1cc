"""Rounds: a cohort trains from one global version, and its updates make the next one."""
