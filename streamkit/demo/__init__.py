"""The main job on real data: a stream, functions, tables, a queue, a dead-letter queue and an alarm at work together.

``flights`` reads the data file · ``pipeline`` is what a user of streamkit would write · ``progress`` and ``report``
show it · ``run`` is the whole job. This room uses nothing but the public face of streamkit.
"""
