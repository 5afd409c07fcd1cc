"""What is known about the privacy of a federation."""
