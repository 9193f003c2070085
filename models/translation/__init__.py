"""The translation model. See README.md for its model card."""
