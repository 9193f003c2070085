"""What clients see of the server: each face translates one protocol to the data plane."""
