"""Cascade R-CNN: box heads in a row."""
