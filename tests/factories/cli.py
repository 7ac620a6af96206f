"""The command line in the process of the test. A process of its own takes seconds to start."""

from __future__ import annotations

import io
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from subprocess import CompletedProcess

from hifidata.cli.main import main


def hifidata(*arguments: object) -> CompletedProcess[str]:
    """Run ``hifidata`` with some arguments. Return its exit code, stdout and stderr."""
    words = ["hifidata", *map(str, arguments)]
    stdout, stderr = io.StringIO(), io.StringIO()
    argv, handler, code = sys.argv, signal.getsignal(signal.SIGTERM), 0
    sys.argv = words
    try:
        with redirect_stdout(stdout), redirect_stderr(stderr):
            main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.argv = argv
        signal.signal(signal.SIGTERM, handler)
    return CompletedProcess(words, code, stdout.getvalue(), stderr.getvalue())
