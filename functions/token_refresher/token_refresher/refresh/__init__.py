"""The core: the story of one refresh. It does no I/O and takes the time as an argument."""
