"""The keypoint head of Mask R-CNN (He et al. 2017, section 5): Keypoint R-CNN."""
