"""Train, check and use a convolutional network. Imports point downwards:

reading, gate → evaluation, training → model → data → files, params → errors
"""
