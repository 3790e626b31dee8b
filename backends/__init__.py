"""One folder per representation: how its artifact is built from its parent, and how it runs."""
