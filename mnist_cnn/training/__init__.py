"""Fit and calibrate the network, on one machine or several."""
