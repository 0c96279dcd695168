"""Backbones: an image -> its features C2 to C5. `interface.py` says what each file has."""
