"""What the memory engine and the file engine share: the ports over the services' pure rooms and one log of changes.

Every method decides, applies and logs in one step without ``await``, and answers once the log says it is durable. The
memory engine's log forgets; the file engine's is the journal. Replay applies the same changes.
"""
