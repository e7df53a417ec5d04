"""How everything in a kit is, at a glance: what ``await kit.overview()`` and ``streamkit inspect`` show."""
