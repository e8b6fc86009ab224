"""When to look at a run next, and the watch that does it."""
