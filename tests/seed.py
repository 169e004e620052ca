"""The seed of Hypothesis in the tests, in one place and in pytest's header: a red run can be repeated as it was."""

SEED = 20261125
