"""Mask Scoring R-CNN: how good each predicted mask is."""
