"""The command line of DeepLens: one photo in, a shallow depth-of-field photo out. Importing it imports no runtime."""

from deeplens.console.package import VERSION

__version__ = VERSION
