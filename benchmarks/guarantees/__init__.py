"""What is promised about order and loss, held against what happens under load and under ``kill -9``.

``findings``, ``order``, ``resuming``, ``messages`` and ``counts`` decide what is a violation and do nothing else; each
is told what happened, event by event. ``scenes`` make it happen, in the process of the benchmark or, through
``child``, in one that ``killing`` kills; ``diary`` is how that one says what it did.
"""
