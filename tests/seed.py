"""The seed of every random choice in the tests, in one place: a red run can be repeated as it was."""

SEED = 20261125
