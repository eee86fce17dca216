"""Making text: greedy or drawn, one token a step or several by speculation, from the beginning or from a known prefix."""
