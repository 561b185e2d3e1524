"""The process that computes, from both sides: what is said, who says it, and what is done."""
