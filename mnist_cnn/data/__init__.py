"""Datasets: MNIST or the user's own, checked, split and stored as arrays."""
