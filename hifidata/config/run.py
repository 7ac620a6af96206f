"""Recipe sections of the run: output, model files, failure budget, worker groups, extensions and executor."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from hifidata.core.base_config import BaseConfig


class OutputConfig(BaseConfig):
    """Layout and encoding of the dataset."""

    layout: Literal["identity", "packed"] = Field(
        "identity", description="identity: one shard per identity. packed: shards with several complete identities"
    )
    max_shard_bytes: int = Field(1_000_000_000, gt=0, description="largest shard in bytes, for the packed layout")
    jpeg_quality: int = Field(95, ge=50, le=100, description="JPEG quality of the portraits")
    thumbnail_px: int = Field(160, ge=0, le=512, description="longer side of the report's thumbnails; 0: no thumbnails")


class WeightsConfig(BaseConfig):
    """Location of the model files. It has no effect on the dataset's content."""

    folder: str | None = Field(
        None,
        description="folder with model files, searched before the user's cache; hifidata never writes to it. null: the folder "
        "in HIFI_WEIGHTS",
    )
    download: bool = Field(
        False, description="true: download missing files before the run. false: refuse to start if a file is missing"
    )


class FailuresConfig(BaseConfig):
    """The failure budget. A run that exceeds it ends with exit code 3."""

    max_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="largest share of failed candidates, and largest share of kept images whose caption failed",
    )


class WorkerGroupConfig(BaseConfig):
    """A worker group: consecutive stages that share processes and resources."""

    name: str = Field(description="name of the group")
    stages: tuple[str, ...] = Field(
        min_length=1,
        description="stages in order of execution. An omitted stage joins the group of the stage before it",
    )
    num_cpus: float = Field(1, ge=0, description="CPUs per worker; fractions are allowed")
    num_gpus: float = Field(0, ge=0, description="GPUs per worker; fractions are allowed")
    min_workers: int = Field(1, ge=1, description="smallest number of workers; the run does not start with fewer")
    max_workers: int | None = Field(
        None, ge=1, description="largest number of workers; null: limited only by the free CPUs and GPUs"
    )
    runtime_env: dict[str, Any] = Field(
        default_factory=dict, description="Ray runtime_env, for a group that needs its own Python packages"
    )


class StageUseConfig(BaseConfig):
    """A stage of another package. The section with the stage's name holds its settings."""

    after: str = Field(description="name of the preceding stage")
    use: str = Field(description="package.module:Class, or an entry point of the group hifidata.stages")


class ExtensionConfig(BaseConfig):
    """Origin of a stage or model of another package. It is part of the recipe's hash."""

    path: str = Field(description="package.module:Class")
    package: str = Field(description="installed package that contains the class")
    version: str = Field(description="version of the package")
    files: dict[str, str] = Field(default_factory=dict, description="sha256 of each model file, by file name")


class ExecutorConfig(BaseConfig):
    """Executor of the stages. It has no effect on the dataset's content."""

    kind: Literal["ray", "local"] = Field("ray", description="ray: Ray Data. local: one process, for debugging")
    workers: int | None = Field(None, ge=1, description="largest number of workers of each group; null: no limit")
    use_gpus: bool = Field(True, description="false: the groups run without GPUs, even if num_gpus is set")
    object_store_bytes: int = Field(
        300_000_000, ge=80_000_000, description="size of Ray's object store, if the run starts Ray itself"
    )
