"""Write locked.txt from what pip reported: each release with the SHA-256 of its file for Linux on x86-64, Python 3.11.

torch stands apart: it comes from one of two indexes, whose files of one release differ.
"""

import json
import sys
from pathlib import Path

HEAD = """\
# Everything but torch and sparelu itself, for Linux on x86-64 and Python 3.11; written by `make constraints`.
# pip install --no-deps --require-hashes -r locked.txt && pip install --no-deps -c constraints.txt torch .
"""
LEFT_OUT = ("sparelu", "torch")


def main(report: str, out: str) -> None:
    """Read the report of ``pip install --report`` and write the file ``out``."""
    lines = []
    for item in json.loads(Path(report).read_text())["install"]:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        if name not in LEFT_OUT:
            digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
            lines.append(f"{name.replace('_', '-').lower()}=={version} --hash=sha256:{digest}\n")
    Path(out).write_text(HEAD + "".join(sorted(lines)))


if __name__ == "__main__":
    main(*sys.argv[1:])
