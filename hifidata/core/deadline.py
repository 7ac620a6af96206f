"""A deadline for calls of libraries that know only a timeout between two bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TypeVar

Result = TypeVar("Result")


def call_in_time(function: Callable[[], Result], timeout_s: float) -> Result:
    """Return ``function()``, run in a daemon thread. A call that is late is abandoned: its thread goes on.

    Raises:
        TimeoutError: no result within ``timeout_s``.
    """
    outcome: Future[Result] = Future()

    def work() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001  raised again by result()
            outcome.set_exception(error)

    threading.Thread(target=work, name="call", daemon=True).start()
    try:
        return outcome.result(timeout_s)
    except FutureTimeoutError:
        if outcome.done():  # the function raised it
            raise
        raise TimeoutError(f"no result within {timeout_s:g} s") from None
