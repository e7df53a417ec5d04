"""Where bytes are kept: each engine implements the services' ports."""
