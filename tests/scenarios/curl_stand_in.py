"""Stands in for curl on a machine that has none: the options that the documents use, no others."""

from __future__ import annotations

import argparse
import sys
import urllib.error
import urllib.request


def main() -> int:
    """One request; the body of the answer goes to standard output, whatever its status."""
    parser = argparse.ArgumentParser(prog="curl", allow_abbrev=False)
    parser.add_argument("-s", "--silent", action="store_true")
    parser.add_argument("-i", "--include", action="store_true")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("-d", "--data")
    parser.add_argument("url")
    wanted = parser.parse_args()
    headers = dict(header.split(": ", 1) for header in wanted.header)
    data = None if wanted.data is None else wanted.data.encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        answer = opener.open(urllib.request.Request(wanted.url, data, headers), timeout=30)
    except urllib.error.HTTPError as refusal:
        answer = refusal
    with answer:
        if wanted.include:
            sys.stdout.write(f"HTTP/1.1 {answer.status} {answer.reason}\n{answer.headers}")
        sys.stdout.write(answer.read().decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
