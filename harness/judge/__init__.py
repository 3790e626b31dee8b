"""From numbers to a verdict: tolerances, noise, verdicts."""
