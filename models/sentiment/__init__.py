"""The sentiment classifier. See README.md for its model card."""
