"""What all endpoints share: request ids, error answers, body limits, callers, idempotent creation."""
