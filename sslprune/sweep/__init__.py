"""Many runs from one file: a grid of recipes, run here, on a Ray cluster, or printed for another scheduler."""
