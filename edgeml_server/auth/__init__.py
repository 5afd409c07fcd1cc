"""Enrolment, tokens, and who is calling."""
