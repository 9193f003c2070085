"""Mechanism that every model package shares: configuration, run folders, splits, plots, backends."""
