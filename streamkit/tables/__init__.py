"""A key-value table with the semantics of DynamoDB."""
