"""The version of the program, on a floor of its own: everybody may ask for it."""

__version__ = "0.1.0"
