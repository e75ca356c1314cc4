"""Ways to take a network away. `sparse_file` (numpy alone) writes and reads the format that `FORMAT.md` specifies."""
