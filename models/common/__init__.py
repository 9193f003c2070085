"""Mechanism that every model package shares: configuration, run folders, plots, backends."""
