"""A walk through everything that is published: `python -m clients.demo`."""
