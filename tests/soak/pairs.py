"""`python -m tests.soak.pairs [TIMES [COMMAND ...]]`: two processes of the same command at once, on the same output and run.

One of them does the work; the other is refused in a line, or does the same work to the same result.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from pathlib import Path

from tests.soak.commands import empty_folder, leftovers
from tests.soak.forks import COMMANDS, LOG, clean, code_of, fork, prepare, result_of, run


def main(times: int, names: list[str]) -> None:
    rng = random.Random(0)
    with empty_folder():
        prepare()
        for name in names:
            clean(name)
            run(name)
            expected, outcomes = result_of(name), Counter[str]()
            for i in range(times):
                clean(name)
                first = fork(name)
                time.sleep(rng.uniform(0, 0.5) if i else 0)
                codes = sorted((code_of(fork(name)), code_of(first)))
                text = LOG.read_text()
                assert codes in ([0, 0], [0, 2]), (name, codes, text)
                assert "Traceback" not in text, (name, text)
                assert result_of(name) == expected, name
                left = [path for path in leftovers(Path()) if not path.startswith("kept/")]
                assert not left, (name, left)
                outcomes["one refused" if codes[1] else "both ended well"] += 1
            print(f"{name}: {dict(outcomes)}, the usual result each time", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, sys.argv[2:] or list(COMMANDS))
