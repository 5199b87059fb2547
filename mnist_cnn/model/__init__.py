"""The network and the file formats it is saved in."""
