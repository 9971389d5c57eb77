"""What a policy costs: time, memory, arithmetic, of one agent on a small computer.

Every arm of a comparison (a policy, an engine, a number of threads) walks the same episode in a
process of its own (`worker`); `process` lets them take turns.
"""
