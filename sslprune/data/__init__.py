"""Image sets: where they are found, how they are read, how they reach the device."""
