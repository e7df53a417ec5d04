"""Functions as plugins, and event source mappings with the semantics of Lambda."""
