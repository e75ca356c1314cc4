"""Which weights stay: magnitude criteria, the ladder's schedule, rewinding, controls, and the descent over them."""
