"""The command line of DeepLens: one photo in, a shallow depth-of-field photo out. Importing it imports no runtime."""

__version__ = "0.1.0"
