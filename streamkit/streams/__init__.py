"""A sharded append-only log with the semantics of Kinesis."""
