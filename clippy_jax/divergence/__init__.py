"""When the numbers of a run are not finite: the update is left out, or the run stops and tells in which batch."""
