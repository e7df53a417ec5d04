"""Tools for testing programs that use streamkit, and the contract every engine passes."""
