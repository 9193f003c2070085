"""The commands of `python -m clients`, one module for each kind of model, one for the server."""
