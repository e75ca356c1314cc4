"""How fast pruned networks run, beside what else runs them: engines take turns, each in a process of its own."""
