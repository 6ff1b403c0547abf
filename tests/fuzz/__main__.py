"""``python -m tests.fuzz --count N --first SEED``."""

import argparse

from tests.fuzz.run import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Forge files for every reader.")
    parser.add_argument("--count", type=int, default=1_000_000, help="files over all readers")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    given = parser.parse_args()
    raise SystemExit(main(given.count, given.first))
