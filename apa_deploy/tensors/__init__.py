"""What tensors are called and look like: datatypes, signatures, inputs."""
