"""The zoo: models by name, one folder each, verified before use."""
