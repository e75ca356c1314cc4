"""A network as a graph of few operations, and what follows from its zeros: for compaction, export and the engine."""
