"""What clients, server and export agree on: messages, tensors, errors, contracts and files."""
