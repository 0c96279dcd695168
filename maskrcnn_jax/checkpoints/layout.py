"""The folders of checkpoints in a work directory."""

LAST = "checkpoints"  # the newest ones
BEST = "best"  # the one with the best evaluation
DAMAGED = "damaged"  # what could not be read, moved out of the way
EARLIER = "earlier"  # a best one that the run has left behind
