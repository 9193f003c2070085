"""Several server processes on one port: the kernel spreads connections over them.

One process has one event loop, and so at most one core for what is not the models' own work.
"""
