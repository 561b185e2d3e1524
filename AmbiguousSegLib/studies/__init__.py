"""Many volumes one after another: what there is to sample, what is done, one table of all, and their raters."""
