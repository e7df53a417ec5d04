"""``python -m benchmarks gate``: is this change slower than what it is based on?"""
