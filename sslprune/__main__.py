"""`python -m sslprune` is the command `sslprune`."""

from sslprune.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
