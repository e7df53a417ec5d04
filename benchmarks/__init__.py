"""How fast, and only if it is right: every workload verifies order and loss before its number counts.

``measure`` says what a workload is, ``order`` verifies, ``bare`` is what the disk can do without anybody's help,
``workloads`` measure, ``peers`` are what a user would pick instead, ``report`` prints.
"""
