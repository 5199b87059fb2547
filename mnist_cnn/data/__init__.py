"""Check MNIST or the user's own dataset, split it and store it as arrays."""
