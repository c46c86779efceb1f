"""The regression gate: whether one model is worse than another, measured beside it on a machine that is not quiet."""
