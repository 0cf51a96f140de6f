"""The written-out forward pass of post-norm encoders, and the modules that make training fast on a CPU."""
