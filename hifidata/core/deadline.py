"""A deadline for calls of libraries that know only a timeout between two bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TypeVar

Result = TypeVar("Result")


def in_daemon_thread(function: Callable[[], Result], name: str) -> Future[Result]:
    """Start ``function()`` in a daemon thread, and return its future. The end of the process does not wait for the thread.

    Args:
        function: the call.
        name: name of the thread.
    """
    outcome: Future[Result] = Future()
    outcome.set_running_or_notify_cancel()  # from here on, only the thread sets the outcome

    def work() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001  the future raises it again
            outcome.set_exception(error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return outcome


def call_in_time(function: Callable[[], Result], timeout_s: float) -> Result:
    """Return ``function()``, run in a daemon thread. A call that is late is abandoned: its thread goes on.

    Raises:
        TimeoutError: no result within ``timeout_s``.
    """
    outcome = in_daemon_thread(function, "call")
    try:
        return outcome.result(timeout_s)
    except FutureTimeoutError:
        if outcome.done():  # the function raised it
            raise
        raise TimeoutError(f"no result within {timeout_s:g} s") from None
