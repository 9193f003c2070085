"""The face recogniser. See README.md for its model card."""
