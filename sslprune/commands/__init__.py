"""The subcommands: each file adds its own arguments and runs. Heavy imports wait until one runs."""
