"""How fast, and only if it is right: every workload verifies order and loss before its number counts."""
