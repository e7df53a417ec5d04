"""A visibility-timeout queue with the semantics of SQS."""
