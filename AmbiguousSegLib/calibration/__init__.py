"""What a model's samples are worth: shares turned into frequencies among readers, spreads into intervals that cover."""
