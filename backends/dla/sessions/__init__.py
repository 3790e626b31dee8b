"""What runs models on a device: the resident runner, or neuronrt."""
