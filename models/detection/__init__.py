"""The detector, a YOLO of our own. See README.md for its model card."""
