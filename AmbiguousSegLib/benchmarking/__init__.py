"""Many systems trained, sampled and judged alike: what a benchmark file says, its cells, and how they are run."""
