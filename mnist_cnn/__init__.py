"""Train, check and use a convolutional network. Modules import only those to their right:

reading, gate → evaluation, training → model → data → files, params → errors
"""
