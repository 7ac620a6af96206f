"""Lists the files of a Hugging Face repository through ``huggingface_hub``; ``http.fetch`` downloads them.

The package's own download starts again after a kill, checks no hash, and needs a mirror that sends the Hub's headers.
"""

from __future__ import annotations

import time
from fnmatch import fnmatch
from functools import partial
from pathlib import PurePosixPath

import httpx2
from huggingface_hub import HfApi, ModelInfo
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from hifidata.core.deadline import call_in_time
from hifidata.core.errors import WeightsError
from hifidata.core.retry import backoff_s
from hifidata.weights.catalogue import HUB, FileState, Hub
from hifidata.weights.http import ALTERNATIVES, RETRIED_STATUSES, DownloadLimits, mirrored

Listing = tuple[str, dict[str, "FileState | None"]]
"""A commit and the states of its files by path; None where the Hub publishes no sha256 (those of small files)."""


def list_files(hub: Hub, revision: str, limits: DownloadLimits) -> Listing:
    """Ask the Hub, or its mirror, for the files of a repository.

    Args:
        hub: the repository and the patterns of the files to list.
        revision: commit or branch.
        limits: timeouts and tries.

    Raises:
        WeightsError: no usable answer. One line.
    """
    endpoint = mirrored(HUB)
    api = HfApi(endpoint=endpoint, token=False, headers={"user-agent": "hifidata"})  # the user's token stays here
    problem = ""
    for n_failures in range(limits.tries):
        if n_failures:
            time.sleep(backoff_s(limits.backoff_s, n_failures, limits.max_wait_s))
        try:
            ask = partial(api.model_info, hub.repo, revision=revision, files_metadata=True, timeout=limits.timeout_s)
            return _wanted(call_in_time(ask, limits.grace_s), hub)
        except TimeoutError:
            problem = f"no complete answer within {limits.grace_s:g} s"
            break
        except HfHubHTTPError as error:
            problem = f"the server answered {error.response.status_code} {error.response.reason_phrase}"
            if error.response.status_code not in RETRIED_STATUSES:
                break
        except (OfflineModeIsEnabled, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            problem = str(error)
            break
        except httpx2.RequestError as error:
            problem = f"no connection ({type(error).__name__})"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"the answer is not a list of a repository's files ({type(error).__name__}: {error})"
            break
    raise WeightsError(f"{endpoint}/{hub.repo}: {problem}; {ALTERNATIVES}")


def _wanted(info: ModelInfo, hub: Hub) -> Listing:
    """Return the files that fit the patterns. Raises ValueError where there are none."""
    siblings = info.siblings or []
    files = {
        file.rfilename: FileState(file.lfs.size, file.lfs.sha256) if file.lfs else None
        for file in siblings
        if any(fnmatch(file.rfilename, pattern) for pattern in hub.patterns) and _is_inside(file.rfilename)
    }
    if not files or not info.sha:
        raise ValueError(f"none of {len(siblings)} files fits {', '.join(hub.patterns)}")
    return info.sha, files


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
