"""FLAME's 68 landmarks from shape, expression and pose, in NumPy, from the model's own files.

FLAME's licence allows no copies, so the user provides the files. They are Python 2 pickles with objects of packages that can
no longer be installed. The unpickler builds NumPy arrays, replaces objects of those packages by empty shells, and refuses all
others.

Source: Li et al., Learning a model of facial shape and expression from 4D scans, SIGGRAPH Asia 2017; landmark embedding and
the order of the basis (300 shape, then 100 expression directions) as in DECA. Of DECA's two landmark sets, this is the set that
is fixed on the face (``full_lmk``), not the set on the visible outline.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from hifidata.models.protocols import F32
from hifimodel.errors import LandmarkError, one_line
from hifimodel.landmarks.base import N_POINTS

F64 = NDArray[np.float64]
N_SHAPE, N_EXPRESSION = 100, 50
EXPRESSION_FROM = 300
N_JOINTS, JAW_JOINT = 5, 2  # root, neck, jaw, left eye, right eye
_NUMPY_ONLY = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"}
_PLAIN = {("copyreg", "_reconstructor"), ("copy_reg", "_reconstructor"), ("builtins", "object"), ("_codecs", "encode")}
_SHELLS = ("chumpy", "scipy", "torch", "collections")


class FlameLandmarks:
    """Linear blend skinning of the vertices of the 68 landmarks.

    Args:
        model: ``generic_model.pkl`` of FLAME 2020.
        embedding: DECA's ``landmark_embedding.npy``.

    Raises:
        LandmarkError: a file has other contents than its name says, or objects other than arrays.
    """

    def __init__(self, model: Path, embedding: Path) -> None:
        stored = _read(model, _load_pickle)
        marks = _read(embedding, _load_object_npy)
        faces = _array(stored, "f", model).astype(np.int64)
        faces_of_marks = _array(marks, "full_lmk_faces_idx", embedding).astype(np.int64).ravel()
        if len(faces_of_marks) != N_POINTS or not 0 <= faces_of_marks.min() <= faces_of_marks.max() < len(faces):
            raise LandmarkError(
                f"{embedding}: full_lmk_faces_idx names {len(faces_of_marks)} faces up to {faces_of_marks.max()}, "
                f"expected {N_POINTS} of the {len(faces)} faces of {model}; take both from their authors' pages"
            )
        corners = faces[faces_of_marks]  # (68, 3)
        self._weights_of_corners = _array(marks, "full_lmk_bary_coords", embedding).reshape(N_POINTS, 3)
        used, corners_in_used = np.unique(corners, return_inverse=True)
        self._corners = corners_in_used.reshape(N_POINTS, 3)

        directions = _array(stored, "shapedirs", model)  # (V, 3, 400)
        if directions.shape[2] < EXPRESSION_FROM + N_EXPRESSION:
            raise LandmarkError(f"{model}: shapedirs has {directions.shape[2]} directions, expected FLAME's 400")
        chosen = np.r_[:N_SHAPE, EXPRESSION_FROM : EXPRESSION_FROM + N_EXPRESSION]
        directions, template = directions[:, :, chosen], _array(stored, "v_template", model)
        regressor = _array(stored, "J_regressor", model)  # (5, V)
        self._joints = regressor @ template  # (5, 3)
        self._joint_directions = np.einsum("jv,vcd->jcd", regressor, directions)  # (5, 3, 150)
        self._template, self._directions = template[used], directions[used]  # (v, 3), (v, 3, 150)
        self._pose_directions = _array(stored, "posedirs", model)[used]  # (v, 3, 36)
        self._skinning = _array(stored, "weights", model)[used]  # (v, 5)
        parents = _array(stored, "kintree_table", model)[0].astype(np.int64)
        self._parents = [-1, *parents[1:].tolist()]
        if len(self._parents) != N_JOINTS or self._pose_directions.shape[2] != 9 * (N_JOINTS - 1):
            raise LandmarkError(f"{model}: {len(self._parents)} joints, expected FLAME's {N_JOINTS}")

    def points(self, shape: F32, expression: F32, pose: F32) -> F64:
        """Return (68, 3) landmarks in metres: x to the right of the image, y up, z towards the viewer.

        Args:
            shape: (100,).
            expression: (50,).
            pose: (6,) axis-angle of the whole head, then of the jaw; neck and eyes are not rotated.
        """
        betas = np.concatenate([shape, expression]).astype(np.float64)
        rotations = np.tile(np.eye(3), (N_JOINTS, 1, 1))
        rotations[0], rotations[JAW_JOINT] = axis_angle(pose[:3]), axis_angle(pose[3:])
        rest = self._template + self._directions @ betas  # (v, 3)
        rest = rest + self._pose_directions @ (rotations[1:] - np.eye(3)).ravel()
        bones = self._bones(rotations, self._joints + self._joint_directions @ betas)  # (5, 3, 4)
        blended = np.einsum("vj,jrc->vrc", self._skinning, bones)  # (v, 3, 4)
        posed = np.einsum("vrc,vc->vr", blended[:, :, :3], rest) + blended[:, :, 3]
        return np.asarray(np.einsum("lk,lkc->lc", self._weights_of_corners, posed[self._corners]))

    def _bones(self, rotations: F64, joints: F64) -> F64:
        """Return (5, 3, 4) transforms from the rest position to the pose, along the chain of joints."""
        placed = np.zeros((N_JOINTS, 4, 4))
        for joint, parent in enumerate(self._parents):
            step = np.eye(4)
            step[:3, :3] = rotations[joint]
            step[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
            placed[joint] = step if parent < 0 else placed[parent] @ step
        bones = placed[:, :3].copy()
        bones[:, :, 3] -= np.einsum("jrc,jc->jr", placed[:, :3, :3], joints)
        return np.asarray(bones)


def axis_angle(vector: NDArray[Any]) -> F64:
    """Return the (3, 3) rotation of a (3,) axis times angle in radians."""
    return np.asarray(cv2.Rodrigues(np.asarray(vector, np.float64).reshape(3, 1))[0])


class _Shell:
    """Replaces an object of a package that is not loaded: keeps its state, runs no code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state: Any = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _ArraysOnly(pickle.Unpickler):
    """Builds arrays and shells only; unpickling can otherwise call any function that a file names."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the object of a name in the file. Raises UnpicklingError for all but arrays and shells."""
        root = module.split(".")[0]
        if root == "numpy" and name in _NUMPY_ONLY:
            return super().find_class(module, name)
        if (module, name) in _PLAIN or (module, name) == ("__builtin__", "object"):
            return super().find_class(module, name)
        if root in _SHELLS:
            return _Shell
        raise pickle.UnpicklingError(f"it loads {module}.{name}, which no FLAME file needs")


def _load_pickle(file: BinaryIO) -> Any:
    return _ArraysOnly(file, encoding="latin1").load()


def _load_object_npy(file: BinaryIO) -> Any:
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    read_header(file)
    return _load_pickle(file)[()]


def _read(path: Path, load: Any) -> Mapping[str, Any]:
    try:
        with open(path, "rb") as file:
            stored = load(file)
    except FileNotFoundError:
        raise LandmarkError(
            f"{path} is missing; download the files of FLAME and DECA manually, see hifimodel/landmarks/deca.py"
        ) from None
    except (
        OSError,
        ValueError,
        EOFError,
        AttributeError,
        IndexError,
        KeyError,
        TypeError,
        pickle.UnpicklingError,
    ) as error:
        raise LandmarkError(f"{path}: not a FLAME file ({one_line(error)}); download it again") from error
    if not isinstance(stored, Mapping):
        raise LandmarkError(f"{path}: contains a {type(stored).__name__}, expected a dictionary of arrays")
    return stored


def _array(stored: Mapping[str, Any], name: str, path: Path) -> F64:
    """Return a member as a dense array, also from a chumpy or sparse shell."""
    if name not in stored:
        raise LandmarkError(f"{path}: has no {name}; use the file as its authors publish it")
    value = stored[name]
    if isinstance(value, _Shell):
        value = _dense(value.state) if "indptr" in value.state else value.state.get("x")
    array = np.asarray(value)
    if array.dtype == object:
        raise LandmarkError(f"{path}: {name} is not an array")
    return array.astype(np.float64)


def _dense(csc: Mapping[str, Any]) -> F64:
    """Convert a compressed-column matrix of SciPy to a dense array."""
    dense = np.zeros(csc.get("_shape", csc.get("shape")))
    columns = np.repeat(np.arange(dense.shape[1]), np.diff(csc["indptr"]))
    np.add.at(dense, (csc["indices"], columns), csc["data"])
    return dense
